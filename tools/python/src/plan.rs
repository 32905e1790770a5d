//! Plans: loaded once, shared by encoders and threads.

use std::path::PathBuf;
use std::sync::Arc;

use cliptext::prompt::Prompt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use self_cell::self_cell;

use crate::bytes::Bytes;
use crate::error::plan_error;
use crate::options::{self, Given};

type View<'p> = cliptext::Plan<'p>;

self_cell!(
    /// A plan with its bytes.
    struct Loaded {
        owner: Bytes,
        #[covariant]
        dependent: View,
    }
);

/// A plan that is loaded, to be shared.
#[derive(Clone)]
pub(crate) struct SharedPlan(Arc<Loaded>);

impl SharedPlan {
    fn load(bytes: Bytes) -> Result<Self, cliptext::LoadError> {
        let loaded = Loaded::try_new(bytes, |bytes| cliptext::Plan::load(bytes.get()))?;
        Ok(Self(Arc::new(loaded)))
    }

    /// A text as a prompt, which errors call `name`.
    pub(crate) fn read(&self, name: &str, text: &str, options: &Given) -> PyResult<Box<Prompt>> {
        let mut prompt = Box::new(Prompt::new());
        match prompt.read(self.view().tokenizer(), text, options::options(options)?) {
            Ok(()) => Ok(prompt),
            Err(error) => Err(PyValueError::new_err(format!("{name}: {error}"))),
        }
    }

    pub(crate) fn view(&self) -> &View<'_> {
        self.0.borrow_dependent()
    }
}

/// A plan: a model's text encoder, compiled.
#[pyclass(frozen, module = "cliptext_encoder._core")]
pub(crate) struct Plan {
    pub(crate) shared: SharedPlan,
    /// What it is called in errors.
    pub(crate) name: String,
}

#[pymethods]
impl Plan {
    /// The plan in a file, mapped or read.
    #[new]
    fn open(py: Python<'_>, path: PathBuf, read: bool) -> PyResult<Self> {
        let name = path.display().to_string();
        py.detach(|| {
            let shared =
                SharedPlan::load(Bytes::open(&path, read)?).map_err(|error| plan_error(&name, error))?;
            Ok(Self { shared, name })
        })
    }

    /// The plan in `data`, which is copied.
    #[staticmethod]
    fn from_bytes(data: &[u8]) -> PyResult<Self> {
        let name = String::from("the plan's bytes");
        let shared = SharedPlan::load(Bytes::copy(data));
        Ok(Self { shared: shared.map_err(|error| plan_error(&name, error))?, name })
    }

    #[getter]
    fn context(&self) -> usize {
        self.shared.view().context()
    }

    #[getter]
    fn width(&self) -> usize {
        self.shared.view().width()
    }

    #[getter]
    fn pooled_width(&self) -> Option<usize> {
        self.shared.view().manifest().pooled.map(|rows| rows.columns as usize)
    }

    #[getter]
    fn projected(&self) -> bool {
        self.shared.view().is_projected()
    }

    #[getter]
    fn logit_scale(&self) -> Option<f32> {
        self.shared.view().manifest().logit_scale
    }

    #[getter]
    fn hash(&self) -> String {
        self.shared.view().hash().to_string()
    }

    #[getter]
    fn source(&self) -> &str {
        self.shared.view().manifest().source
    }

    #[getter]
    fn producer(&self) -> &str {
        self.shared.view().manifest().producer
    }

    #[getter]
    fn file_bytes(&self) -> u64 {
        self.shared.view().file_bytes()
    }

    fn arena_bytes(&self, sequences: usize) -> usize {
        self.shared.view().arena_bytes(sequences)
    }

    /// The ids of `text`; what has no room is cut off.
    fn tokenize(&self, text: &str, pad: bool) -> Vec<u32> {
        let tokens = self.shared.view().tokenizer().encode(text);
        if pad { tokens.ids().to_vec() } else { tokens.unpadded().to_vec() }
    }

    /// Into how many chunks a text is read, and what falls off.
    fn read(&self, name: &str, text: &str, options: Given) -> PyResult<(usize, Option<String>)> {
        let prompt = self.shared.read(name, text, &options)?;
        let dropped = prompt.dropped().and_then(|range| text.get(range)).map(str::to_owned);
        Ok((prompt.chunks(), dropped))
    }

    /// The ids and weights of each chunk, without start, end and padding.
    fn chunks(&self, name: &str, text: &str, options: Given) -> PyResult<Vec<(Vec<u32>, Vec<f32>)>> {
        let prompt = self.shared.read(name, text, &options)?;
        Ok((0..prompt.chunks())
            .map(|chunk| (prompt.ids(chunk).to_vec(), prompt.weights(chunk).to_vec()))
            .collect())
    }
}
