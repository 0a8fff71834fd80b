//! Reports: blocked addresses as CSV, everything as a page, and what others publish about addresses.

pub mod lookup;
pub mod page;
pub mod row;

/// Text of strangers as one line of at most so many characters.
fn plain(text: &str, chars_max: usize) -> String {
    let one = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(chars_max).map(one).collect()
}
