//! Plans that encode images.

use core::ops::Deref;

use serde::{Deserialize, Serialize};

use super::check::Reads;
use super::error::LoadError;
use super::format::{Header, Kind, Section};
use super::graph::Graph;
use super::manifest::{MANIFEST, Manifest};
use super::source::Resident;
use super::step::Grid;
use crate::kernels::MAX_TOKENS;

/// What an image plan says of itself: a postcard value, read once, in place.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageManifest<'a> {
    /// What plans of both kinds say; its context are the rows of an image: the class token's and one for each patch.
    #[serde(borrow)]
    pub plan: Manifest<'a>,
    /// Pixels of a side of the images.
    pub side: u16,
    /// Pixels of a side of a patch.
    pub patch: u16,
}

impl<'a> ImageManifest<'a> {
    /// Its section; `None` where a text is longer than [`TEXT`](super::TEXT).
    pub fn section(&self) -> Option<heapless::Vec<u8, MANIFEST>> {
        self.plan.section()?;
        let mut buffer = [0; MANIFEST];
        let section = postcard::to_slice(self, &mut buffer).ok()?;
        heapless::Vec::from_slice(section).ok()
    }

    /// Reads its section; `None` where it is none. Each manifest has one section: numbers are as short as they can be.
    fn of_section(section: &'a [u8]) -> Option<Self> {
        let manifest: Self = postcard::from_bytes(section).ok()?;
        (manifest.section()?[..] == *section).then_some(manifest)
    }

    /// How images are cut.
    fn grid(&self) -> Grid {
        Grid { side: self.side, patch: self.patch }
    }
}

/// A validated image plan over borrowed bytes: a [`Graph`], which it derefs to, and its constants in memory. Small, to be copied.
#[derive(Clone, Copy, Debug)]
pub struct ImagePlan<'a> {
    graph: Graph<'a>,
    grid: Grid,
    constants: Resident<'a>,
}

impl<'a> Deref for ImagePlan<'a> {
    type Target = Graph<'a>;

    fn deref(&self) -> &Graph<'a> {
        &self.graph
    }
}

impl<'a> ImagePlan<'a> {
    /// Reads the plan in `bytes`, which must start at a multiple of 64: nothing is copied. It may follow a text plan, whose own bytes
    /// are then not looked at.
    ///
    /// # Errors
    /// [`LoadError`] says what is wrong and where. After `Ok`, encoding any image of the plan's size succeeds.
    pub fn load(bytes: &'a [u8]) -> Result<Self, LoadError> {
        // A text plan has whole multiples of 64, so what follows it starts at one.
        let behind = Header::read(bytes).map_or(&[][..], |text| text.split(bytes).1);
        let bytes = if behind.is_empty() { bytes } else { behind };
        let header = Header::read_in_place(Kind::Image, bytes)?;
        header.verify_whole(bytes)?;
        let manifest =
            ImageManifest::of_section(header.section(bytes, Section::Manifest)).ok_or(LoadError::Manifest)?;
        let grid = manifest.grid();
        let tokens = grid.tokens();
        if !grid.is_whole() || tokens > MAX_TOKENS || tokens != usize::from(manifest.plan.context) {
            return Err(LoadError::Grid);
        }
        // Images are read as they are: there is nothing to look up.
        if header.place(Section::Vocabulary).1 != 0 {
            return Err(LoadError::Header);
        }
        let graph = Graph::of(&header, bytes, manifest.plan, Reads::Pixels(grid))?;
        Ok(Self { graph, grid, constants: Resident::new(header.section(bytes, Section::Constants)) })
    }

    /// What it computes, without the constants.
    pub fn graph(&self) -> Graph<'a> {
        self.graph
    }

    /// The constants.
    pub fn constants(&self) -> Resident<'a> {
        self.constants
    }

    /// The size of its images, and how they are cut.
    pub fn grid(&self) -> Grid {
        self.grid
    }
}
