//! Errors as Python's exceptions.

use std::fmt::Display;
use std::io;
use std::path::Path;

use pyo3::create_exception;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

create_exception!(
    cliptext_encoder,
    PlanError,
    PyValueError,
    "A plan that can't be used: damaged, of another version, or compiled for another kind of CPU."
);

create_exception!(
    cliptext_encoder,
    PackError,
    PyValueError,
    "A prompt pack that can't be used: damaged, or of another version."
);

/// An error of the plan called `name`.
pub(crate) fn plan_error(name: &str, error: impl Display) -> PyErr {
    PlanError::new_err(format!("{name}: {error}"))
}

/// An error of the file at `path`: the subclass of `OSError` that Python has for it, with number and name.
pub(crate) fn file_error(path: &Path, error: &io::Error) -> PyErr {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(code) => {
            let plain = text.strip_suffix(&format!(" (os error {code})")).unwrap_or(&text).to_owned();
            PyOSError::new_err((code, plain, path.as_os_str().to_owned()))
        }
        None => PyOSError::new_err(format!("{}: {text}", path.display())),
    }
}
