//! Independent pieces of work over the machine's cores.

use std::sync::Mutex;

/// Rows that are worked on together where they do not depend on one another.
pub const ROWS: usize = 64;

/// As many as the machine has cores.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Calls `work` with each of `items`, on as many threads as the machine has cores. Which thread takes which item is
/// left to chance, so `work` must not depend on it.
pub fn each<T: Send>(items: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
    let threads = threads();
    if threads == 1 {
        return items.for_each(work);
    }
    let items = Mutex::new(items);
    let take = || items.lock().ok()?.next();
    rayon::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|_| {
                while let Some(item) = take() {
                    work(item);
                }
            });
        }
    });
}

/// Calls `work` with each row of `cols` of `values`.
pub fn each_row<T: Send>(values: &mut [T], cols: usize, work: impl Fn(&mut [T]) + Sync) {
    each(values.chunks_mut(ROWS * cols), |rows| rows.chunks_exact_mut(cols).for_each(&work));
}
