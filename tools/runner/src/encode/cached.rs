//! Embeddings from the cache, or computed and kept there.

use super::engine::{Encodes, Take};
use crate::cache::Cache;
use crate::failure::Outcome;
use crate::output::{Encoded, Kept};

/// An engine that is asked for what the cache does not have.
pub(super) struct Cached<'c> {
    pub(super) cache: &'c mut Cache,
    pub(super) engine: &'c mut dyn Encodes,
}

impl Encodes for Cached<'_> {
    fn encode(&mut self, texts: &[&str], take: &mut Take<'_>) -> Outcome {
        let found: Vec<Option<Kept>> = texts
            .iter()
            .enumerate()
            .map(|(index, text)| Some(self.cache.find(text)?.with_role(index > 0)))
            .collect();
        let missing: Vec<&str> =
            texts.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(text, _)| *text).collect();
        let cache = &mut self.cache;
        if missing.len() == texts.len() {
            return self.engine.encode(texts, &mut |all| {
                all.iter().for_each(|encoded| cache.keep(encoded));
                take(all)
            });
        }
        // Both in one pass give the same bits as each by itself.
        let mut computed = Vec::new();
        if !missing.is_empty() {
            self.engine.encode(&missing, &mut |all| {
                all.iter().for_each(|encoded| cache.keep(encoded));
                computed.extend(all.iter().map(Kept::of));
                Ok(())
            })?;
        }
        let mut computed = computed.into_iter();
        let both: Vec<Kept> = found
            .into_iter()
            .enumerate()
            .filter_map(|(index, found)| found.or_else(|| Some(computed.next()?.with_role(index > 0))))
            .collect();
        take(&both.iter().map(Kept::encoded).collect::<Vec<Encoded<'_>>>())
    }
}
