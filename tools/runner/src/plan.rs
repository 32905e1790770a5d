//! Where the plan comes from: a file, or the program itself.

use std::path::Path;

use cliptext::{Plan, PlanFile};

use crate::{Outcome, work};

/// The built-in demonstration plan, aligned as plans must be.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static BUILT_IN: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../models/demo.plan"));

/// The bytes of a plan.
pub(crate) enum Source {
    BuiltIn,
    File(PlanFile, String),
    /// Read from a pipe or a device, which can't be mapped.
    Read(Read, String),
}

/// Bytes that start at a multiple of 64.
pub(crate) struct Read {
    memory: Vec<u8>,
    start: usize,
}

impl Read {
    fn new(path: &Path) -> std::io::Result<Self> {
        let bytes = std::fs::read(path)?;
        let mut memory = vec![0; bytes.len() + 63];
        let start = memory.as_ptr().align_offset(64);
        memory[start..][..bytes.len()].copy_from_slice(&bytes);
        memory.truncate(start + bytes.len());
        Ok(Self { memory, start })
    }
}

impl Source {
    /// The plan at `path`, or the built-in one.
    pub(crate) fn open(path: Option<&Path>) -> Outcome<Self> {
        let Some(path) = path else {
            eprintln!("cliptext-run: no plan given: using the built-in demonstration plan");
            return Ok(Source::BuiltIn);
        };
        let name = path.display().to_string();
        let kind = std::fs::metadata(path).map_err(|error| work(&name, error))?;
        if kind.is_dir() {
            return Err(work(name, "a folder, not a plan"));
        }
        if !kind.is_file() {
            return Ok(Source::Read(Read::new(path).map_err(|error| work(&name, error))?, name));
        }
        let file = PlanFile::open(path).map_err(|error| work(&name, error))?;
        Ok(Source::File(file, name))
    }

    /// The plan, checked.
    pub(crate) fn load(&self) -> Outcome<Plan<'_>> {
        match self {
            Source::BuiltIn => Plan::load(&BUILT_IN.0).map_err(|error| work("the built-in plan", error)),
            Source::File(file, name) => Plan::load(file.bytes()).map_err(|error| work(name, error)),
            Source::Read(read, name) => {
                Plan::load(&read.memory[read.start..]).map_err(|error| work(name, error))
            }
        }
    }
}
