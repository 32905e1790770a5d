//! `cliptext verify`: plans beside the model that they were made from.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use cliptext::{ImagePlan, Plan};

use crate::compile::check;
use crate::compile::load::{LoadedTower, Spec};
use crate::pictures;
use crate::progress::Progress;
use crate::source::image::{self as source, ImageTower};
use crate::verify::image::{self, Pictures};
use crate::verify::labels::{Classes, Labels};
use crate::verify::measure::{self, same_towers};
use crate::verify::pairs::{self, Wanted};
use crate::verify::plans::Plans;
use crate::verify::reference::TowerSize;
use crate::verify::texts::{self, TextFigures};
use crate::verify::verified::Verified;

/// What to verify, and on what.
#[derive(Debug)]
pub struct VerifyJob {
    /// The model.
    pub model: Spec,
    /// Prompts for the text encoder.
    pub prompts: Vec<String>,
    /// A UNet to run with the embeddings of both.
    pub unet: Option<PathBuf>,
    /// A folder of pictures for the image encoder; `None`: the built-in ones.
    pub images: Option<PathBuf>,
    /// What they show.
    pub labels: Option<LabelFiles>,
}

/// Files that say what pictures show.
#[derive(Debug)]
pub struct LabelFiles {
    /// Lines of a picture, a tab and a text.
    pub labels: PathBuf,
    /// The classes; `None`: the labels' texts.
    pub classes: Option<PathBuf>,
    /// What classes are put into; `None`: as they stand.
    pub templates: Option<PathBuf>,
}

/// Labels that were read, and all texts that they want encoded.
struct Pairs {
    labels: Labels,
    classes: Option<Classes>,
    wanted: Wanted,
}

/// Embeddings of inputs, the plan's and the f32 model's of each.
type Both = Vec<[Vec<f32>; 2]>;

impl VerifyJob {
    /// Does it.
    ///
    /// # Errors
    /// When a plan is damaged or not of the model, labels or pictures are not what they must be, or tract fails.
    pub fn run(&self, plans: &Plans, progress: &Progress) -> Result<Verified> {
        // What the user gave is found to be sound before the model is read, which takes seconds.
        let pairs = self.labels.as_ref().map(|files| self.pairs(files, progress)).transpose()?;
        let on = self.pictures(pairs.as_ref(), progress)?;
        if let Some((name, bytes)) = plans.image() {
            ImagePlan::load(bytes).with_context(|| name.to_owned())?;
        }
        let mut found = Verified::default();
        let mut of_texts = None;
        if let Some((name, bytes)) = plans.text() {
            let named = || name.to_owned();
            let plan = Plan::load(bytes).with_context(named)?;
            ensure!(
                pairs.is_none() || plan.is_projected(),
                "{name}: the plan has no projection into the space of images: with --labels it needs one"
            );
            let towers = self.model.load(progress)?.towers;
            let sizes: Vec<TowerSize> =
                towers.iter().map(|tower| TowerSize::of(&tower.model, &tower.outputs)).collect();
            same_towers(&plan, &sizes).with_context(named)?;
            of_texts = pairs.as_ref().map(|pairs| embedded(bytes, &towers, pairs, progress)).transpose()?;
            let mut references = Vec::new();
            // Each tower is gone before the next one's run is built.
            for (mut tower, ids) in towers.into_iter().zip(measure::ids(&plan, &self.prompts)?) {
                references.push(progress.stage("run the f32 model by tract", || tower.reference(ids, true))?);
            }
            let verified = super::verify(bytes, &references, &self.prompts, self.unet.as_deref(), progress);
            found.texts = Some(verified.with_context(named)?);
        }
        if let Some((name, bytes)) = plans.image() {
            let tower = progress.stage("read the image encoder", || {
                source::open(&self.model.path, self.model.choice.activation, progress)
            });
            let ImageTower { model, notes, .. } = tower?;
            notes.iter().for_each(|note| progress.note(note));
            check::finite(model.tensors()).with_context(|| self.model.name.clone())?;
            let (images, embeddings) =
                image::verify(bytes, &model, &on, progress).with_context(|| name.to_owned())?;
            found.images = Some(images);
            if let (Some(pairs), Some((figures, texts))) = (&pairs, &of_texts) {
                let Pairs { labels, classes, wanted } = pairs;
                let compare =
                    || pairs::compare(labels, classes.as_ref(), wanted, &embeddings, (*figures, texts));
                found.pairs = Some(progress.stage("rank pictures and texts", compare)?);
            }
        }
        Ok(found)
    }

    /// The labels; tells what they leave out.
    fn pairs(&self, files: &LabelFiles, progress: &Progress) -> Result<Pairs> {
        let Some(folder) = &self.images else { bail!("labels without pictures") };
        let LabelFiles { labels: path, classes, templates } = files;
        let labels = Labels::read(path, folder)?;
        let classes = Classes::read(&labels, path, classes.as_deref(), templates.as_deref())?;
        if classes.is_none() {
            progress.note(&format!(
                "{}: pictures have several texts each: no zero-shot classification, which asks for the one class of each",
                path.display()
            ));
        }
        Ok(Pairs { wanted: Wanted::of(&labels, classes.as_ref()), labels, classes })
    }

    /// The pictures to encode: those that have labels, else all of the folder, else the built-in ones.
    fn pictures(&self, pairs: Option<&Pairs>, progress: &Progress) -> Result<Pictures> {
        let Some(folder) = &self.images else { return Ok(Pictures::Made) };
        let Some(Pairs { labels, .. }) = pairs else { return Ok(Pictures::Files(pictures::list(folder)?)) };
        let labelled: HashSet<&PathBuf> = labels.pictures.iter().collect();
        // There may be none but in folders of this one.
        let all = pictures::list(folder).unwrap_or_default();
        let left = all.iter().filter(|file| !labelled.contains(file)).count();
        if left > 0 {
            progress.note(&format!("{}: pictures without a label, left out: {left}", folder.display()));
        }
        Ok(Pictures::Files(labels.pictures.clone()))
    }
}

/// The texts of `pairs`, encoded by the plan in `bytes` and by the model's tower.
fn embedded(
    bytes: &[u8],
    towers: &[LoadedTower],
    pairs: &Pairs,
    progress: &Progress,
) -> Result<(TextFigures, Both)> {
    let [tower] = towers else { bail!("several text encoders: with --labels take one with --tower") };
    let texts = &pairs.wanted.texts;
    let (figures, both) = texts::verify(bytes, &tower.model, &tower.outputs, texts, progress)?;
    if figures.cut > 0 {
        let TextFigures { cut, texts, .. } = figures;
        progress.note(&format!("{cut} of {texts} texts are cut to {} tokens", tower.model.context()));
    }
    Ok((figures, both))
}
