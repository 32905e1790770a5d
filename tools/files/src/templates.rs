//! Templates of texts: `a photo of a {}.`.

/// What stands for the label: Python's `format`, and the one of CLIP_benchmark's lists.
const SLOTS: [&str; 2] = ["{}", "{c}"];

/// The template that is the label itself.
pub const PLAIN: &str = SLOTS[0];

/// Whether `template` says where the label goes.
pub fn has_slot(template: &str) -> bool {
    SLOTS.iter().any(|slot| template.contains(slot))
}

/// Bytes that a label in its template takes, at the most.
const MOST_BYTES: usize = 16 << 20;

/// The parts of `template` between the places for the label, in one pass: looked for one by one, a slot that is nowhere would be looked
/// for behind every other.
fn parts(template: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(template);
    std::iter::from_fn(move || {
        let text = rest?;
        let slot = text.match_indices('{').find_map(|(at, _)| {
            let slot = SLOTS.iter().find(|slot| text[at..].starts_with(**slot))?;
            Some((at, at + slot.len()))
        });
        let (part, behind) = slot.map_or((text, None), |(at, end)| (&text[..at], Some(&text[end..])));
        rest = behind;
        Some(part)
    })
}

/// `label` in `template`.
pub fn fill(template: &str, label: &str) -> String {
    parts(template).collect::<Vec<_>>().join(label)
}

/// Whether every label in every template is a text that can be had: a long label in many places takes more memory than both.
///
/// # Errors
/// Which template is too much for the longest label.
pub fn check(templates: &[String], labels: &[String]) -> Result<(), String> {
    let longest = labels.iter().map(String::len).max().unwrap_or(0);
    for (number, template) in (1..).zip(templates) {
        let places = parts(template).count() - 1;
        if places.saturating_mul(longest).saturating_add(template.len()) > MOST_BYTES {
            return Err(format!(
                "template {number} has {places} places for the label, and the longest label has {longest} bytes: more than {} MB together",
                MOST_BYTES >> 20
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_places_take_linear_time_and_a_bounded_size() {
        let many = "{}".repeat(1 << 20);
        assert_eq!(fill(&many, "ab").len(), 2 << 20);
        let (templates, label) = ([String::from("a {}"), many], |bytes: usize| ["x".repeat(bytes)]);
        assert_eq!(check(&templates, &label(8)), Ok(()));
        let error = check(&templates, &label(16)).unwrap_err();
        assert!(error.starts_with("template 2 has 1048576 places"), "{error}");
    }

    #[test]
    fn labels_stand_where_templates_have_their_slot() {
        assert_eq!(fill("a photo of a {}.", "cat"), "a photo of a cat.");
        assert_eq!(fill("a {c}, the {c}", "cat"), "a cat, the cat");
        assert_eq!(fill("a {}", "{c}"), "a {c}");
        assert_eq!(fill("{c}{}{x}", "{} {c}"), "{} {c}{} {c}{x}");
        assert_eq!(fill(PLAIN, "cat"), "cat");
        assert!(has_slot("{c}") && !has_slot("{cat}"));
    }
}
