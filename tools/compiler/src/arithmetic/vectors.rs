//! Loops compiled for the vectors of the machine at hand.

/// Defines functions whose bodies are compiled twice on x86-64: for any CPU, and for those with vectors of 256 bits, which run
/// that one. Without fused operations, which stand only where they are written, both give the same bits.
macro_rules! vectorized {
    ($($(#[$attribute:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$attribute])*
        $vis fn $name($($arg: $type),*) {
            #[inline(always)]
            fn plain($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn with_avx2($($arg: $type),*) {
                    plain($($arg),*)
                }
                if std::is_x86_feature_detected!("avx2") {
                    // SAFETY: the CPU was just found to have the instructions.
                    return unsafe { with_avx2($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    )*};
}
pub(crate) use vectorized;
