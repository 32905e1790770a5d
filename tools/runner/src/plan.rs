//! Where the plan comes from: a file, or the program itself.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use clap::Args;
#[cfg(feature = "pictures")]
use cliptext::ImagePlan;
#[cfg(feature = "pictures")]
use cliptext::plan::format::Kind;
use cliptext::plan::format::{HEADER, Header};
use cliptext::{LoadError, Pack, Plan, PlanFile, PlanHash};

use crate::failure::{Failure, Outcome, work};

/// The built-in demonstration plan, in programs that have it.
#[cfg(feature = "demo")]
const BUILT_IN: Option<&[u8]> = Some(cliptext::include_plan!("../../../models/demo.plan"));
#[cfg(not(feature = "demo"))]
const BUILT_IN: Option<&[u8]> = None;

/// How a plan's file gets into memory.
#[derive(Args, Clone, Copy)]
pub(crate) struct Access {
    /// Read the plan into memory instead of mapping it: that takes its size in RAM. A mapped plan must not be changed or cut
    /// short while the program runs (put a new one in its place by renaming, as `cliptext compile` does), and a storage that
    /// fails ends the program with a bus error
    #[arg(long, global = true)]
    pub(crate) read: bool,
}

/// The bytes of a plan.
pub(crate) enum Source {
    BuiltIn(&'static [u8]),
    File(PlanFile, String),
}

impl Source {
    /// The plan at `path`, or the built-in one. Pipes and devices, which can't be mapped, are read.
    pub(crate) fn open(path: Option<&Path>, access: Access) -> Outcome<Self> {
        let Some(path) = path else {
            let Some(plan) = BUILT_IN else {
                return Err(Failure::Usage(
                    "no plan given, and this program was built without the demonstration plan: name a plan's file".into(),
                ));
            };
            let read = if access.read { ", which is in memory: --read has no effect" } else { "" };
            cliptext_files::to_stderr!(
                "cliptext-run: no plan given: using the built-in demonstration plan{read}"
            );
            return Ok(Source::BuiltIn(plan));
        };
        let name = path.display().to_string();
        let kind = std::fs::metadata(path).map_err(|error| work(&name, error))?;
        if kind.is_dir() {
            return Err(work(name, "a folder, not a plan"));
        }
        let file = if access.read || !kind.is_file() {
            PlanFile::read(path)
        } else {
            // SAFETY: the caller of this program was told, by the help of `--read`, to leave a mapped plan alone.
            #[allow(unsafe_code)]
            unsafe {
                PlanFile::map(path)
            }
        };
        let file = file.map_err(|error| work(&name, error))?;
        Ok(Source::File(file, name))
    }

    /// The plan, checked.
    pub(crate) fn load(&self) -> Outcome<Plan<'_>> {
        match self {
            Source::BuiltIn(plan) => Plan::load(plan).map_err(|error| work("the built-in plan", error)),
            Source::File(file, name) => file.plan().map_err(|error| match error {
                LoadError::NotAPlan if Pack::is_one(file.bytes()) => {
                    work(name, "a prompt pack, not a plan: `encode` and `inspect` read it")
                }
                error => work(name, error),
            }),
        }
    }

    /// The image encoder's plan, checked.
    #[cfg(feature = "pictures")]
    pub(crate) fn load_image(&self) -> Outcome<ImagePlan<'_>> {
        ImagePlan::load(self.bytes()).map_err(|error| work(self.name(), error))
    }

    /// Whether it holds a text encoder's plan, and an image encoder's, as far as its header says.
    #[cfg(feature = "pictures")]
    pub(crate) fn holds(&self) -> (bool, bool) {
        match Header::read(self.bytes()) {
            Ok(header) if header.kind() == Kind::Image => (false, true),
            Ok(header) => (true, !header.split(self.bytes()).1.is_empty()),
            Err(_) => (true, false),
        }
    }

    /// What to call it in messages.
    pub(crate) fn name(&self) -> &str {
        match self {
            Source::BuiltIn(_) => "the built-in plan",
            Source::File(_, name) => name,
        }
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Source::BuiltIn(plan) => plan,
            Source::File(file, _) => file.bytes(),
        }
    }

    /// The plan's hash, from its front.
    pub(crate) fn hash(&self) -> Outcome<PlanHash> {
        let bytes = self.bytes();
        let is_whole = Header::read(bytes).is_ok_and(|header| header.file_bytes() == bytes.len() as u64);
        match PlanHash::of_front(bytes) {
            Ok(hash) if is_whole => Ok(hash),
            // Which tells what is wrong.
            _ => Ok(self.load()?.hash()),
        }
    }
}

/// The hash of the plan in a file, of which only the front is read. `None` where that can't be had: the file is a pipe, it is
/// no plan of this version, or is cut short, which loading tells.
pub(crate) fn hash_of_file(path: &Path) -> Outcome<Option<PlanHash>> {
    let read = || {
        if !std::fs::metadata(path)?.is_file() {
            return Ok(None);
        }
        let mut file = File::open(path)?;
        let mut front = Vec::with_capacity(HEADER);
        file.by_ref().take(HEADER as u64).read_to_end(&mut front)?;
        let Ok(header) = Header::read(&front) else { return Ok(None) };
        if header.file_bytes() != file.metadata()?.len() {
            return Ok(None);
        }
        // The file has so many bytes.
        front.resize(header.body() as usize, 0);
        file.read_exact(&mut front[HEADER..])?;
        Ok(PlanHash::of_front(&front).ok())
    };
    read().map_err(|error: std::io::Error| work(path.display(), error))
}
