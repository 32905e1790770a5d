//! Where the plan comes from: a file, or the program itself.

use std::path::Path;

use clap::Args;
use cliptext::{Plan, PlanFile, include_plan};

use crate::failure::{Outcome, work};

/// The built-in demonstration plan.
static BUILT_IN: &[u8] = include_plan!("../../../models/demo.plan");

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
    BuiltIn,
    File(PlanFile, String),
}

impl Source {
    /// The plan at `path`, or the built-in one. Pipes and devices, which can't be mapped, are read.
    pub(crate) fn open(path: Option<&Path>, access: Access) -> Outcome<Self> {
        let Some(path) = path else {
            let read = if access.read { ", which is in memory: --read has no effect" } else { "" };
            cliptext_files::to_stderr!(
                "cliptext-run: no plan given: using the built-in demonstration plan{read}"
            );
            return Ok(Source::BuiltIn);
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
            Source::BuiltIn => Plan::load(BUILT_IN).map_err(|error| work("the built-in plan", error)),
            Source::File(file, name) => file.plan().map_err(|error| work(name, error)),
        }
    }
}
