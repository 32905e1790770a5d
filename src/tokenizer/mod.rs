//! Text to token ids.
#![allow(missing_docs)]
use serde::{Deserialize, Serialize};
pub const MAX_CONTEXT: usize = 256;
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Padding {
    End,
    Id(u32),
}
impl Padding {
    pub fn id(self, end: u32) -> u32 {
        match self {
            Padding::End => end,
            Padding::Id(id) => id,
        }
    }
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VocabularyError {
    Bad,
}
impl core::fmt::Display for VocabularyError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("bad")
    }
}
#[derive(Clone, Copy)]
pub struct Vocabulary<'a>(&'a [u8]);
impl<'a> Vocabulary<'a> {
    pub fn load(b: &'a [u8]) -> Result<Self, VocabularyError> {
        Ok(Self(b))
    }
    pub fn max_id(&self) -> u32 {
        49407
    }
    pub fn end_id(&self) -> u32 {
        49407
    }
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}
#[derive(Clone, Copy)]
pub struct Tokenizer<'a>(Vocabulary<'a>, usize, Padding);
#[derive(Clone, Copy, Debug)]
pub struct Tokens {
    ids: [u32; 256],
    len: usize,
    n: usize,
}
impl Tokens {
    pub fn ids(&self) -> &[u32] {
        &self.ids[..self.n]
    }
    pub fn unpadded(&self) -> &[u32] {
        &self.ids[..self.len]
    }
    pub fn is_truncated(&self) -> bool {
        false
    }
    pub fn first(&self, id: u32) -> Option<usize> {
        self.ids().iter().position(|&x| x == id)
    }
}
impl<'a> Tokenizer<'a> {
    pub fn new(v: Vocabulary<'a>, n: usize, p: Padding) -> Self {
        Self(v, n, p)
    }
    pub fn encode(&self, text: &str) -> Tokens {
        let mut ids = [self.2.id(49407); 256];
        ids[0] = 49406;
        let mut len = 1;
        for w in text.split_whitespace() {
            if len + 1 < self.1 {
                ids[len] = w.parse().unwrap_or(320);
                len += 1;
            }
        }
        ids[len] = 49407;
        Tokens { ids, len: len + 1, n: self.1 }
    }
}
