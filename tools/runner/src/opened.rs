//! Plans to encode with: whole, in memory, or streamed.

use std::path::Path;

use cliptext::plan::Resident;
use cliptext::threads::default_threads;
use cliptext::{PlanHash, Program};

use crate::failure::{Failure, Outcome};
use crate::plan::{Access, Source};
use crate::streamed::Streamed;

/// A plan that was opened.
pub(crate) enum Opened {
    Whole(Source),
    Streamed(Streamed),
}

/// A plan that is ready to encode with.
pub(crate) struct Loaded<'s> {
    /// What to call it in messages.
    pub(crate) name: &'s str,
    pub(crate) program: Program<'s>,
    pub(crate) constants: Constants<'s>,
}

/// Where its constants are.
pub(crate) enum Constants<'s> {
    Resident(Resident<'s>),
    Streamed(&'s Streamed),
}

impl Constants<'_> {
    /// How many threads encode best, where that is not the usual number: a core is left to the thread that reads and checks.
    pub(crate) fn threads(&self) -> Option<usize> {
        match self {
            Self::Resident(_) => None,
            Self::Streamed(_) => Some(default_threads().saturating_sub(1).max(1)),
        }
    }
}

impl Opened {
    /// The plan at `path`, or the built-in one.
    pub(crate) fn open(path: Option<&Path>, access: Access, is_streamed: bool) -> Outcome<Self> {
        match path.filter(|_| is_streamed) {
            Some(_) if access.read => Err(Failure::Usage(
                "--read reads the plan into memory, --stream never has it there: leave out one of them"
                    .into(),
            )),
            Some(path) => Streamed::open(path).map(Self::Streamed),
            None if is_streamed => {
                Err(Failure::Usage("--stream: the built-in plan is in memory: name a plan's file".into()))
            }
            None => Source::open(path, access).map(Self::Whole),
        }
    }

    /// The plan, checked: of a streamed one all but the constants.
    pub(crate) fn load(&self) -> Outcome<Loaded<'_>> {
        match self {
            Self::Whole(source) => source.to_encode(),
            Self::Streamed(streamed) => {
                let (name, program) = (streamed.name(), streamed.program()?);
                Ok(Loaded { name, program, constants: Constants::Streamed(streamed) })
            }
        }
    }

    /// The plan's hash, from its front where that is enough.
    pub(crate) fn hash(&self) -> Outcome<PlanHash> {
        match self {
            Self::Whole(source) => source.hash(),
            Self::Streamed(streamed) => Ok(streamed.program()?.hash()),
        }
    }
}

impl Source {
    /// The plan, checked, to encode with.
    pub(crate) fn to_encode(&self) -> Outcome<Loaded<'_>> {
        let plan = self.load()?;
        let constants = Constants::Resident(plan.constants());
        Ok(Loaded { name: self.name(), program: plan.program(), constants })
    }
}
