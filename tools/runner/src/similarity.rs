//! `similarity`: which prompt says what an image shows, as in CLIP's paper (Radford et al. 2021, section 3.1.2).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use cliptext::{AlignedBytes, Plan};
use serde_json::{Value, json};

use crate::arguments::{PromptArgs, RunArgs};
use crate::failure::{Failure, Outcome, work};
use crate::images::{Images, direction};
use crate::packed::{self, Packed, Pooled, projected_columns};
#[cfg(feature = "pictures")]
use crate::pictures;
use crate::plan::{Access, Source};
use crate::prompts::{shown, warn_of_dropped};
use crate::reading::dropped;
use crate::setup::{kernels, team};

/// What CLIP's published models end up with: the bound of their training.
const USUAL_LOGIT_SCALE: f64 = 100.0;

#[derive(Args)]
pub(crate) struct SimilarityArgs {
    #[command(flatten)]
    prompts: PromptArgs,
    /// Images, in the order given (may be repeated; a comma stands between several files): embeddings of the same model, `.npy` or
    /// `.safetensors`, `[n, d]` or `[d]`, f32 or f16; and, where the image encoder's plan is at hand, pictures, PNG, JPEG or WebP, or a
    /// folder of them
    #[arg(long, value_name = "FILE", required = true)]
    images: Vec<PathBuf>,
    /// The plan of the same model's image encoder, for pictures, where PLAN does not hold it too: made by `cliptext compile --image`
    #[cfg(feature = "pictures")]
    #[arg(long, value_name = "PLAN")]
    image_plan: Option<PathBuf>,
    /// What cosines are multiplied with before the softmax [default: the plan's, else 100, as in CLIP's published models]
    #[arg(long, value_name = "X", value_parser = positive)]
    logit_scale: Option<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    run: RunArgs,
}

impl SimilarityArgs {
    /// The files that `--images` names. What is there under the whole name is that file or folder, commas or not; else there is a file
    /// between all commas.
    fn files(&self) -> Outcome<Vec<PathBuf>> {
        let mut files = Vec::new();
        for whole in &self.images {
            let text = whole.to_str().filter(|text| text.contains(',') && !whole.exists());
            let names = match text {
                Some(text) => text.split(',').map(PathBuf::from).collect(),
                None => vec![whole.clone()],
            };
            for name in names {
                if name.as_os_str().is_empty() {
                    return Err(Failure::Usage(format!(
                        "--images {}: a comma stands between two files: one is missing",
                        whole.display()
                    )));
                }
                files.extend(in_folder(name)?);
            }
        }
        Ok(files)
    }
}

/// The pictures of a folder; a file as it is.
fn in_folder(name: PathBuf) -> Outcome<Vec<PathBuf>> {
    #[cfg(feature = "pictures")]
    if name.is_dir() {
        return cliptext_pictures::in_folder(&name).map_err(|error| work(name.display(), error));
    }
    Ok(vec![name])
}

fn positive(text: &str) -> Result<f64, String> {
    match cliptext::prompt::number(text) {
        Some(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("expected a positive number".into()),
    }
}

/// An image beside the prompts; a value for each prompt.
struct Scores {
    cosines: Vec<f64>,
    logits: Vec<f64>,
    probabilities: Vec<f64>,
}

impl Scores {
    /// `texts` and `image` have unit length.
    fn new(image: &[f64], texts: &[Vec<f64>], scale: f64) -> Self {
        let cosine = |text: &Vec<f64>| image.iter().zip(text).map(|(a, b)| a * b).sum::<f64>();
        let cosines: Vec<f64> = texts.iter().map(cosine).collect();
        let logits: Vec<f64> = cosines.iter().map(|cosine| scale * cosine).collect();
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
        let total: f64 = powers.iter().sum();
        Self { cosines, logits, probabilities: powers.iter().map(|power| power / total).collect() }
    }
}

/// Compares and prints.
pub(crate) fn similarity(args: &SimilarityArgs, access: Access) -> Outcome {
    let (path, prompts) = args.prompts.open()?;
    let source = Source::open(path.as_deref(), access)?;
    let plan = source.load()?;
    let width = projected_columns(&plan, "similarity")?;
    let prompts = prompts.collect::<Outcome<Vec<String>>>()?;
    let files = args.files()?;
    let images = images(args, &files, &source, width, access)?;
    let scale = args.logit_scale.or(plan.manifest().logit_scale.map(f64::from)).unwrap_or_else(|| {
        cliptext_files::to_stderr!(
            "cliptext-run: the plan does not say the logit scale: taking {USUAL_LOGIT_SCALE}, as in CLIP's published models"
        );
        USUAL_LOGIT_SCALE
    });
    let texts = directions(&plan, &prompts, &args.run)?;
    let scored = |(image, row): (String, Vec<f64>)| (image, Scores::new(&row, &texts, scale));
    let scores: Vec<(String, Scores)> = images.into_iter().map(scored).collect();
    if args.json {
        sayln!("{}", to_json(&prompts, scale, &scores));
    } else {
        say!("{}", table(&prompts, scale, &scores));
    }
    Ok(())
}

/// The directions of all images, each with its name. Pictures go through the image plan that is named, or the one in the plan's file.
fn images(
    args: &SimilarityArgs,
    files: &[PathBuf],
    plan: &Source,
    width: usize,
    access: Access,
) -> Outcome<Vec<(String, Vec<f64>)>> {
    #[cfg(feature = "pictures")]
    {
        if let Some(path) = &args.image_plan {
            return with_pictures(args, files, &Source::open(Some(path), access)?, width);
        }
        if plan.holds().1 {
            return with_pictures(args, files, plan, width);
        }
        for path in files {
            if !Images::are_in(path)? {
                return Err(work(
                    path.display(),
                    format_args!(
                        "neither an .npy nor a safetensors file; pictures need the image encoder's plan, which {} does not hold: name it \
                         with --image-plan (made by `cliptext compile --image`)",
                        plan.name()
                    ),
                ));
            }
        }
    }
    let _ = (args, plan, access);
    let mut all = Vec::new();
    for path in files {
        all.extend(embeddings(path, width)?);
    }
    Ok(all)
}

/// Those in a file of embeddings.
fn embeddings(path: &Path, width: usize) -> Outcome<impl Iterator<Item = (String, Vec<f64>)>> {
    let images = Images::read(path, width)?;
    let name = path.display().to_string();
    Ok(images.rows.into_iter().enumerate().map(move |(row, direction)| (format!("{name} {row}"), direction)))
}

/// Those in files of embeddings and in pictures, which the image encoder of `plan` encodes.
#[cfg(feature = "pictures")]
fn with_pictures(
    args: &SimilarityArgs,
    files: &[PathBuf],
    source: &Source,
    width: usize,
) -> Outcome<Vec<(String, Vec<f64>)>> {
    let plan = source.load_image()?;
    let columns = plan.manifest().pooled.map_or(0, |rows| rows.columns as usize);
    if columns != width || !plan.is_projected() {
        return Err(Failure::Usage(format!(
            "{}: embeddings of images have {columns} values{}, those of the texts {width}: use the image encoder of the same model, \
             with its projection",
            source.name(),
            if plan.is_projected() { "" } else { ", not projected" }
        )));
    }
    let are_embeddings = files.iter().map(|path| Images::are_in(path)).collect::<Outcome<Vec<_>>>()?;
    let files = || files.iter().zip(&are_embeddings);
    let pictures: Vec<PathBuf> = files().filter(|(_, are)| !**are).map(|(path, _)| path.clone()).collect();
    let mut encoded = Vec::with_capacity(pictures.len());
    pictures::encode(&plan, &pictures, &args.run, |index, row| {
        let name = pictures[index].display().to_string();
        let row = direction(row).map_err(|why| work(&name, format_args!("its embedding {why}")))?;
        encoded.push((name, row));
        Ok(())
    })?;
    let mut encoded = encoded.into_iter();
    let mut all = Vec::new();
    for (path, are_embeddings) in files() {
        if *are_embeddings {
            all.extend(embeddings(path, width)?);
        } else {
            all.extend(encoded.next());
        }
    }
    Ok(all)
}

/// The prompts' pooled outputs, of unit length.
fn directions(plan: &Plan<'_>, prompts: &[String], run: &RunArgs) -> Outcome<Vec<Vec<f64>>> {
    let kernels = kernels(plan, run.kernel.as_deref())?;
    let team = team(run.threads.map(usize::from))?;
    let mut memory = AlignedBytes::zeroed(packed::arena_bytes(plan));
    let mut directions = Vec::with_capacity(prompts.len());
    let mut packed = Packed::new(plan, &mut memory, kernels, &team)?;
    packed.each(prompts.iter().cloned(), |Pooled { text, is_truncated, row }| {
        let dropped = if is_truncated { dropped(plan.tokenizer(), text) } else { None };
        warn_of_dropped(text, dropped, plan.context());
        let row = direction(row).map_err(|why| work(shown(text), format_args!("its embedding {why}")))?;
        directions.push(row);
        Ok(())
    })?;
    Ok(directions)
}

fn to_json(prompts: &[String], scale: f64, scores: &[(String, Scores)]) -> Value {
    let images = scores.iter().map(|(name, scores)| {
        json!({ "image": name, "cosine": scores.cosines, "logits": scores.logits, "probabilities": scores.probabilities })
    });
    json!({ "logit_scale": scale, "prompts": prompts, "images": images.collect::<Vec<_>>() })
}

fn table(prompts: &[String], scale: f64, scores: &[(String, Scores)]) -> String {
    let mut out = String::new();
    for (name, scores) in scores {
        let _ = writeln!(out, "{name}\n  probability    logit   cosine");
        for (prompt, text) in prompts.iter().enumerate() {
            let (probability, logit, cosine) =
                (scores.probabilities[prompt], scores.logits[prompt], scores.cosines[prompt]);
            let text = shown(text);
            let _ = writeln!(out, "  {:>9.2} % {logit:>8.3} {cosine:>8.4}  {text}", 100.0 * probability);
        }
    }
    let _ = writeln!(out, "logit scale {scale}; probabilities are over the prompts, for each image");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_cosine_logit_and_softmax() {
        let texts = [vec![1.0, 0.0], vec![0.6, 0.8], vec![-1.0, 0.0]];
        let scores = Scores::new(&[0.0, 1.0], &texts, 10.0);
        assert_eq!(scores.cosines, [0.0, 0.8, 0.0]);
        assert_eq!(scores.logits, [0.0, 8.0, 0.0]);
        let total = 2.0 + 8f64.exp();
        let want = [1.0 / total, 8f64.exp() / total, 1.0 / total];
        assert!(scores.probabilities.iter().zip(want).all(|(p, want)| (p - want).abs() < 1e-12));
        // Logits that overflow an exponential still give probabilities.
        let scores = Scores::new(&[1.0, 0.0], &texts, 1e6);
        assert_eq!(scores.probabilities, [1.0, 0.0, 0.0]);
    }
}
