//! Reports: blocked addresses as CSV, everything as a page, and what others publish about addresses.

pub mod lookup;
pub mod page;
pub mod row;

use crate::engine::text::harmless;

/// Text of strangers as one line of at most so many characters.
fn plain(text: &str, chars_max: usize) -> String {
    text.trim().chars().take(chars_max).map(harmless).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_answer_of_strangers_is_one_line_in_its_order() {
        assert_eq!(super::plain(" a\u{202e}b\u{2028}cdef", 5), "a b c");
    }
}
