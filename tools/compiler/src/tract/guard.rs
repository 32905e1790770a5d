//! tract panics on some damaged graphs, such as an index beyond its table. Here that becomes an error, without noise.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use anyhow::{Result, anyhow};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic inside it is an error that holds the panic's message, and is not printed.
pub(crate) fn guard<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                usual(panic);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    result.unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(anyhow!(
            "tract gave up on this graph ({}); export the model again",
            said.unwrap_or("without a word")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::guard;

    #[test]
    fn a_panic_becomes_an_error() {
        let index = std::hint::black_box(3);
        let said = guard(|| Ok([0u8; 2][index])).expect_err("an error").to_string();
        assert!(said.contains("index out of bounds"), "{said}");
        assert!(guard(|| Ok(7)).is_ok_and(|seven| seven == 7));
    }
}
