//! Encoders: an arena and a team of threads on a plan.

use std::convert::Infallible;
use std::mem;
use std::process;
use std::sync::{Mutex, OnceLock, PoisonError};

use cliptext::prompt::{Prompt, Weighting};
use cliptext::threads::{Threads, default_threads};
use cliptext::{AlignedBytes, Input, Kernels, MAX_SEQUENCES, PassError, Sink};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use self_cell::{MutBorrow, self_cell};

use crate::array::{Row, array};
use crate::error::plan_error;
use crate::options::Given;
use crate::plan::{Plan, SharedPlan};

/// Prompts in the whole context that the arena has room for: one and its negative.
const PADDED: usize = 2;

/// What an encoder borrows.
struct Parts {
    plan: SharedPlan,
    arena: MutBorrow<AlignedBytes>,
    team: Threads,
}

type Running<'p> = cliptext::Encoder<'p, &'p Threads>;

self_cell!(
    /// An encoder with what it borrows.
    struct Cell {
        owner: Parts,
        #[covariant]
        dependent: Running,
    }
);

/// An encoder. A pass takes it for itself: threads that share one take turns.
#[pyclass(frozen, module = "cliptext_encoder._core")]
pub(crate) struct Encoder {
    /// Always there until the encoder is dropped.
    cell: Option<Mutex<Cell>>,
    plan: SharedPlan,
    arena_bytes: usize,
    kernel: &'static str,
    threads: usize,
    /// The hidden states of the empty prompt, from which ComfyUI's weights go, once they were needed.
    empty: OnceLock<Vec<f32>>,
    /// The process that started the team.
    process: u32,
}

#[pymethods]
impl Encoder {
    #[new]
    fn new(py: Python<'_>, plan: &Plan, threads: Option<usize>, kernel: Option<&str>) -> PyResult<Self> {
        let threads = threads.unwrap_or_else(default_threads);
        let shared = plan.shared.clone();
        let kernels = match kernel {
            None => shared.view().kernels().map_err(|error| plan_error(&plan.name, error))?,
            Some(name) => named(name)?,
        };
        py.detach(|| {
            let team = Threads::start(threads)
                .map_err(|error| PyOSError::new_err(format!("starting {threads} threads: {error}")))?;
            let arena_bytes = shared.view().arena_bytes(PADDED);
            let arena = MutBorrow::new(AlignedBytes::zeroed(arena_bytes));
            let parts = Parts { plan: shared.clone(), arena, team };
            let cell = Cell::try_new(parts, |parts| {
                cliptext::Encoder::with(parts.plan.view(), parts.arena.borrow_mut(), kernels, &parts.team)
            });
            let cell = cell.map_err(|error| plan_error(&plan.name, error))?;
            let (kernel, process) = (kernels.name(), process::id());
            Ok(Self {
                cell: Some(Mutex::new(cell)),
                plan: shared,
                arena_bytes,
                kernel,
                threads,
                empty: OnceLock::new(),
                process,
            })
        })
    }

    #[getter]
    fn kernel(&self) -> &str {
        self.kernel
    }

    #[getter]
    fn threads(&self) -> usize {
        self.threads
    }

    /// Encodes as many of the first texts as one pass takes. Other Python threads go on meanwhile.
    fn encode<'py>(&self, py: Python<'py>, texts: Vec<String>, pad: bool) -> PyResult<Vec<Row<'py>>> {
        let rows = py.detach(|| {
            let inputs: Vec<Input<'_>> = texts
                .iter()
                .take(self.at_once(&texts, pad))
                .map(|text| if pad { Input::Text(text) } else { Input::Unpadded(text) })
                .collect();
            self.with(|encoder| {
                let mut rows = Rows::default();
                encoder.pass(&inputs, &mut rows).map(|()| rows)
            })
        });
        Ok(rows.map_err(pass_error)?.0.iter().map(|encoded| to_python(py, encoded)).collect())
    }

    /// Encodes a prompt of at least so many chunks. Other Python threads go on meanwhile.
    fn encode_prompt<'py>(
        &self,
        py: Python<'py>,
        text: &str,
        options: Given,
        chunks: usize,
    ) -> PyResult<Row<'py>> {
        let encoded = py.detach(|| {
            let mut prompt = self.plan.read("prompt", text, &options)?;
            prompt.fill(chunks).map_err(|error| PyValueError::new_err(error.to_string()))?;
            self.states(&prompt).map_err(pass_error)
        });
        Ok(to_python(py, &encoded?))
    }
}

impl Encoder {
    /// The hidden states and the pooled row of a prompt.
    fn states(&self, prompt: &Prompt) -> Result<Encoded, PassError<Infallible>> {
        let plan = self.plan.view();
        let mut hidden = vec![0.0; prompt.chunks() * plan.context() * plan.width()];
        let mut pooled = plan.manifest().pooled.map(|rows| vec![0.0; rows.columns as usize]);
        self.with(|encoder| {
            let empty = (prompt.weighting() == Weighting::Comfy)
                .then(|| self.empty.get_or_init(|| encoder.encode("").hidden().to_vec()).as_slice());
            encoder.encode_prompt(prompt, empty, &mut hidden, pooled.as_deref_mut())
        })?;
        Ok((hidden, pooled))
    }

    /// How many of the first texts one pass takes: without padding, as many short ones as share the arena.
    fn at_once(&self, texts: &[String], pad: bool) -> usize {
        let plan = self.plan.view();
        let (mut count, mut rows) = (0, 0);
        for text in texts.iter().take(MAX_SEQUENCES) {
            let own =
                if pad || !plan.is_causal() { plan.context() } else { plan.tokenizer().encode(text).len() };
            if count > 0 && plan.pass_bytes(count + 1, rows + own) > self.arena_bytes {
                break;
            }
            (count, rows) = (count + 1, rows + own);
        }
        count
    }

    /// Waits for its turn.
    fn with<T>(&self, work: impl FnOnce(&mut Running<'_>) -> T) -> T {
        let Some(cell) = &self.cell else { unreachable!("taken when the encoder is dropped") };
        // After a panic the next pass begins anew: it reads only what it has written.
        let mut cell = cell.lock().unwrap_or_else(PoisonError::into_inner);
        cell.with_dependent_mut(|_, encoder| work(encoder))
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // In a forked child the team's threads are gone, and whoever waited for their end would wait for ever.
        if self.process != process::id() {
            mem::forget(self.cell.take());
        }
    }
}

/// The kernels called `name`.
fn named(name: &str) -> PyResult<Kernels> {
    Kernels::named(name).map_err(|error| {
        let names: Vec<_> = Kernels::available().map(Kernels::name).collect();
        PyValueError::new_err(format!("kernel {name:?}: {error}; this CPU runs {}", names.join(", ")))
    })
}

fn pass_error(error: PassError<Infallible>) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// A sequence's hidden states and pooled row.
type Encoded = (Vec<f32>, Option<Vec<f32>>);

fn to_python<'py>(py: Python<'py>, (hidden, pooled): &Encoded) -> Row<'py> {
    (array(py, hidden), pooled.as_ref().map(|row| array(py, row)))
}

/// What a pass makes, one sequence after the other.
#[derive(Default)]
struct Rows(Vec<Encoded>);

impl Sink for Rows {
    fn hidden(&mut self, _sequence: usize, rows: &[f32]) {
        self.0.push((rows.to_vec(), None));
    }

    fn pooled(&mut self, sequence: usize, row: &[f32]) {
        if let Some((_, pooled)) = self.0.get_mut(sequence) {
            *pooled = Some(row.to_vec());
        }
    }
}
