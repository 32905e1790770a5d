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
}

impl Source {
    /// The plan at `path`, or the built-in one.
    pub(crate) fn open(path: Option<&Path>) -> Outcome<Self> {
        let Some(path) = path else {
            eprintln!("cliptext-run: no plan given: using the built-in demonstration plan");
            return Ok(Source::BuiltIn);
        };
        let file = PlanFile::open(path).map_err(|error| work(path.display(), error))?;
        Ok(Source::File(file, path.display().to_string()))
    }

    /// The plan, checked.
    pub(crate) fn load(&self) -> Outcome<Plan<'_>> {
        match self {
            Source::BuiltIn => Plan::load(&BUILT_IN.0).map_err(|error| work("the built-in plan", error)),
            Source::File(file, name) => Plan::load(file.bytes()).map_err(|error| work(name, error)),
        }
    }
}
