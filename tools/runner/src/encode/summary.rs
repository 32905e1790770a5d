//! A few lines about an embedding.

use std::fmt::Write as _;

use crate::output::Encoded;
use crate::prompts::shown;

/// Shape, first rows and pooled output.
pub(super) fn summary(encoded: &Encoded<'_>) -> String {
    let mut out = format!("{}: [{}, {}]\n", shown(encoded.text), encoded.tokens(), encoded.width);
    let rows = encoded.hidden.chunks(encoded.width);
    for (id, row) in encoded.ids.iter().zip(rows).take(4) {
        let _ = write!(out, "  {id:>5}:");
        for value in row.iter().take(6) {
            let _ = write!(out, " {value:>9.5}");
        }
        let _ = writeln!(out, "{}", if row.len() > 6 { " …" } else { "" });
    }
    if let Some(pooled) = encoded.pooled {
        let _ = write!(out, "  pooled [{}]:", pooled.len());
        for value in pooled.iter().take(4) {
            let _ = write!(out, " {value:>9.5}");
        }
        out.push_str(if pooled.len() > 4 { " …\n" } else { "\n" });
    }
    out.push_str("  (write all of it with -o FILE.npy)");
    out
}
