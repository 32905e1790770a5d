//! Names in messages.

/// Some of many names: files have hundreds of tensors, a message has room for a few.
pub fn some(names: &[impl AsRef<str>]) -> String {
    const MOST: usize = 5;
    let first: Vec<&str> = names.iter().take(MOST).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(MOST);
    if more == 0 { first.join(", ") } else { format!("{} and {more} more", first.join(", ")) }
}
