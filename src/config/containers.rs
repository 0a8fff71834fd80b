//! `[[container]]` sections: what the operator sets for some containers.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::engine::policy::{Pattern, Section};
use crate::engine::wish::{Treatment, Wish};

/// One section as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ContainerSection {
    name: Option<String>,
    image: Option<String>,
    mode: Option<String>,
    scope: Option<String>,
    refuse: Option<String>,
    hold_ms: Option<u64>,
    #[serde(default)]
    allow: Vec<String>,
}

impl ContainerSection {
    /// All sections in the order of the file.
    ///
    /// # Errors
    /// In one line, naming the section by its number: a value that cannot be, or a section that fits nobody.
    pub fn all(written: Vec<ContainerSection>) -> Result<Vec<Section>> {
        let numbered = written.into_iter().enumerate();
        let section = |(place, written): (usize, ContainerSection)| {
            let number = place + 1;
            written.section(number).with_context(|| format!("[[container]] number {number}"))
        };
        numbered.map(section).collect()
    }

    fn section(self, number: usize) -> Result<Section> {
        ensure!(
            self.name.is_some() || self.image.is_some(),
            "it needs `name` or `image`: a pattern with * for any text, as name = \"web-*\""
        );
        let is_empty = |pattern: &Option<String>| pattern.as_deref() == Some("");
        ensure!(!is_empty(&self.name) && !is_empty(&self.image), "an empty pattern fits nobody");
        let mut wish = Wish::default();
        let keys = [
            ("mode", self.mode),
            ("scope", self.scope),
            ("refuse", self.refuse),
            ("hold-ms", self.hold_ms.map(|ms| ms.to_string())),
            ("allow", (!self.allow.is_empty()).then(|| self.allow.join(","))),
        ];
        for (key, value) in keys {
            if let Some(value) = value {
                wish.set(key, &value).with_context(|| format!("key {key:?}"))?;
            }
        }
        let (name, image) = (self.name.map(Pattern::new), self.image.map(Pattern::new));
        let origin = format!("[[container]] number {number}");
        Ok(Section { name, image, wish, origin, is_final: false })
    }
}

/// What holds for a container whose log is evidence: whatever it asks its own servers by, it is never cut off from them,
/// since nobody could resolve a name then.
pub(super) fn resolver(name: &str) -> Section {
    Section {
        name: Some(Pattern::new(name)),
        wish: Wish { mode: Some(Treatment::Off), ..Wish::default() },
        origin: format!("--dns-source docker:{name}"),
        is_final: true,
        ..Section::default()
    }
}
