//! The parts of prompts, compared with those of the programs whose weights are read.

use std::borrow::ToOwned;
use std::format;
use std::path::Path;
use std::string::String;
use std::vec::Vec;

use serde_json::Value;

use super::error::PromptError;
use super::parts::Parts;
use super::{a1111, comfy};
use crate::tokenizer::Characters;

/// Keeps what it is given.
#[derive(Default)]
struct Kept(Weighted);

impl Parts for Kept {
    fn text(&mut self, text: impl Characters, weight: f64) -> Result<bool, PromptError> {
        // Both ways of reading give the same.
        let mut plain = text.clone();
        let mut twice = String::new();
        while let Some(c) = plain.next_plain().or_else(|| plain.next()) {
            twice.push(c);
        }
        let text: String = text.collect();
        assert_eq!(text, twice);
        self.0.push((text, weight));
        Ok(true)
    }

    fn end_chunk(&mut self, _place: usize) -> bool {
        self.0.push(("BREAK".into(), -1.0));
        true
    }
}

/// Texts with their weights.
type Weighted = Vec<(String, f64)>;

/// The texts of a file of goldens with their parts, `None` where the program fails.
fn goldens(name: &str) -> Vec<(String, Option<Weighted>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/prompts").join(name);
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() >= 200);
    let part = |part: &Value| (part[0].as_str().unwrap().into(), part[1].as_f64().unwrap());
    let case = |case: &Value| {
        let parts = case["parts"].as_array().map(|parts| parts.iter().map(part).collect());
        assert_eq!(parts.is_none(), case["error"] == true);
        (case["text"].as_str().unwrap().into(), parts)
    };
    cases.iter().map(case).collect()
}

/// Whether texts are equal and weights as near as the reader of JSON reads them.
fn same(found: &[(String, f64)], want: &[(String, f64)]) -> bool {
    let near = |(found, want): (&(String, f64), &(String, f64))| {
        found.0 == want.0 && (found.1 - want.1).abs() <= want.1.abs() * 4e-16
    };
    found.len() == want.len() && found.iter().zip(want).all(near)
}

#[test]
fn a1111_s_parts_are_that_program_s() {
    for (text, want) in goldens("a1111.json") {
        let mut kept = Kept::default();
        match (a1111::read(&text, &mut kept), want) {
            (Ok(()), Some(mut want)) => {
                // It makes a part of an empty prompt.
                if kept.0.is_empty() {
                    want.retain(|(part, _)| !part.is_empty());
                }
                assert!(same(&kept.0, &want), "{text:?}: {:?}, {want:?}", kept.0);
            }
            (Err(PromptError::Number { .. }), None) => {}
            (read, want) => panic!("{text:?}: {read:?}, {want:?}"),
        }
    }
}

#[test]
fn comfy_s_parts_are_that_program_s() {
    let in_pieces = |(mut part, weight): (String, f64)| {
        let mut pieces = Vec::new();
        while let Some(at) = part
            .match_indices("embedding:")
            .map(|(at, _)| at)
            .find(|&at| part[..at].ends_with(char::is_whitespace))
        {
            let rest = part.split_off(at);
            pieces.push((core::mem::replace(&mut part, rest), weight));
        }
        pieces.push((part, weight));
        pieces
    };
    for (text, want) in goldens("comfy.json") {
        let mut kept = Kept::default();
        comfy::read(&text, &mut kept).unwrap();
        let want: Vec<_> = want.unwrap().into_iter().flat_map(in_pieces).collect();
        assert!(same(&kept.0, &want), "{text:?}: {:?}, {want:?}", kept.0);
    }
}

/// Whether `parts` keeps all of a text whose markup is `text`.
fn read_a1111(text: &str) -> Result<Weighted, PromptError> {
    let mut kept = Kept::default();
    a1111::read(text, &mut kept).map(|()| kept.0)
}

fn read_comfy(text: &str) -> Result<Weighted, PromptError> {
    let mut kept = Kept::default();
    comfy::read(text, &mut kept).map(|()| kept.0)
}

#[test]
fn limits_are_kept_and_named() {
    let open = |spans: usize| format!("({}", "a[b]".repeat(spans / 2));
    assert_eq!(read_a1111(&open(a1111::MAX_SPANS)).unwrap().len(), a1111::MAX_SPANS);
    let many = open(a1111::MAX_SPANS) + "a";
    let at = many.len() - 1;
    assert_eq!(read_a1111(&many), Err(PromptError::Spans { limit: a1111::MAX_SPANS, at }));
    // Closed brackets are no limit, nor is one weight.
    assert_eq!(read_a1111(&"a[b]".repeat(5000)).unwrap().len(), 10_000);
    assert_eq!(read_a1111(&format!("({}", "a\\(()b".repeat(5000))).unwrap().len(), 1);
    let nested = |depth: usize| "(".repeat(depth) + "a" + &")".repeat(depth);
    let deepest = read_comfy(&nested(comfy::MAX_DEPTH)).unwrap();
    assert!(deepest.len() == 1 && deepest[0].1 > 1e5);
    let error = read_comfy(&nested(comfy::MAX_DEPTH + 1));
    assert_eq!(error, Err(PromptError::Depth { limit: comfy::MAX_DEPTH, at: comfy::MAX_DEPTH }));
}

#[test]
fn unclosed_brackets_by_the_ten_thousand_take_no_time() {
    let started = std::time::Instant::now();
    for open in ["(", "[", "(["] {
        let parts = read_a1111(&(open.repeat(10_000) + "a")).unwrap();
        assert_eq!(parts.len(), 1);
        assert!(open == "([" || !(1e-300..1e300).contains(&parts[0].1), "{open}: {}", parts[0].1);
        // By the million, and closed.
        assert_eq!(read_a1111(&(open.repeat(500_000) + "a")).unwrap().len(), 1);
        let closed = open.repeat(250_000) + "a" + &open.replace('(', ")").replace('[', "]").repeat(250_000);
        assert_eq!(read_a1111(&closed).unwrap().len(), 1);
        assert_eq!(read_a1111(&open.repeat(500_000)), Ok(Vec::new()));
        let texts =
            [open.repeat(10_000) + "a", open.repeat(500_000) + "a", (open.to_owned() + "a)").repeat(200_000)];
        for text in texts {
            assert!(read_comfy(&text).is_ok_and(|parts| !parts.is_empty()));
        }
    }
    assert!(read_comfy(&("(".repeat(500_000) + "a" + &")".repeat(500_000))).is_err());
    assert!(read_comfy(&("(".repeat(500_000) + "a" + &")".repeat(200_000))).is_err());
    assert!(read_comfy(&" embedding:x".repeat(50_000)).is_ok());
    // Seconds under emulation; hours, were it quadratic.
    assert!(started.elapsed().as_secs() < 300, "{:?}", started.elapsed());
}
