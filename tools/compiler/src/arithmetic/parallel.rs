//! Independent pieces of work over the machine's cores.

use std::sync::Mutex;
use std::thread;

/// Calls `work` with each of `items`, on as many threads as the machine has cores. Which thread takes which item is
/// left to chance, so `work` must not depend on it.
pub fn each<T: Send>(items: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    if threads == 1 {
        return items.for_each(work);
    }
    let items = Mutex::new(items);
    let take = || items.lock().ok()?.next();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = take() {
                    work(item);
                }
            });
        }
    });
}
