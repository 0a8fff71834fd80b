//! The page about the configuration file, read off the file that is put in place with every key explained.

use clap_mangen::roff::{Roff, bold, roman};

use super::MANUAL;

/// The configuration with every key, its default, and what it means.
const DEFAULTS: &str = include_str!("../../../data/synhold.toml");

/// `synhold.toml(5)`.
pub(super) fn page(date: &str, source: &str) -> Vec<u8> {
    let mut page = Roff::default();
    page.control("TH", ["synhold.toml", "5", date, source, MANUAL]);
    page.control("SH", ["NAME"]);
    page.text([roman("synhold.toml - configuration of the synhold egress firewall")]);
    page.control("SH", ["SYNOPSIS"]);
    page.text([bold("/etc/synhold/synhold.toml")]);
    let (introduction, blocks) = blocks();
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(introduction)]);
    page.control("SH", ["KEYS"]);
    for block in &blocks {
        block.write(&mut page);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("synhold"), roman("(8), "), bold("synhold-run"), roman("(8)")]);
    page.render().into_bytes()
}

/// Keys that belong together, and what is said about them.
#[derive(Debug, Default)]
struct Block {
    text: String,
    /// Without the sign that makes them comments.
    keys: Vec<&'static str>,
}

/// What is said at the top, and the rest by paragraphs.
fn blocks() -> (String, Vec<Block>) {
    let mut paragraphs = DEFAULTS.split("\n\n").map(Block::read);
    let introduction = paragraphs.next().unwrap_or_default().text;
    (introduction, paragraphs.collect())
}

impl Block {
    fn read(paragraph: &'static str) -> Block {
        let mut block = Block::default();
        for line in paragraph.lines().filter_map(|line| line.strip_prefix('#')) {
            match line.strip_prefix(' ') {
                Some(text) if block.text.is_empty() => text.clone_into(&mut block.text),
                Some(text) => block.text.extend([" ", text]),
                None => block.keys.push(line),
            }
        }
        block
    }

    fn write(&self, page: &mut Roff) {
        for (place, key) in self.keys.iter().enumerate() {
            page.control(if place == 0 { "TP" } else { "TQ" }, []);
            page.text([bold(*key)]);
        }
        page.text([roman(self.text.as_str())]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_file_is_in_a_block_with_a_text() {
        let (introduction, blocks) = blocks();
        assert!(introduction.contains("/etc/synhold/synhold.toml"), "{introduction}");
        let keys = blocks.iter().flat_map(|block| &block.keys).count();
        let lines = DEFAULTS.lines().filter(|line| {
            line.strip_prefix('#').is_some_and(|rest| !rest.is_empty() && !rest.starts_with(' '))
        });
        assert_eq!(keys, lines.count());
        for block in blocks {
            assert!(!block.text.is_empty() && !block.keys.is_empty(), "{block:?}");
        }
    }
}
