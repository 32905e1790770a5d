//! Templates of texts: `a photo of a {}.`.

/// What stands for the label: Python's `format`, and the one of CLIP_benchmark's lists.
const SLOTS: [&str; 2] = ["{}", "{c}"];

/// The template that is the label itself.
pub const PLAIN: &str = SLOTS[0];

/// Whether `template` says where the label goes.
pub fn has_slot(template: &str) -> bool {
    SLOTS.iter().any(|slot| template.contains(slot))
}

/// `label` in `template`.
pub fn fill(template: &str, label: &str) -> String {
    let (mut text, mut rest) = (String::new(), template);
    let next = |rest: &str| SLOTS.iter().filter_map(|slot| Some((rest.find(slot)?, slot.len()))).min();
    while let Some((at, length)) = next(rest) {
        text.push_str(&rest[..at]);
        text.push_str(label);
        rest = &rest[at + length..];
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

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
