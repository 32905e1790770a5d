//! Label sets: the classifier's rows that zero-shot classification and open-vocabulary detectors take, as OpenCLIP makes
//! them (`zero_shot_classifier.py`, after CLIP's notebook on prompt engineering): a label in each template, every
//! embedding brought to unit length, their mean brought to unit length.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::Args;
use cliptext::Plan;
use cliptext_files::prompts::Prompts;
use cliptext_files::templates;

use crate::failure::{Failure, Outcome, work};
use crate::images::direction;
use crate::packed::Pooled;
use crate::prompts::{shown, warn_of_dropped};
use crate::reading::dropped;

#[derive(Args)]
pub(crate) struct LabelArgs {
    /// Encode the labels in FILE to the rows of a zero-shot classifier: one a line, or a JSON array of strings; - is standard
    /// input. The output is [labels, columns] of unit length; the plan has a projection
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["prompt", "prompts", "negative", "pooled", "no_pad"]
    )]
    pub(crate) labels: Option<PathBuf>,
    /// Put each label into each template in FILE and take the mean: one a line, or a JSON array of strings; {} or {c} stands
    /// for the label [default: {}, the label itself]
    #[arg(long, value_name = "FILE", requires = "labels")]
    pub(crate) templates: Option<PathBuf>,
}

/// Labels and the templates that each is put into.
pub(crate) struct LabelSet {
    labels: Vec<String>,
    templates: Vec<String>,
}

impl LabelArgs {
    /// Reads both files; what is odd in them is told.
    pub(crate) fn read(&self, labels: &Path) -> Outcome<LabelSet> {
        if let Some(templates) = &self.templates
            && cliptext_files::is_stdin(templates)
            && cliptext_files::is_stdin(labels)
        {
            return Err(Failure::Usage("standard input can't give both the labels and the templates".into()));
        }
        let templates = match &self.templates {
            Some(path) => read(path, "template")?,
            None => vec![templates::PLAIN.to_owned()],
        };
        for (index, template) in templates.iter().enumerate() {
            if !templates::has_slot(template) {
                let path = self.templates.as_deref().unwrap_or(Path::new(""));
                return Err(work(
                    path.display(),
                    format_args!(
                        "template {} lacks {{}}, where the label goes: {}",
                        index + 1,
                        shown(template)
                    ),
                ));
            }
        }
        let set = LabelSet { labels: read(labels, "label")?, templates };
        let file = self.templates.as_deref().unwrap_or(labels);
        templates::check(&set.templates, &set.labels).map_err(|why| work(file.display(), why))?;
        Ok(set)
    }
}

/// The texts of a file, without the white space around them. Empty ones are left out; those, and equal ones, are told.
fn read(path: &Path, what: &str) -> Outcome<Vec<String>> {
    let name = match path == Path::new(cliptext_files::DASH) {
        true => "standard input".to_owned(),
        false => path.display().to_string(),
    };
    let (mut texts, mut seen) = (Vec::new(), HashMap::new());
    let found = Prompts::open(path).map_err(|error| work(&name, error))?;
    for (number, text) in (1..).zip(found) {
        let text = text.map_err(|error| work(&name, error))?.trim().to_owned();
        if text.is_empty() {
            cliptext_files::to_stderr!("cliptext-run: {name}: {what} {number} is empty: left out");
            continue;
        }
        if let Some(first) = seen.insert(text.clone(), number) {
            cliptext_files::to_stderr!(
                "cliptext-run: {name}: {what} {number} is {what} {first} again: {}",
                shown(&text)
            );
        }
        texts.push(text);
    }
    if texts.is_empty() {
        return Err(work(name, format_args!("every {what} in it is empty")));
    }
    Ok(texts)
}

impl LabelSet {
    /// How many labels there are.
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// Every label in every template, label by label.
    pub(crate) fn texts(&self) -> impl Iterator<Item = String> {
        self.labels
            .iter()
            .flat_map(|label| self.templates.iter().map(|template| templates::fill(template, label)))
    }

    /// Takes the texts' embeddings in their order and hands on a row for each label.
    pub(crate) fn rows<'s>(
        &'s self,
        plan: &Plan<'_>,
        mut each: impl FnMut(&'s str, &[f32]) -> Outcome,
    ) -> impl FnMut(Pooled<'_>) -> Outcome {
        let (tokenizer, context) = (*plan.tokenizer(), plan.context());
        let mut labels = self.labels.iter();
        let mut sum: Vec<f64> = Vec::new();
        let mut summed = 0;
        move |pooled| {
            let Pooled { text, is_truncated, row } = pooled;
            let dropped = if is_truncated { dropped(&tokenizer, text) } else { None };
            warn_of_dropped(text, dropped, context);
            let row = direction(row).map_err(|why| work(shown(text), format_args!("its embedding {why}")))?;
            if summed == 0 {
                sum = row;
            } else {
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            summed += 1;
            if summed < self.templates.len() {
                return Ok(());
            }
            summed = 0;
            let Some(label) = labels.next() else { return Ok(()) };
            // The mean's direction is the sum's.
            let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
            if length == 0.0 {
                return Err(work(shown(label), "the mean over its templates is zero: it has no direction"));
            }
            let row: Vec<f32> = sum.iter().map(|value| (value / length) as f32).collect();
            each(label, &row)
        }
    }
}
