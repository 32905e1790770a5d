//! What the compiler is told so that a plan's weights suit a CPU.

use cliptext::PackingError;
use cliptext::kernels::layout::Packing;

/// The compiler's option that packs weights so.
pub(crate) fn compiled_with(packing: Packing) -> &'static str {
    match packing {
        Packing::Int8x4 => "--target generic",
        Packing::F32 => "--precision f32",
        Packing::Int8x8 => "--target i8mm",
        Packing::Int8x16 => "--target neon",
    }
}

/// The error, and what to do.
pub(crate) fn advice(error: PackingError) -> String {
    format!(
        "{error}: the plan was compiled with {}, compile it with {}",
        compiled_with(error.packing),
        compiled_with(error.wants)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_packing_comes_with_what_to_compile_for() {
        let error = PackingError { packing: Packing::Int8x16, kernel: "avx2", wants: Packing::Int8x4 };
        assert_eq!(
            advice(error),
            "the weights are packed as int8x16, which kernel avx2 does not read: it wants them as int8x4: the plan was \
             compiled with --target neon, compile it with --target generic"
        );
    }
}
