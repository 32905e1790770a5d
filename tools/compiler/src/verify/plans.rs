//! The plans that are verified: a text encoder's, an image encoder's, or both in one file or two.

use std::path::Path;

use anyhow::{Context, Result};
use cliptext::PlanFile;
use cliptext::plan::format::{Header, Kind};

/// Plans in memory.
#[derive(Debug)]
pub struct Plans {
    file: Named,
    image: Option<Named>,
}

/// A file and what to call it.
type Named = (String, PlanFile);

impl Plans {
    /// Reads the file at `plan`, and the image encoder's plan at `image` if it is in a file of its own.
    ///
    /// # Errors
    /// When one can't be read: names it.
    pub fn read(plan: &Path, image: Option<&Path>) -> Result<Self> {
        // Not mapped: a plan may come out of a pipe, and may be compiled anew meanwhile.
        let read = |path: &Path| -> Result<Named> {
            let name = path.display().to_string();
            let file = PlanFile::read(path).with_context(|| format!("{name}: cannot be read"))?;
            Ok((name, file))
        };
        Ok(Plans { file: read(plan)?, image: image.map(read).transpose()? })
    }

    /// The file with the text encoder's plan and its name; `None` where the first file is an image encoder's alone.
    pub fn text(&self) -> Option<(&str, &[u8])> {
        let (name, file) = &self.file;
        (!is_image(file.bytes())).then_some((name, file.bytes()))
    }

    /// The file with the image encoder's plan and its name: the one of its own, else the first where it holds one.
    pub fn image(&self) -> Option<(&str, &[u8])> {
        let (name, file) = self.image.as_ref().unwrap_or(&self.file);
        let bytes = file.bytes();
        let behind = Header::read(bytes).is_ok_and(|header| !header.split(bytes).1.is_empty());
        (self.image.is_some() || behind || is_image(bytes)).then_some((name, bytes))
    }
}

/// Whether a file begins as an image encoder's plan does.
fn is_image(bytes: &[u8]) -> bool {
    Header::read(bytes).is_ok_and(|header| header.kind() == Kind::Image)
}
