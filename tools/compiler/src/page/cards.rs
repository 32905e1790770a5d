//! The figures that stand out.

use std::fmt::Write;

/// A card for each value and what it is.
pub fn of_cards(body: &mut String, cards: &[(String, &str)]) {
    body.push_str("<ul class=\"cards\">");
    for (value, what) in cards {
        let _ = write!(body, "<li><b>{value}</b><span>{what}</span></li>");
    }
    body.push_str("</ul>");
}
