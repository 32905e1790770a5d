//! `cliptext_encoder._core`: plans and encoders as Python objects. The package around it, in Python, makes NumPy's arrays of what comes
//! out.
#![deny(unsafe_code)]

mod array;
mod bytes;
mod encoder;
mod error;
mod options;
mod pack;
mod plan;

use pyo3::prelude::*;

use encoder::Encoder;
use error::{PackError, PlanError};
use pack::Pack;
use plan::Plan;

#[pymodule]
mod _core {
    use super::*;

    #[pymodule_export]
    use super::{Encoder, Pack, Plan};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("PlanError", module.py().get_type::<PlanError>())?;
        module.add("PackError", module.py().get_type::<PackError>())?;
        module.add("MAX_SEQUENCES", cliptext::MAX_SEQUENCES)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
