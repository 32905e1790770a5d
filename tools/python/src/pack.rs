//! Prompt packs: named embeddings in a file, read without a plan.

use std::path::PathBuf;

use cliptext::PackEntry;
use cliptext::pack::Values;
use pyo3::prelude::*;
use self_cell::self_cell;

use crate::array::{Row, array};
use crate::bytes::Bytes;
use crate::error::PackError;

type View<'p> = cliptext::Pack<'p>;

self_cell!(
    /// A pack with its bytes.
    struct Loaded {
        owner: Bytes,
        #[covariant]
        dependent: View,
    }
);

/// A prompt pack.
#[pyclass(frozen, module = "cliptext_encoder._core")]
pub(crate) struct Pack(Loaded);

#[pymethods]
impl Pack {
    /// The pack in a file, mapped or read.
    #[new]
    fn open(py: Python<'_>, path: PathBuf, read: bool) -> PyResult<Self> {
        py.detach(|| Self::load(&path.display().to_string(), Bytes::open(&path, read)?))
    }

    /// The pack in `data`, which is copied.
    #[staticmethod]
    fn from_bytes(data: &[u8]) -> PyResult<Self> {
        Self::load("the pack's bytes", Bytes::copy(data))
    }

    #[getter]
    fn width(&self) -> usize {
        self.view().width()
    }

    #[getter]
    fn pooled_width(&self) -> Option<u32> {
        Some(self.view().manifest().pooled).filter(|&columns| columns > 0)
    }

    #[getter]
    fn plan_hash(&self) -> String {
        self.view().manifest().plan_hash().to_string()
    }

    #[getter]
    fn source(&self) -> &str {
        self.view().manifest().source
    }

    #[getter]
    fn producer(&self) -> &str {
        self.view().manifest().producer
    }

    fn __len__(&self) -> usize {
        self.view().len()
    }

    fn names(&self) -> Vec<&str> {
        self.view().entries().map(|entry| entry.name()).collect()
    }

    /// Prompt, options, ids of its rows and what was dropped of the entry called `name`.
    fn entry(&self, name: &str) -> Option<(&str, &str, Vec<u32>, Option<&str>)> {
        let entry = self.view().find(name)?;
        let dropped = entry.dropped().and_then(|range| entry.prompt().get(range));
        Some((entry.prompt(), entry.options(), entry.ids().to_vec(), dropped))
    }

    /// The arrays of the entry called `name`.
    fn values<'py>(&self, py: Python<'py>, name: &str) -> Option<Row<'py>> {
        let entry: PackEntry<'_> = self.view().find(name)?;
        let single = |values: Values<'_>| match values.as_f32() {
            Some(values) => array(py, values),
            None => array(py, &values.iter().collect::<Vec<f32>>()),
        };
        Some((single(entry.hidden()), entry.pooled().map(single)))
    }
}

impl Pack {
    fn load(name: &str, bytes: Bytes) -> PyResult<Self> {
        let loaded = Loaded::try_new(bytes, |bytes| cliptext::Pack::load(bytes.get()));
        loaded.map(Self).map_err(|error| PackError::new_err(format!("{name}: {error}")))
    }

    fn view(&self) -> &View<'_> {
        self.0.borrow_dependent()
    }
}
