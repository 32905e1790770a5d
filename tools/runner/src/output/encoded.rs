//! What outputs take.

use std::fmt;

use cliptext::PackEntry;
use cliptext::plan::PlanHash;

/// A prompt and what it became.
#[derive(Clone, Copy)]
pub(crate) struct Encoded<'e> {
    pub(crate) text: &'e str,
    pub(crate) is_negative: bool,
    /// An id for each row, as the first text tower takes them.
    pub(crate) ids: &'e [u32],
    /// `[tokens, width]`
    pub(crate) hidden: &'e [f32],
    pub(crate) width: usize,
    /// `[columns]`
    pub(crate) pooled: Option<&'e [f32]>,
    /// The bytes of the text that did not fit, from and to.
    pub(crate) dropped: Option<(usize, usize)>,
}

impl Encoded<'_> {
    /// Rows of the hidden states.
    pub(crate) fn tokens(&self) -> usize {
        self.hidden.len() / self.width
    }
}

/// An [`Encoded`] that outlives the pass.
pub(crate) struct Kept {
    text: String,
    is_negative: bool,
    ids: Vec<u32>,
    hidden: Vec<f32>,
    width: usize,
    pooled: Option<Vec<f32>>,
    dropped: Option<(usize, usize)>,
}

impl Kept {
    pub(crate) fn of(encoded: &Encoded<'_>) -> Self {
        Self {
            text: encoded.text.to_owned(),
            is_negative: encoded.is_negative,
            ids: encoded.ids.to_vec(),
            hidden: encoded.hidden.to_vec(),
            width: encoded.width,
            pooled: encoded.pooled.map(<[f32]>::to_vec),
            dropped: encoded.dropped,
        }
    }

    /// An entry of a pack, as single precision.
    pub(crate) fn of_entry(entry: &PackEntry<'_>, width: usize) -> Self {
        Self {
            text: entry.prompt().to_owned(),
            is_negative: false,
            ids: entry.ids().to_vec(),
            hidden: entry.hidden().iter().collect(),
            width,
            pooled: entry.pooled().map(|values| values.iter().collect()),
            dropped: entry.dropped().map(|range| (range.start, range.end)),
        }
    }

    /// The same as the negative prompt, or as a prompt.
    pub(crate) fn with_role(self, is_negative: bool) -> Self {
        Self { is_negative, ..self }
    }

    pub(crate) fn encoded(&self) -> Encoded<'_> {
        Encoded {
            text: &self.text,
            is_negative: self.is_negative,
            ids: &self.ids,
            hidden: &self.hidden,
            width: self.width,
            pooled: self.pooled.as_deref(),
            dropped: self.dropped,
        }
    }
}

/// What is true of all embeddings of a run: formats with room for it say so.
#[derive(Clone)]
pub(crate) struct About {
    pub(crate) plan: PlanHash,
    /// Options that change values or shapes.
    pub(crate) options: Options,
}

/// Options that change values or shapes, by name: `no_pad` is `true`. As text `no_pad=true weights=a1111`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options(pub(crate) Vec<(String, String)>);

impl Options {
    /// Reads the text of options; of a text that is none, the whole is the value of `options`.
    pub(crate) fn of_text(text: &str) -> Self {
        let pairs: Option<Vec<_>> = text
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(|word| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
            .collect();
        Self(pairs.unwrap_or_else(|| vec![("options".into(), text.to_owned())]))
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            write!(f, "{}{name}={value}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

impl About {
    /// The version of this program.
    pub(crate) const VERSION: &'static str = env!("CARGO_PKG_VERSION");
}
