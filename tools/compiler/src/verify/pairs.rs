//! Pictures and texts that belong together, by the plans and by the f32 model: retrieval and zero-shot classification.
//!
//! Counted as CLIP_benchmark counts them (`clip_benchmark/metrics/zeroshot_retrieval.py`, `zeroshot_classification.py`): a query finds what it
//! asks for if one of its own is among the first k; a class is the mean of its templates' embeddings, each of length 1, brought to length 1.

use std::collections::HashMap;

use anyhow::Result;
use serde::Serialize;

use crate::verify::labels::{Classes, Labels};
use crate::verify::ranking::{Directions, Ranked, ranked};
use crate::verify::texts::TextFigures;

/// How far down the ranks retrieval is looked at.
const RETRIEVAL: [usize; 3] = [1, 5, 10];

/// And zero-shot classification.
const ZERO_SHOT: [usize; 2] = [1, 5];

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct PairFigures {
    /// The texts' embeddings.
    pub texts: TextFigures,
    /// The texts that each picture finds.
    pub image_to_text: Ranked,
    /// The pictures that each text finds.
    pub text_to_image: Ranked,
    /// The classes that each picture finds; where each has one.
    pub zero_shot: Option<ZeroShot>,
}

/// Zero-shot classification.
#[derive(Clone, Debug, Serialize)]
pub struct ZeroShot {
    /// Texts that a class is the mean of.
    pub templates: usize,
    /// The classes that each picture finds.
    #[serde(flatten)]
    pub ranked: Ranked,
}

/// Every text that is to be encoded, once, and where it is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The texts.
    pub texts: Vec<String>,
    labels: Vec<usize>,
    classes: Vec<usize>,
}

impl Wanted {
    /// The labels' texts, and every class in every template.
    pub fn of(labels: &Labels, classes: Option<&Classes>) -> Self {
        let (mut texts, mut numbers) = (Vec::new(), HashMap::new());
        let mut number = |text: String| {
            *numbers.entry(text).or_insert_with_key(|text| {
                texts.push(text.clone());
                texts.len() - 1
            })
        };
        let of_labels = labels.texts.iter().cloned().map(&mut number).collect();
        let of_classes = classes.into_iter().flat_map(Classes::texts).map(&mut number).collect();
        Wanted { texts, labels: of_labels, classes: of_classes }
    }
}

/// Compares all pictures with all texts and classes. Both have their embeddings, the plan's and the f32 model's of each, in the order of
/// `labels.pictures` and of `wanted.texts`.
///
/// # Errors
/// When an embedding has no direction.
pub fn compare(
    labels: &Labels,
    classes: Option<&Classes>,
    wanted: &Wanted,
    pictures: &[[Vec<f32>; 2]],
    (figures, texts): (TextFigures, &[[Vec<f32>; 2]]),
) -> Result<PairFigures> {
    let pictures = Directions::of(pictures, |index| labels.pictures[index].display().to_string())?;
    let texts = Directions::of(texts, |index| format!("{:?}", wanted.texts[index]))?;
    let of_labels = texts.select(&wanted.labels);
    let zero_shot = |classes: &Classes| -> Result<ZeroShot> {
        let templates = classes.templates.len();
        let of_classes = texts.select(&wanted.classes).means(templates)?;
        let right: Vec<Vec<usize>> = classes.right.iter().map(|&class| vec![class]).collect();
        Ok(ZeroShot { templates, ranked: ranked(&pictures, &of_classes, &right, &ZERO_SHOT)? })
    };
    Ok(PairFigures {
        texts: figures,
        image_to_text: ranked(&pictures, &of_labels, &labels.of_pictures(), &RETRIEVAL)?,
        text_to_image: ranked(&of_labels, &pictures, &labels.of_texts(), &RETRIEVAL)?,
        zero_shot: classes.map(zero_shot).transpose()?,
    })
}
