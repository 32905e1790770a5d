//! Values on their way to NumPy.

use pyo3::prelude::*;
use pyo3::types::PyByteArray;

/// Hidden states and a pooled row, f32 in the machine's order.
pub(crate) type Row<'py> = (Bound<'py, PyByteArray>, Option<Bound<'py, PyByteArray>>);

/// The bytes of `values`, which NumPy takes for an array's memory.
pub(crate) fn array<'py>(py: Python<'py>, values: &[f32]) -> Bound<'py, PyByteArray> {
    PyByteArray::new(py, bytemuck::cast_slice(values))
}
