//! Arrays of the caller's, which outlast the next call.

use crate::encoder::Ready;
use crate::pointers::{self, Buffer};
use crate::status::cliptext_status::CLIPTEXT_ARGUMENT;
use crate::status::{Outcome, fail};

/// Arrays that embeddings are copied to. Each may be left out: null, with no values.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct cliptext_arrays {
    /// For the hidden states.
    pub hidden: *mut f32,
    /// Values that `hidden` has place for.
    pub hidden_values: usize,
    /// For the pooled outputs.
    pub pooled: *mut f32,
    /// Values that `pooled` has place for.
    pub pooled_values: usize,
}

/// Arrays that are apart from each other and from what the encoder works in.
pub(crate) struct Arrays {
    pub(crate) hidden: Option<Buffer<f32>>,
    pub(crate) pooled: Option<Buffer<f32>>,
}

impl Arrays {
    /// That the arrays are there is the caller's word.
    pub(crate) unsafe fn given(arrays: *const cliptext_arrays) -> Outcome<Self> {
        // SAFETY: the caller's word.
        let (hidden, pooled) = unsafe {
            let arrays = pointers::one(arrays, "arrays")?;
            let hidden = Buffer::perhaps(arrays.hidden, arrays.hidden_values, "hidden")?;
            (hidden, Buffer::perhaps(arrays.pooled, arrays.pooled_values, "pooled")?)
        };
        if hidden.is_none() && pooled.is_none() {
            return Err(fail(CLIPTEXT_ARGUMENT, format_args!("`arrays` has no array to write to")));
        }
        if let (Some(hidden), Some(pooled)) = (&hidden, &pooled) {
            pointers::apart((&hidden.span(), "`hidden`"), (&pooled.span(), "`pooled`"))?;
        }
        Ok(Self { hidden, pooled })
    }

    /// As [`given`](Self::given), for what an encoder writes.
    pub(crate) unsafe fn of(arrays: *const cliptext_arrays, ready: &Ready) -> Outcome<Self> {
        // SAFETY: the caller's word.
        let arrays = unsafe { Self::given(arrays) }?;
        for (buffer, name) in [(&arrays.hidden, "`hidden`"), (&arrays.pooled, "`pooled`")] {
            if let Some(buffer) = buffer {
                ready.apart(&buffer.span(), name)?;
            }
        }
        Ok(arrays)
    }

    /// Whether there is place for so many rows of so many texts.
    pub(crate) fn hold(&self, rows: usize, texts: usize, ready: &Ready) -> Outcome {
        if let Some(hidden) = &self.hidden {
            hidden.holds(rows.saturating_mul(ready.plan.width()), "hidden")?;
        }
        let columns = ready.plan.manifest().pooled.map_or(0, |place| place.columns as usize);
        self.hold_pooled(texts.saturating_mul(columns), "plan")
    }

    /// Whether there is place for so many pooled values, of which what is encoded with has some.
    pub(crate) fn hold_pooled(&self, values: usize, what: &str) -> Outcome {
        match &self.pooled {
            Some(_) if values == 0 => {
                let text = format_args!("`pooled` is given, but the {what} has no pooled output");
                Err(fail(CLIPTEXT_ARGUMENT, text))
            }
            Some(pooled) => pooled.holds(values, "pooled"),
            None => Ok(()),
        }
    }
}
