//! All that a verification tells: of a text encoder's plan, of an image encoder's, and of both together.

use std::fmt;

use serde::Serialize;

use crate::verify::compare::Quality;
use crate::verify::decibels::Decibels;
use crate::verify::image::ImageVerification;
use crate::verify::pairs::PairFigures;
use crate::verify::ranking::Ranked;
use crate::verify::verification::Verification;

/// Plans beside the f32 model that they were made from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// The text encoder's.
    #[serde(flatten)]
    pub texts: Option<Verification>,
    /// The image encoder's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<ImageVerification>,
    /// Both on pictures and texts that belong together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs: Option<PairFigures>,
}

/// A text encoder's rows.
const HIDDEN: &str = "the hidden states";

/// What comes of pictures.
const EMBEDDINGS: &str = "the images' embeddings";

impl Verified {
    /// The SQNR of each output that was measured, with its name.
    pub fn outputs(&self) -> impl Iterator<Item = (&'static str, Decibels)> {
        let texts = self.texts.as_ref().map(|texts| &texts.figures);
        [
            (HIDDEN, texts.map(|figures| figures.hidden)),
            ("the pooled output", texts.and_then(|figures| figures.pooled)),
            ("the images' hidden states", self.images.as_ref().map(|images| images.hidden)),
            (EMBEDDINGS, self.images.as_ref().map(|images| images.embedding)),
            ("the texts' embeddings", self.pairs.as_ref().map(|pairs| pairs.texts.embedding)),
        ]
        .into_iter()
        .filter_map(|(what, quality)| Some((what, quality?.sqnr_db)))
    }
}

impl Verified {
    /// The SQNR that a plan is judged by, with what it is of: texts by all their rows, which a UNet reads, images by their embeddings.
    pub fn deciding(&self) -> impl Iterator<Item = (&'static str, Decibels)> {
        self.outputs().filter(|(what, _)| [HIDDEN, EMBEDDINGS].contains(what))
    }
}

impl PairFigures {
    /// What was ranked, with its names.
    pub fn ranked(&self) -> impl Iterator<Item = (&'static str, &'static str, &Ranked)> {
        let retrieval =
            [("image → text", "R@", &self.image_to_text), ("text → image", "R@", &self.text_to_image)];
        let zero_shot = self.zero_shot.iter().map(|found| ("zero-shot", "top-", &found.ranked));
        retrieval.into_iter().chain(zero_shot)
    }
}

/// What the pictures of a verification are.
pub fn pictures(found: &ImageVerification) -> String {
    format!("{}{} pictures", found.pictures, if found.made { " built-in" } else { "" })
}

fn quality(f: &mut fmt::Formatter<'_>, what: &str, found: Quality) -> fmt::Result {
    let Quality { cosine_mean, cosine_min, sqnr_db } = found;
    writeln!(f, "  {what}")?;
    writeln!(f, "    SQNR {sqnr_db:.2} dB, cosine mean {cosine_mean:.5}, min {cosine_min:.5}")
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(texts) = &self.texts {
            write!(f, "{texts}")?;
        }
        if let Some(images) = &self.images {
            if self.texts.is_some() {
                writeln!(f)?;
            }
            quality(f, &format!("images' hidden states, {}", pictures(images)), images.hidden)?;
            quality(f, "images' embeddings", images.embedding)?;
            writeln!(f, "  an image {}", images.cost)?;
            write!(f, "  measured with the kernels {}", images.kernels)?;
        }
        let Some(pairs) = &self.pairs else { return Ok(()) };
        let texts = &pairs.texts;
        writeln!(f)?;
        quality(f, &format!("texts' embeddings, {} texts", texts.texts), texts.embedding)?;
        writeln!(f, "  a text of {:.1} tokens {}", texts.tokens, texts.times)?;
        write!(f, "  {:<44} {:>9} {:>9}", "what is found, %", "f32", "plan")?;
        for (what, at, ranked) in pairs.ranked() {
            let Ranked { queries, candidates, at: found, same_first } = ranked;
            write!(f, "\n    {what}: {queries} among {candidates}")?;
            for hit in found {
                let [model, plan] = [hit.model, hit.plan].map(|part| part * 100.0);
                write!(f, "\n      {:<40} {model:>9.2} {plan:>9.2}", format!("{at}{}", hit.k))?;
            }
            write!(f, "\n      {:<40} {:>9} {:>9.2}", "the same first", "", same_first * 100.0)?;
        }
        Ok(())
    }
}
