//! What pictures show: files that say it, and the classes of zero-shot classification.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use cliptext_files::prompts;
use cliptext_files::templates;

/// Pictures and the texts that belong to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    /// The pictures' files, each once, as they came.
    pub pictures: Vec<PathBuf>,
    /// The texts, each once, as they came.
    pub texts: Vec<String>,
    /// Each line's picture and text, by their numbers.
    pub pairs: Vec<(usize, usize)>,
}

impl Labels {
    /// Reads a file of lines `picture<TAB>text` in UTF-8, whose pictures are in `folder`. A picture may have several lines, and a text too.
    ///
    /// # Errors
    /// When the file can't be read or holds no line, and where a line is none, names no picture of the folder, or comes twice: names file
    /// and line.
    pub fn read(path: &Path, folder: &Path) -> Result<Self> {
        let named = path.display();
        let bytes = std::fs::read(path).with_context(|| named.to_string())?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            anyhow::anyhow!("{named}: line {line}: not UTF-8: save the labels as UTF-8")
        })?;
        let mut labels = Labels { pictures: vec![], texts: vec![], pairs: vec![] };
        let (mut pictures, mut texts, mut lines) = (HashMap::new(), HashMap::new(), HashMap::new());
        for (number, line) in (1..).zip(text.strip_prefix('\u{feff}').unwrap_or(text).lines()) {
            let place = || format!("{named}: line {number}");
            let (picture, text) = fields(line).with_context(place)?;
            let file = inside(folder, picture).with_context(place)?;
            let picture = *pictures.entry(file.clone()).or_insert_with(|| {
                labels.pictures.push(file);
                labels.pictures.len() - 1
            });
            let text = *texts.entry(text.to_owned()).or_insert_with(|| {
                labels.texts.push(text.to_owned());
                labels.texts.len() - 1
            });
            if let Some(before) = lines.insert((picture, text), number) {
                bail!("{}: the same picture and text as in line {before}", place());
            }
            labels.pairs.push((picture, text));
        }
        ensure!(
            !labels.pairs.is_empty(),
            "{named}: holds no label: give lines of a picture's name, a tab and a text"
        );
        Ok(labels)
    }

    /// Each picture's texts.
    pub fn of_pictures(&self) -> Vec<Vec<usize>> {
        grouped(self.pictures.len(), self.pairs.iter().copied())
    }

    /// Each text's pictures.
    pub fn of_texts(&self) -> Vec<Vec<usize>> {
        grouped(self.texts.len(), self.pairs.iter().map(|&(picture, text)| (text, picture)))
    }

    /// The number of the line where a picture has a second text, if one has.
    fn second(&self) -> Option<usize> {
        let mut seen = vec![false; self.pictures.len()];
        self.pairs
            .iter()
            .position(|&(picture, _)| std::mem::replace(&mut seen[picture], true))
            .map(|at| at + 1)
    }
}

/// `second` of all pairs with the same `first`, for each of `count` firsts.
fn grouped(count: usize, pairs: impl Iterator<Item = (usize, usize)>) -> Vec<Vec<usize>> {
    let mut groups = vec![vec![]; count];
    pairs.for_each(|(first, second)| groups[first].push(second));
    groups
}

/// A line's picture and text.
fn fields(line: &str) -> Result<(&str, &str)> {
    let Some((picture, text)) = line.split_once('\t') else {
        ensure!(!line.trim().is_empty(), "an empty line");
        bail!("no tab between a picture's name and its text");
    };
    let (picture, text) = (picture.trim(), text.trim());
    ensure!(!text.contains('\t'), "more than one tab: a line has a picture's name and one text");
    ensure!(!picture.is_empty(), "no picture's name before the tab");
    ensure!(!text.is_empty(), "no text behind the tab");
    Ok((picture, text))
}

/// The file called `name` in `folder`.
fn inside(folder: &Path, name: &str) -> Result<PathBuf> {
    let parts = || Path::new(name).components().filter(|part| *part != Component::CurDir);
    let within = parts().all(|part| matches!(part, Component::Normal(_)));
    let file = folder.join(parts().collect::<PathBuf>());
    ensure!(within && file.is_file(), "{name:?}: no such picture in {}", folder.display());
    Ok(file)
}

/// The classes of zero-shot classification.
#[derive(Clone, Debug, PartialEq)]
pub struct Classes {
    /// Their names.
    pub names: Vec<String>,
    /// What they are put into, each in every one.
    pub templates: Vec<String>,
    /// Each picture's class.
    pub right: Vec<usize>,
}

impl Classes {
    /// Those in the file `classes`, else the texts of the labels where each picture has one; in the templates of a file, else as they stand.
    /// The files have one a line or are JSON arrays of strings. `None` where there is no file of classes and a picture has several texts.
    ///
    /// # Errors
    /// When a file can't be read, something in it is empty or there twice, a template says not where the class goes, a label of the file
    /// `path` is no class, or a picture has several: names file and line.
    pub fn read(
        labels: &Labels,
        path: &Path,
        classes: Option<&Path>,
        templates: Option<&Path>,
    ) -> Result<Option<Self>> {
        let named = path.display();
        if let Some(line) = labels.second() {
            ensure!(
                classes.is_none() && templates.is_none(),
                "{named}: line {line}: a second text of the same picture: with --classes or --templates each has one, its class"
            );
            return Ok(None);
        }
        let in_templates = match templates {
            Some(path) => list(path, "template")?,
            None => vec![templates::PLAIN.to_owned()],
        };
        if let Some(index) = in_templates.iter().position(|template| !templates::has_slot(template)) {
            let path = templates.unwrap_or(Path::new("")).display();
            bail!("{path}: template {} lacks {{}}, where the class goes", index + 1);
        }
        let names = match classes {
            Some(path) => list(path, "class")?,
            None => labels.texts.clone(),
        };
        if let Err(why) = templates::check(&in_templates, &names) {
            bail!("{}: {why}", templates.unwrap_or(path).display());
        }
        let numbers: HashMap<&str, usize> = names.iter().map(String::as_str).zip(0..).collect();
        let mut right = vec![0; labels.pictures.len()];
        for (line, &(picture, text)) in (1..).zip(&labels.pairs) {
            let text = &labels.texts[text];
            let Some(&class) = numbers.get(text.as_str()) else {
                let file = classes.unwrap_or(path).display();
                bail!("{named}: line {line}: {text:?} is not among the classes of {file}");
            };
            right[picture] = class;
        }
        Ok(Some(Classes { names, templates: in_templates, right }))
    }

    /// Every class in every template, class by class.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.names
            .iter()
            .flat_map(|name| self.templates.iter().map(|template| templates::fill(template, name)))
    }
}

/// The texts of a file, without the white space around them.
fn list(path: &Path, what: &str) -> Result<Vec<String>> {
    let named = path.display();
    let texts = prompts::read(path).with_context(|| named.to_string())?;
    let texts: Vec<String> = texts.iter().map(|text| text.trim().to_owned()).collect();
    let mut seen = HashMap::new();
    for (number, text) in (1..).zip(&texts) {
        ensure!(!text.is_empty(), "{named}: {what} {number} is empty");
        if let Some(first) = seen.insert(text, number) {
            bail!("{named}: {what} {number} is {what} {first} again: {text:?}");
        }
    }
    Ok(texts)
}
