//! How a prompt is read, as Python says it.

use std::fmt::Display;

use cliptext::prompt::{Chunks, Options};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// [`Options`] as Python gives them: the weights' name, the chunks as text or `None`, the tokens in which a comma is looked for.
pub(crate) type Given = (String, Option<String>, u8);

/// The options that are given.
pub(crate) fn options((weights, chunks, comma): &Given) -> PyResult<Options> {
    let weighting = weights.parse().map_err(|error| wrong("weights", weights, error))?;
    let chunks = match chunks {
        None => Chunks::One,
        Some(text) => text.parse().map_err(|error| wrong("chunks", text, error))?,
    };
    Ok(Options { weighting, chunks, comma: *comma })
}

fn wrong(name: &str, value: &str, error: impl Display) -> PyErr {
    PyValueError::new_err(format!("{name}={value}: {error}"))
}
