//! A file's keys, sorted by what they are: every one is merged, told, or refused.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

use super::layout::{AlphaIn, Encoder, Key, Module, Network, Part, TextKey};
use crate::tensors::Tensors;

/// The tensors of one module's change.
pub struct Found {
    /// The module as the file calls it.
    pub name: String,
    /// Where its alpha is, if it has no tensor.
    pub alpha_in: AlphaIn,
    /// The keys of its parts.
    pub parts: BTreeMap<Part, String>,
}

/// All keys of a file.
#[derive(Default)]
pub struct Keys {
    /// Changes of a text encoder's modules.
    pub modules: BTreeMap<(Encoder, Module), Found>,
    /// Of each word: the tensors' names in the word's own file, and their keys.
    pub words: BTreeMap<String, Vec<(String, String)>>,
    /// Keys of a word's vectors without its name.
    pub nameless: Vec<String>,
    /// Where alphas may be.
    pub alphas: BTreeSet<AlphaIn>,
    /// How many keys other networks have.
    pub others: BTreeMap<Network, usize>,
    /// Keys of a text encoder that are not understood.
    pub unread: Vec<String>,
}

impl Keys {
    /// Sorts the names of `tensors`.
    ///
    /// # Errors
    /// When a text encoder is adapted in another way, or a part of a module is there twice.
    pub fn of(tensors: &Tensors) -> Result<Self> {
        let mut keys = Keys::default();
        for name in tensors.names() {
            match Key::of(name) {
                Key::Text(key) => keys.add(name, key)?,
                Key::Word(word, tensor) => {
                    keys.words.entry(word.to_owned()).or_default().push((tensor.to_owned(), name.to_owned()));
                }
                Key::NamelessWord => keys.nameless.push(name.to_owned()),
                Key::Other(network) => *keys.others.entry(network).or_default() += 1,
                Key::Unknown => keys.unread.push(name.to_owned()),
            }
        }
        Ok(keys)
    }

    /// Adds the key of a text encoder that has the whole name `name`.
    fn add(&mut self, name: &str, key: TextKey<'_>) -> Result<()> {
        self.alphas.insert(key.alpha_in);
        if let Some(method) = key.other_method() {
            bail!(
                "{name}: the layer is adapted by {method}, which cliptext does not merge; merge it into the text encoder with the \
                 program that made it, or extract a LoRA from it"
            );
        }
        let split = key.split().and_then(|(module, part)| Some((module, Module::of(module)?, part)));
        let Some((module_name, module, part)) = split else {
            self.unread.push(name.to_owned());
            return Ok(());
        };
        let found = self.modules.entry((key.encoder, module)).or_insert_with(|| Found {
            name: module_name.to_owned(),
            alpha_in: key.alpha_in,
            parts: BTreeMap::new(),
        });
        match found.parts.entry(part) {
            Entry::Vacant(entry) => {
                entry.insert(name.to_owned());
                Ok(())
            }
            Entry::Occupied(other) => {
                bail!("{} and {name} are of the same layer: the file is two LoRAs in one", other.get())
            }
        }
    }
}
