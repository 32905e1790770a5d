//! `--cache`: embeddings that were computed before, from a folder of files.
//!
//! An entry is a [pack](cliptext::pack) of one embedding. Its name is a hash of all that the embedding depends on, and all of
//! that stands in it and is compared, so an answer is what computing would give.

mod folder;
mod size;

use std::path::PathBuf;

use clap::Args;
use cliptext::pack::{Dtype, NewEntry, Pack, PackManifest, PackWriter, TEXT};
use cliptext::{AlignedBytes, PlanHash, Program};
use sha2::{Digest, Sha256};

use crate::failure::{Failure, Outcome};
use crate::output::{Encoded, Kept};
use folder::Folder;
use size::Size;

/// The program that an entry is of: another version may read a prompt otherwise.
const PRODUCER: &str = concat!("cliptext ", env!("CARGO_PKG_VERSION"));

/// The name of the embedding in an entry.
const NAME: &str = "cached";

#[derive(Args)]
pub(crate) struct CacheArgs {
    /// Keep embeddings in the folder DIR, and answer a prompt that is there without loading the plan; DIR is made where there is
    /// none
    #[arg(long, value_name = "DIR", conflicts_with = "labels")]
    cache: Option<PathBuf>,
    /// The most bytes that the cache takes, with K, M or G for powers of 1024; those that were not used for longest go first
    /// [default: 256M]
    #[arg(long, value_name = "SIZE", requires = "cache")]
    cache_size: Option<Size>,
}

impl CacheArgs {
    pub(crate) fn is_given(&self) -> bool {
        self.cache.is_some()
    }
}

/// The embeddings of one plan and its options in a folder.
///
/// A folder that fails is told of once; the work goes on without it.
pub(crate) struct Cache {
    folder: Option<Folder>,
    plan: PlanHash,
    /// The model, for entries that are made.
    source: String,
    options: String,
}

impl Cache {
    /// Of embeddings by `plan` with `options`.
    pub(crate) fn open(args: &CacheArgs, plan: PlanHash, options: String) -> Self {
        let limit = args.cache_size.unwrap_or_default();
        let folder = args.cache.as_deref().and_then(|path| match Folder::open(path, limit.0) {
            Ok(folder) => Some(folder),
            Err(error) => {
                cliptext_files::to_stderr!(
                    "cliptext-run: --cache {}: {error}: going on without it",
                    path.display()
                );
                None
            }
        });
        Self { folder, plan, source: String::new(), options }
    }

    /// The plan was loaded.
    ///
    /// # Errors
    /// When it is another than the cache was opened for: its file was replaced meanwhile.
    pub(crate) fn is_of(&mut self, plan: &Program<'_>) -> Outcome {
        if plan.hash() != self.plan {
            return Err(Failure::Work(
                "the plan was replaced by another while it was used: run it again".into(),
            ));
        }
        plan.manifest().source.clone_into(&mut self.source);
        Ok(())
    }

    /// The embeddings of all texts, the second one of a negative prompt; `None` where one is not there.
    pub(crate) fn find_all(&mut self, texts: &[&str]) -> Option<Vec<Kept>> {
        texts.iter().enumerate().map(|(index, text)| Some(self.find(text)?.with_role(index > 0))).collect()
    }

    /// The embedding of a text. An entry that is damaged, or none of it, is told of and goes.
    pub(crate) fn find(&mut self, text: &str) -> Option<Kept> {
        let name = self.name(text);
        let bytes = self.folder.as_ref()?.read(&name);
        match bytes.and_then(|bytes| bytes.map(|bytes| self.read(&bytes, text)).transpose()) {
            Ok(found) => {
                if found.is_some() {
                    self.folder.as_ref()?.touch(&name);
                }
                found
            }
            Err(error) => {
                let folder = self.folder.as_ref()?;
                cliptext_files::to_stderr!(
                    "cliptext-run: {}: {error}: the prompt is encoded again",
                    folder.path(&name).display()
                );
                folder.remove(&name);
                None
            }
        }
    }

    /// The embedding in an entry, which must be of `text`.
    fn read(&self, bytes: &AlignedBytes, text: &str) -> std::io::Result<Kept> {
        let pack = Pack::load(bytes).map_err(std::io::Error::other)?;
        let manifest = pack.manifest();
        let is_mine = manifest.producer == PRODUCER
            && manifest.plan_hash() == self.plan
            && manifest.dtype == Dtype::F32;
        let entry = pack.entry(0).filter(|entry| {
            is_mine && pack.len() == 1 && entry.prompt() == text && entry.options() == self.options
        });
        let entry = entry.ok_or_else(|| std::io::Error::other("it is of another prompt or plan"))?;
        Ok(Kept::of_entry(&entry, pack.width()))
    }

    /// Keeps the embedding of a text, by the plan that was loaded.
    pub(crate) fn keep(&mut self, encoded: &Encoded<'_>) {
        let name = self.name(encoded.text);
        let Some(folder) = &mut self.folder else { return };
        let manifest = PackManifest {
            producer: PRODUCER,
            source: &self.source[..self.source.floor_char_boundary(TEXT)],
            plan: *self.plan.bytes(),
            width: encoded.width as u32,
            pooled: encoded.pooled.map_or(0, |values| values.len() as u32),
            dtype: Dtype::F32,
        };
        let entry = NewEntry {
            name: NAME,
            prompt: encoded.text,
            options: &self.options,
            tokens: encoded.ids.len() as u32,
            dropped: encoded.dropped.map(|(from, to)| from..to),
        };
        let kept = folder.add(&name, |file| {
            let mut writer = PackWriter::new(file, manifest, &[entry])?;
            writer.write(encoded.ids, encoded.hidden, encoded.pooled)?;
            Ok(writer.finish().map(drop)?)
        });
        if let Err(error) = kept {
            cliptext_files::to_stderr!(
                "cliptext-run: --cache {}: {error}: going on without it",
                folder.shown()
            );
            self.folder = None;
        }
    }

    /// The name of the entry for a text: the SHA-256 of all that decides the embedding, each part behind its length.
    fn name(&self, text: &str) -> String {
        let mut hash = Sha256::new();
        for part in [PRODUCER.as_bytes(), self.plan.bytes(), self.options.as_bytes(), text.as_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        folder::name_of(&hash.finalize().into())
    }
}
