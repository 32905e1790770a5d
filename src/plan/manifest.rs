//! What a plan says of itself.

use super::place::Place;
use super::record::{PLACE_WORDS, place, place_words, value, word};
use crate::kernels::layout::Packing;

/// Bytes of the manifest section.
pub const MANIFEST: usize = 4 * WORDS + 2 * TEXT;

/// Bytes that a text of the manifest takes at the most.
pub const TEXT: usize = 64;

/// Words before the texts.
const WORDS: usize = 16;
const CONTEXT: usize = 0;
const PACKING: usize = 1;
const ARENA: usize = 2;
const LOGIT_SCALE: usize = 3;
const HIDDEN: usize = 4;
const POOLED: usize = HIDDEN + PLACE_WORDS;
const RESERVED: usize = POOLED + PLACE_WORDS;

/// What a plan says of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Manifest<'a> {
    /// The program that made it; at most [`TEXT`] bytes, as `source`.
    pub producer: &'a str,
    /// The model that it was made from.
    pub source: &'a str,
    /// Tokens of a text, start and end token and padding included.
    pub context: u16,
    /// How the linear steps' weights are packed.
    pub packing: Packing,
    /// Bytes of arena for one sequence.
    pub arena_bytes: u32,
    /// The hidden states, one row per token.
    pub hidden: Place,
    /// The pooled output, one row per sequence.
    pub pooled: Option<Place>,
    /// What CLIP multiplies cosines between texts and images with before the softmax: `exp` of the trained parameter,
    /// 100 in the published models. `None` where the model's files do not say.
    pub logit_scale: Option<f32>,
}

impl<'a> Manifest<'a> {
    /// Its section. What is too long of a text is cut off.
    pub fn section(&self) -> [u8; MANIFEST] {
        let mut words = [0; WORDS];
        words[CONTEXT] = self.context.into();
        words[PACKING] = word(&Packing::ALL, &self.packing);
        words[ARENA] = self.arena_bytes;
        // A logit scale is positive, so zeros are free to say that there is none.
        words[LOGIT_SCALE] = self.logit_scale.map_or(0, f32::to_bits);
        words[HIDDEN..POOLED].copy_from_slice(&place_words(Some(self.hidden)));
        words[POOLED..RESERVED].copy_from_slice(&place_words(self.pooled));
        let mut section = [0; MANIFEST];
        let (fields, texts) = section.split_at_mut(4 * WORDS);
        fields.copy_from_slice(bytemuck::cast_slice(&words));
        for (room, text) in texts.chunks_exact_mut(TEXT).zip([self.producer, self.source]) {
            let length = text.floor_char_boundary(TEXT);
            room[..length].copy_from_slice(&text.as_bytes()[..length]);
        }
        section
    }

    /// Reads its section, which starts at a multiple of 4; `None` where it is none.
    pub(super) fn of_section(section: &'a [u8]) -> Option<Self> {
        let section: &[u8; MANIFEST] = section.try_into().ok()?;
        let (fields, texts) = section.split_at(4 * WORDS);
        let words: &[u32] = bytemuck::try_cast_slice(fields).ok()?;
        let (producer, source) = texts.split_at(TEXT);
        let place_at = |at: usize| place(words[at..at + PLACE_WORDS].try_into().ok()?);
        let logit_scale = words[LOGIT_SCALE];
        let manifest = Manifest {
            producer: text(producer)?,
            source: text(source)?,
            context: words[CONTEXT] as u16,
            packing: value(&Packing::ALL, words[PACKING])?,
            arena_bytes: words[ARENA],
            hidden: place_at(HIDDEN)??,
            pooled: place_at(POOLED)?,
            logit_scale: (logit_scale != 0).then(|| f32::from_bits(logit_scale)),
        };
        (manifest.section() == *section).then_some(manifest)
    }
}

/// The text in front of the zeros.
fn text(room: &[u8]) -> Option<&str> {
    let end = room.iter().position(|&byte| byte == 0).unwrap_or(room.len());
    core::str::from_utf8(room.get(..end)?).ok()
}
