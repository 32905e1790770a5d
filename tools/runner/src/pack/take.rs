//! Embeddings by name, out of a pack.

use std::path::Path;

use cliptext::Pack;
use cliptext::pack::NAME;

use crate::encode::{Encodes, Take};
use crate::failure::{Failure, Outcome, work};
use crate::output::{About, Kept, Options};
use crate::prompts::shown;

/// A pack in the place of a plan: names in the place of prompts.
pub(crate) struct FromPack<'p> {
    name: String,
    pack: Pack<'p>,
    /// Of its first entry.
    options: &'p str,
}

impl<'p> FromPack<'p> {
    /// The pack at `path`.
    pub(crate) fn load(path: &Path, bytes: &'p [u8]) -> Outcome<Self> {
        let name = path.display().to_string();
        let pack = Pack::load(bytes).map_err(|error| work(&name, error))?;
        Ok(Self { name, pack, options: pack.entry(0).map_or("", |entry| entry.options()) })
    }

    /// What outputs tell of its embeddings.
    pub(crate) fn about(&self) -> About {
        About { plan: self.pack.manifest().plan_hash(), options: Options::of_text(self.options) }
    }

    fn find(&self, name: &str, is_negative: bool) -> Outcome<Kept> {
        let failed = |error: &dyn std::fmt::Display| work(&self.name, error);
        let entry = self.pack.find(name).ok_or_else(|| failed(&self.none(name)))?;
        if entry.options() != self.options {
            let same_prompt =
                "was encoded with other options than the first entry, and outputs tell them once";
            return Err(failed(&format_args!("{name:?} {same_prompt}: make a pack for each")));
        }
        Ok(Kept::of_entry(&entry, self.pack.width()).with_role(is_negative))
    }

    /// That there is no such name, and the one that may be meant.
    fn none(&self, name: &str) -> String {
        let length = name.chars().count();
        // A name this far off in length alone is not meant, whatever stands in it; and none is longer than a pack's names are.
        let is_near = |other: &&str| length <= NAME && other.chars().count().abs_diff(length) <= length / 3;
        let near = self.pack.entries().map(|entry| entry.name()).filter(is_near);
        let nearest = near.map(|other| (strsim::osa_distance(name, other), other)).min();
        let meant = nearest.filter(|(distance, _)| *distance <= length / 3);
        let meant = meant.map_or_else(String::new, |(_, name)| format!(" (is {name:?} meant?)"));
        format!("the pack has no {}{meant}; `cliptext-run inspect` lists what it has", shown(name))
    }
}

impl Encodes for FromPack<'_> {
    fn encode(&mut self, texts: &[&str], take: &mut Take<'_>) -> Outcome {
        let found = texts.iter().enumerate().map(|(index, name)| self.find(name, index > 0));
        let found = found.collect::<Result<Vec<_>, Failure>>()?;
        take(&found.iter().map(Kept::encoded).collect::<Vec<_>>())
    }
}
