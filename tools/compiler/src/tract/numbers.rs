//! The numbers inside a tract tensor.

use tract_core::prelude::{Datum, Tensor};

/// The tensor's values, row-major; `None` if it is of another type.
pub fn numbers<D: Datum>(tensor: &Tensor) -> Option<&[D]> {
    if tensor.datum_type() != D::datum_type() {
        return None;
    }
    tensor.try_as_plain_ram().ok()?.as_slice::<D>().ok()
}
