//! `cliptext embed-images`: any image encoder in ONNX, run in f32 by tract, for embeddings that a board compares with prompts.

use std::num::NonZero;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use cliptext_files::floats::Float;
use cliptext_files::npy;
use tract_core::model::TypedModel;
use tract_core::prelude::OutletId;

use crate::arithmetic::parallel;
use crate::output;
use crate::progress::Progress;
use crate::source::image::{self, ImageGraph};
use crate::tract::run::ImageRun;

/// What to embed, and how.
#[derive(Debug)]
pub struct EmbedJob {
    /// An ONNX file, or a folder with one.
    pub model: PathBuf,
    /// Files of pictures.
    pub pictures: Vec<PathBuf>,
    /// The array to write, `[pictures, columns]` f32.
    pub embeddings: PathBuf,
    /// Pixels of a side of the images, where the graph leaves it open.
    pub side: Option<usize>,
    /// The name of the graph's output that is the embedding; `None`: the only one that can be.
    pub from: Option<String>,
    /// Whether embeddings are divided by their length.
    pub normalize: bool,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Columns of the array.
    pub columns: usize,
    /// Pixels of a side of the images that the encoder read.
    pub side: usize,
}

/// The usual name of an embedding among several outputs.
const USUAL_NAME: &str = "image_embeds";

/// Embeds the pictures and writes the array.
///
/// # Errors
/// What is wrong with the model, a picture or the output; nothing is written then.
pub fn embed(job: &EmbedJob, progress: &Progress) -> Result<Embedded> {
    output::check(&job.embeddings)?;
    let named = || job.model.display().to_string();
    let opened = progress.stage("read", || image::open_graph(&job.model, job.side, progress))?;
    let ImageGraph { model, side, colours, notes, .. } = opened;
    notes.iter().for_each(|note| progress.note(note));
    let embedding = embedding(&model, job.from.as_deref()).with_context(named)?;
    let run = progress.stage("prepare", || ImageRun::new(model, embedding)).with_context(named)?;
    let pixels = u16::try_from(side).ok().and_then(NonZero::new);
    let pixels =
        pixels.with_context(|| format!("{}: images of {side} pixels a side can't be read", named()))?;
    let mut rows: Vec<Option<Result<Vec<f32>>>> = job.pictures.iter().map(|_| None).collect();
    progress.stage("embed", || {
        parallel::each(rows.iter_mut().zip(&job.pictures), |(row, path)| {
            let read = cliptext_pictures::read(path, pixels).map_err(anyhow::Error::from);
            let one = read.and_then(|image| unit(run.embed(&image, colours)?, job.normalize));
            *row = Some(one.with_context(|| path.display().to_string()));
        });
    });
    let rows =
        rows.into_iter().map(|row| row.context("a picture was left out")?).collect::<Result<Vec<_>>>()?;
    let columns = rows.first().map_or(0, Vec::len);
    let mut bytes = npy::header(Float::F32, &[rows.len(), columns]);
    bytes.extend(rows.iter().flatten().flat_map(|value| value.to_le_bytes()));
    progress.stage("write", || output::write(&job.embeddings, &bytes))?;
    Ok(Embedded { columns, side })
}

/// An embedding of length 1, if it is to be `normalized`.
fn unit(mut row: Vec<f32>, normalized: bool) -> Result<Vec<f32>> {
    ensure!(
        row.iter().all(|value| value.is_finite()),
        "its embedding has values that are no finite numbers: the model is damaged"
    );
    if normalized {
        let length = row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        ensure!(length > 0.0, "its embedding is all zeros, which has no direction");
        row.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    }
    Ok(row)
}

/// The graph's output `[images, columns]` that is called `from`, or the only one that can be the embedding.
fn embedding(model: &TypedModel, from: Option<&str>) -> Result<OutletId> {
    let images = model.input_fact(0)?.shape.as_concrete().and_then(|shape| shape.first().copied());
    let shape = |outlet: OutletId| -> Result<Option<Vec<usize>>> {
        Ok(model.outlet_fact(outlet)?.shape.as_concrete().map(<[usize]>::to_vec))
    };
    let name = |outlet: OutletId| model.outlet_label(outlet).unwrap_or_default();
    let mut rows = Vec::new();
    let mut all = Vec::new();
    for &outlet in &model.outputs {
        let shape = shape(outlet)?;
        all.push(format!("{} {:?}", name(outlet), shape.as_deref().unwrap_or_default()));
        if matches!(shape.as_deref(), Some(&[first, _]) if Some(first) == images) {
            rows.push(outlet);
        }
    }
    let all = all.join(", ");
    if let Some(from) = from {
        let found = rows.iter().copied().find(|&outlet| name(outlet) == from);
        return found.with_context(|| {
            format!("no output {from:?} (--from) of an embedding for each image; its outputs are {all}")
        });
    }
    match rows[..] {
        [only] => Ok(only),
        [] => bail!(
            "no output is an embedding for each image; its outputs are {all}: export the model with its embedding"
        ),
        _ => match rows.iter().copied().find(|&outlet| name(outlet) == USUAL_NAME) {
            Some(usual) => Ok(usual),
            None => bail!(
                "several outputs could be the embedding: say which one with --from; its outputs are {all}"
            ),
        },
    }
}
