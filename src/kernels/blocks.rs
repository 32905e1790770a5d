//! Rows cut into vectors, as many in each: counted once, so that loops need not ask.

use core::marker::PhantomData;

/// `R` rows of whole vectors of `N` values.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a, T, const N: usize, const R: usize> {
    starts: [*const [T; N]; R],
    count: usize,
    rows: PhantomData<&'a [T]>,
}

impl<'a, T, const N: usize, const R: usize> Blocks<'a, T, N, R> {
    /// The whole vectors of each row, no more than the shortest has.
    #[inline(always)]
    pub(super) fn of(rows: [&'a [T]; R]) -> Self {
        let starts = rows.map(|row| row.as_ptr().cast());
        let count = rows.iter().map(|row| row.len() / N).min().unwrap_or(0);
        Self { starts, count, rows: PhantomData }
    }

    /// Vectors in each row.
    #[inline(always)]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Vector `index` of row `row`.
    ///
    /// # Safety
    /// `index < count()`, `row < R`.
    #[inline(always)]
    pub(super) unsafe fn at(&self, row: usize, index: usize) -> &'a [T; N] {
        debug_assert!(row < R && index < self.count);
        // SAFETY: the caller's promise: the row has the vector.
        unsafe { &*self.starts.get_unchecked(row).add(index) }
    }
}

/// `R` rows of places for vectors of `N` values.
pub(super) struct BlocksMut<'a, T, const N: usize, const R: usize> {
    starts: [*mut [T; N]; R],
    count: usize,
    rows: PhantomData<&'a mut [T]>,
}

impl<'a, T, const N: usize, const R: usize> BlocksMut<'a, T, N, R> {
    /// The whole vectors of each row, no more than the shortest has.
    #[inline(always)]
    pub(super) fn of(rows: [&'a mut [T]; R]) -> Self {
        let count = rows.iter().map(|row| row.len() / N).min().unwrap_or(0);
        let starts = rows.map(|row| row.as_mut_ptr().cast());
        Self { starts, count, rows: PhantomData }
    }

    /// Vectors in each row.
    #[inline(always)]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Vector `index` of row `row`.
    ///
    /// # Safety
    /// `index < count()`, `row < R`.
    #[inline(always)]
    pub(super) unsafe fn at(&mut self, row: usize, index: usize) -> &mut [T; N] {
        debug_assert!(row < R && index < self.count);
        // SAFETY: the caller's promise: the row has the vector, and nobody else has it while `self` is borrowed.
        unsafe { &mut *self.starts.get_unchecked(row).add(index) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_as_many_as_the_shortest() {
        let (long, short) = ([1u8, 2, 3, 4, 5, 6, 7], [8u8, 9, 10, 11, 12]);
        let blocks = Blocks::<u8, 2, 2>::of([&long, &short]);
        assert_eq!(blocks.count(), 2);
        // SAFETY: there are two of each row.
        assert_eq!(unsafe { (blocks.at(0, 1), blocks.at(1, 1)) }, (&[3, 4], &[10, 11]));
        let (mut first, mut second) = ([0u8; 4], [0u8; 3]);
        let mut places = BlocksMut::<u8, 2, 2>::of([&mut first, &mut second]);
        assert_eq!(places.count(), 1);
        // SAFETY: there is one of each row.
        unsafe { *places.at(1, 0) = [1, 2] };
        assert_eq!((first, second), ([0; 4], [1, 2, 0]));
    }
}
