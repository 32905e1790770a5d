//! Copies that can't fail.

/// Copies the first values of `from` to the front of `to`, as many as both have.
#[inline(always)]
pub(crate) fn copy<T: Copy>(to: &mut [T], from: &[T]) {
    // Not `copy_from_slice`: where the compiler saves space it leaves the check of the lengths in.
    for (to, &from) in to.iter_mut().zip(from) {
        *to = from;
    }
}
