//! Prompts in chunks: which tokens they have, and what an encoder makes of them.

mod common;

use cliptext::prompt::{
    Chunks, MAX_CHUNKS, MAX_TOKENS, Options, Prompt, PromptError, USUAL_COMMA, Weighting,
};
use cliptext::{AlignedBytes, Encoder, IdsError, Input, PassError, Plan, Tokenizer};
use common::{PROMPTS, hash, long, one_tower, two_towers};

const NONE: Options = Options { weighting: Weighting::None, chunks: Chunks::One, comma: 0 };
const AUTO: Options = Options { chunks: Chunks::Auto, ..NONE };

/// The ids of each chunk.
fn chunks(prompt: &Prompt) -> Vec<Vec<u32>> {
    (0..prompt.chunks()).map(|chunk| prompt.ids(chunk).to_vec()).collect()
}

fn read(tokenizer: &Tokenizer<'_>, text: &str, options: Options) -> Vec<Vec<u32>> {
    let mut prompt = Prompt::new();
    prompt.read(tokenizer, text, options).unwrap();
    assert!((0..prompt.chunks()).all(|chunk| prompt.ids(chunk).len() == prompt.weights(chunk).len()));
    chunks(&prompt)
}

#[test]
fn without_options_the_ids_are_the_tokenizer_s() {
    for file in [one_tower(), two_towers(), long()] {
        let plan = Plan::load(file.bytes()).unwrap();
        let tokenizer = plan.tokenizer();
        let mut prompt = Prompt::new();
        for text in PROMPTS.iter().copied().chain(["BREAK a BREAK", "(a:1.3)"]) {
            prompt.read(tokenizer, text, NONE).unwrap();
            let tokens = tokenizer.encode(text);
            let own = tokens.unpadded();
            assert_eq!(chunks(&prompt), [&own[1..own.len() - 1]], "{text:?}");
            assert_eq!(prompt.dropped().is_some(), tokens.is_truncated(), "{text:?}");
            assert!(!prompt.is_weighted());
        }
    }
}

#[test]
fn long_prompts_fill_chunk_after_chunk() {
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    let tokenizer = plan.tokenizer();
    let [cat, dog] = ["cat", "dog"].map(|word| tokenizer.encode(word).unpadded()[1]);
    for count in [0, 1, 74, 75, 76, 149, 150, 151, MAX_TOKENS] {
        let text = "cat ".repeat(count);
        let want: Vec<usize> = if count == 0 { vec![0] } else { vec![75; count / 75] };
        let want = want.into_iter().chain((count % 75 > 0).then_some(count % 75));
        assert!(read(tokenizer, &text, AUTO).iter().map(Vec::len).eq(want), "{count}");
    }
    // A word of more tokens than any chunk has.
    let word = "é".repeat(300);
    let all = read(tokenizer, &word, AUTO).concat();
    assert_eq!(all[..75], tokenizer.encode(&word).unpadded()[1..76]);
    assert!(all.len() > 150);
    // BREAK begins a chunk, however little is in the one before.
    assert_eq!(read(tokenizer, "cat BREAK dog", AUTO), [vec![cat], vec![dog]]);
    assert_eq!(read(tokenizer, " BREAK BREAK dog BREAK ", AUTO), [vec![], vec![], vec![dog]]);
    assert_eq!(read(tokenizer, "break", AUTO), read(tokenizer, "BREAK", NONE));
}

#[test]
fn what_falls_off_is_told_by_its_bytes() {
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    let mut prompt = Prompt::new();
    let mut dropped = |text: &str, options: Options| {
        prompt.read(plan.tokenizer(), text, options).unwrap();
        prompt.dropped().map(|range| text[range].to_owned())
    };
    let full = "cat ".repeat(75);
    let two = Options { chunks: Chunks::Exactly(2), ..NONE };
    assert_eq!(dropped(&full, NONE), None);
    assert_eq!(dropped(&format!("{full} über  dog. "), NONE).as_deref(), Some("über  dog."));
    assert_eq!(dropped(&format!("{full}{full}\u{3000}dog"), two).as_deref(), Some("dog"));
    assert_eq!(dropped(&format!("{full}<|endoftext|>dog"), NONE).as_deref(), Some("<|endoftext|>dog"));
    // A word that is cut falls off as a whole.
    let cut = format!("{} éééééé dog", "cat ".repeat(74));
    assert_eq!(dropped(&cut, NONE).as_deref(), Some("éééééé dog"));
    assert_eq!(dropped("cat BREAK cat BREAK dog", two).as_deref(), Some("dog"));
    assert_eq!(dropped("cat BREAK cat BREAK", two), None);
}

#[test]
fn limits_are_kept_and_named() {
    for (file, most) in [(one_tower(), MAX_CHUNKS), (long(), 2)] {
        let plan = Plan::load(file.bytes()).unwrap();
        let tokenizer = plan.tokenizer();
        assert_eq!(Prompt::max_chunks(plan.context()), most);
        let room = plan.context() - 2;
        let mut prompt = Prompt::new();
        let mut read = |text: &str, chunks| {
            let read = prompt.read(tokenizer, text, Options { chunks, ..NONE });
            read.map(|()| prompt.chunks())
        };
        assert_eq!(read("", Chunks::Exactly(most as u8)), Ok(most));
        for asked in [0, most + 1, 255] {
            let error = read("", Chunks::Exactly(asked as u8));
            assert_eq!(error, Err(PromptError::Chunks { asked, limit: most }));
        }
        let full = "a ".repeat(most * room);
        assert_eq!(read(&full, Chunks::Auto), Ok(most));
        let error = read(&(full.clone() + " a"), Chunks::Auto).unwrap_err();
        assert_eq!(error, PromptError::TooLong { limit: most, at: full.len() + 1 });
        assert_eq!(read(&"BREAK ".repeat(most), Chunks::Auto), Ok(most));
        assert!(read(&"BREAK ".repeat(most + 1), Chunks::Auto).is_err());
        // A megabyte is no trouble.
        assert_eq!(read(&"word ".repeat(200_000), Chunks::Exactly(2)), Ok(2));
        assert_eq!(prompt.fill(most), Ok(()));
        assert_eq!(prompt.fill(most + 1), Err(PromptError::Chunks { asked: most + 1, limit: most }));
        assert_eq!(
            (prompt.chunks(), prompt.ids(most - 1).len(), prompt.ids(most)),
            (most, room * usize::from(most == 2), &[][..])
        );
    }
    assert!(size_of::<Prompt>() < 5 << 10, "{}", size_of::<Prompt>());
}

#[test]
fn chunks_are_encoded_one_by_one_and_joined() {
    let text = format!("{} BREAK a running dog", PROMPTS[5]);
    for file in [one_tower(), two_towers()] {
        let plan = Plan::load(file.bytes()).unwrap();
        let mut prompt = Prompt::new();
        prompt.read(plan.tokenizer(), &text, AUTO).unwrap();
        assert!(prompt.chunks() >= 3);
        let part = plan.context() * plan.width();
        let columns = plan.manifest().pooled.unwrap().columns as usize;
        let mut results = Vec::new();
        for sequences in [1, 2, 5] {
            let mut arena = AlignedBytes::zeroed(plan.arena_bytes(sequences));
            let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
            let (mut hidden, mut pooled) = (vec![f32::NAN; prompt.chunks() * part], vec![f32::NAN; columns]);
            encoder.encode_prompt(&prompt, None, &mut hidden, Some(&mut pooled)).unwrap();
            for (chunk, rows) in hidden.chunks_exact(part).enumerate() {
                let alone = encoder.encode_from(Input::Content(prompt.ids(chunk)), &mut ()).unwrap();
                assert_eq!(hash(alone.hidden()), hash(rows));
                if chunk == 0 {
                    assert_eq!(hash(alone.pooled().unwrap()), hash(&pooled));
                }
            }
            // The last is what a text of its own is, padded as each tower pads.
            let last = encoder.encode("a running dog");
            assert_eq!(hash(last.hidden()), hash(&hidden[hidden.len() - part..]));
            results.push(hash(&hidden));
        }
        assert!(results.iter().all(|&result| result == results[0]));
    }
}

#[test]
fn places_that_do_not_fit_are_refused() {
    let (file, other) = (one_tower(), long());
    let plan = Plan::load(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
    let mut prompt = Prompt::new();
    let needed = plan.context() * plan.width();
    let mut hidden = vec![0.0; needed + 1];
    let unread = encoder.encode_prompt(&prompt, None, &mut hidden, None);
    assert_eq!(unread, Err(PassError::Context { given: 0, needed: 77 }));
    prompt.read(Plan::load(other.bytes()).unwrap().tokenizer(), "a", NONE).unwrap();
    let foreign = encoder.encode_prompt(&prompt, None, &mut hidden, None);
    assert_eq!(foreign, Err(PassError::Context { given: 248, needed: 77 }));
    prompt.read(plan.tokenizer(), "a", NONE).unwrap();
    let given = needed + 1;
    let error = encoder.encode_prompt(&prompt, None, &mut hidden, None);
    assert_eq!(error, Err(PassError::Length { given, needed }));
    let error = encoder.encode_prompt(&prompt, Some(&[0.0; 3]), &mut hidden[..needed], None);
    assert_eq!(error, Err(PassError::EmptyLength { given: 3, needed }));
    let columns = plan.manifest().pooled.unwrap().columns as usize;
    let error = encoder.encode_prompt(&prompt, None, &mut hidden[..needed], Some(&mut [0.0; 3]));
    assert_eq!(error, Err(PassError::PooledLength { given: 3, needed: columns }));
    assert!(hidden.iter().all(|&value| value == 0.0), "nothing was computed");
    let many = [320; 76];
    let error = encoder.encode_from(Input::Content(&many), &mut ()).unwrap_err();
    assert_eq!(error, PassError::Ids(IdsError::Content { given: 76, room: 75 }));
    let error = encoder.encode_from(Input::Content(&[49408]), &mut ()).unwrap_err();
    assert_eq!(error, PassError::Ids(IdsError::Range { id: 49408, rows: 49408 }));
}

/// A chunk's ids and weights, and how many it is.
type Case = (String, Vec<(Vec<u32>, Vec<f32>)>);

/// The chunks of the texts that a program reads, `None` where it fails, for its setting `key`.
fn goldens(name: &str, key: &str) -> Vec<(String, Option<Case>)> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/prompts").join(name);
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let chunk = |chunk: &serde_json::Value| {
        let ids = chunk[0].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let run = |run: &serde_json::Value| {
            let weight = run[0].as_f64().unwrap() as f32;
            std::iter::repeat_n(weight, run[1].as_u64().unwrap() as usize)
        };
        (ids, chunk[1].as_array().unwrap().iter().flat_map(run).collect())
    };
    let case = |case: &serde_json::Value| {
        let chunks = match &case["chunks"] {
            serde_json::Value::Object(by_key) => by_key.get(key).unwrap_or(&by_key["0"]),
            chunks => chunks,
        };
        let text: String = case["text"].as_str().unwrap().into();
        (text.clone(), chunks.as_array().map(|chunks| (text, chunks.iter().map(chunk).collect())))
    };
    file["cases"].as_array().unwrap().iter().map(case).collect()
}

/// The chunks of a prompt as the goldens have them: without end tokens of weight 1 at their ends.
fn shortened(prompt: &Prompt) -> Vec<(Vec<u32>, Vec<f32>)> {
    let chunk = |chunk| {
        let (mut ids, mut weights) = (prompt.ids(chunk).to_vec(), prompt.weights(chunk).to_vec());
        while ids.last() == Some(&49407) && weights.last() == Some(&1.0) {
            ids.pop();
            weights.pop();
        }
        (ids, weights)
    };
    (0..prompt.chunks()).map(chunk).collect()
}

#[test]
fn chunks_and_weights_are_those_of_the_programs() {
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    let mut prompt = Prompt::new();
    for (name, key, weighting, comma) in [
        ("a1111.json", "0", Weighting::A1111, 0),
        ("a1111.json", "20", Weighting::A1111, USUAL_COMMA),
        ("comfy.json", "", Weighting::Comfy, 0),
    ] {
        let (mut long, mut lost) = (0, 0);
        for (text, want) in goldens(name, key) {
            let options = Options { weighting, chunks: Chunks::Auto, comma };
            let read = prompt.read(plan.tokenizer(), &text, options);
            let Some((_, want)) = want else {
                assert!(matches!(read, Err(PromptError::Number { .. })), "{text:?}: {read:?}");
                continue;
            };
            if want.len() > MAX_CHUNKS {
                assert!(
                    matches!(read, Err(PromptError::TooLong { limit: MAX_CHUNKS, .. })),
                    "{text:?}: {read:?}"
                );
            } else {
                assert_eq!((read, shortened(&prompt)), (Ok(()), want.clone()), "{text:?}");
                long += usize::from(want.len() > 1);
            }
            // In fewer chunks the first are the same.
            let options = Options { chunks: Chunks::Exactly(2), ..options };
            prompt.read(plan.tokenizer(), &text, options).unwrap();
            assert_eq!(
                shortened(&prompt)[..],
                [&want[..], &vec![Default::default(); 2]].concat()[..2],
                "{text:?}"
            );
            assert!(prompt.dropped().is_some() || want.len() <= 2);
            lost += usize::from(want.len() > 2);
        }
        assert!(long > 20 && lost > 5, "{name}: {long} long, {lost} lost");
    }
}

/// The weight of each row of all chunks.
fn row_weights(prompt: &Prompt) -> Vec<f64> {
    let context = prompt.context();
    let chunk = |chunk: usize| {
        let own = prompt.weights(chunk).iter().copied().map(f64::from);
        let mut rows: Vec<f64> = [1.0].into_iter().chain(own).collect();
        rows.resize(context, 1.0);
        rows
    };
    (0..prompt.chunks()).flat_map(chunk).collect()
}

/// The rules as they are published, worked out in f64 from the states of each chunk by itself.
#[test]
fn weights_do_to_the_states_what_the_rules_say() {
    let texts = [
        "a (cat:1.3) and a [dog]",
        "((masterpiece)), (best quality:1.4), a (fox:0.2) BREAK [[blurry]] (night:-0.5)",
        "(cat:1.0) dog",
        "x BREAK (y:1.5)",
    ];
    let long = texts[1].repeat(7);
    for (file, towers) in [(one_tower(), vec![32]), (two_towers(), vec![16, 24])] {
        let plan = Plan::load(file.bytes()).unwrap();
        let (context, width) = (plan.context(), plan.width());
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(3));
        let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
        let empty = encoder.encode("").hidden().to_vec();
        let mut prompt = Prompt::new();
        for text in texts.into_iter().chain([long.as_str()]) {
            for weighting in [Weighting::A1111, Weighting::Comfy] {
                let options = Options { weighting, chunks: Chunks::Auto, comma: 0 };
                prompt.read(plan.tokenizer(), text, options).unwrap();
                let mut plain = Vec::new();
                let mut pooled = Vec::new();
                for chunk in 0..prompt.chunks() {
                    let alone = encoder.encode_from(Input::Content(prompt.ids(chunk)), &mut ()).unwrap();
                    plain.extend_from_slice(alone.hidden());
                    pooled.push(hash(alone.pooled().unwrap()));
                }
                let weights = row_weights(&prompt);
                let mut want: Vec<f64> = plain.iter().copied().map(f64::from).collect();
                for (row, (states, weight)) in want.chunks_exact_mut(width).zip(&weights).enumerate() {
                    let empty = &empty[row % context * width..][..width];
                    for (state, &empty) in states.iter_mut().zip(empty) {
                        *state = match weighting {
                            Weighting::A1111 => *state * weight,
                            _ => (*state - f64::from(empty)) * weight + f64::from(empty),
                        };
                    }
                }
                if weighting == Weighting::A1111 {
                    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
                    for (chunk, states) in want.chunks_exact_mut(context * width).enumerate() {
                        let before = &plain[chunk * context * width..][..context * width];
                        let mut start = 0;
                        for &columns in &towers {
                            let of = |row: &[f64]| row[start..start + columns].to_vec();
                            let before: Vec<f64> = before.iter().copied().map(f64::from).collect();
                            let before: Vec<f64> = before.chunks_exact(width).flat_map(of).collect();
                            let after: Vec<f64> = states.chunks_exact(width).flat_map(of).collect();
                            let ratio = mean(&before) / mean(&after);
                            for row in states.chunks_exact_mut(width) {
                                row[start..start + columns].iter_mut().for_each(|state| *state *= ratio);
                            }
                            start += columns;
                        }
                    }
                }
                let mut hidden = vec![f32::NAN; plain.len()];
                let mut row = vec![f32::NAN; plan.manifest().pooled.unwrap().columns as usize];
                encoder.encode_prompt(&prompt, None, &mut hidden, Some(&mut row)).unwrap();
                let largest = want.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
                for (found, want) in hidden.iter().zip(&want) {
                    let difference = (f64::from(*found) - want).abs();
                    assert!(difference <= 1e-4 * largest, "{text:?} {weighting}: {found} {want}");
                }
                // Weights don't reach the pooled row, and what has weight 1 stays as it is.
                assert_eq!(hash(&row), pooled[0]);
                if !prompt.is_weighted() {
                    assert_eq!(hash(&hidden), hash(&plain), "{text:?}");
                }
                let mut again = vec![f32::NAN; plain.len()];
                encoder.encode_prompt(&prompt, Some(&empty), &mut again, None).unwrap();
                assert_eq!(hash(&again), hash(&hidden), "{text:?}");
            }
        }
    }
}

#[test]
fn weights_that_are_no_numbers_are_refused_by_their_place() {
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    let mut prompt = Prompt::new();
    let mut read = |text: &str, weighting| {
        let options = Options { weighting, chunks: Chunks::Auto, comma: 0 };
        let read = prompt.read(plan.tokenizer(), text, options);
        assert_eq!(read.is_err(), prompt.chunks() == 0);
        read
    };
    for (text, at) in [("a (b:1.2.3)", 5), ("a (b: . )", 6)] {
        assert_eq!(read(text, Weighting::A1111), Err(PromptError::Number { at }));
        assert_eq!(read(text, Weighting::Comfy), Ok(()));
    }
    let huge = format!("a (b:1{})", "0".repeat(39));
    for text in [&huge, "a (b:inf)", "a (b:nan)", "a (b:-1e39)"] {
        assert_eq!(read(text, Weighting::Comfy), Err(PromptError::Weight { at: 3 }), "{text}");
    }
    assert_eq!(read(&huge, Weighting::A1111), Err(PromptError::Weight { at: 3 }));
    assert_eq!(read(&("(".repeat(1000) + "a"), Weighting::A1111), Err(PromptError::Weight { at: 1000 }));
    assert_eq!(read(&("[".repeat(1000) + "a"), Weighting::A1111), Ok(()));
    // A weight of nothing does nothing.
    assert_eq!(read("(:inf) a (  :nan)", Weighting::Comfy), Ok(()));
    // An f32 takes it.
    assert_eq!(read("(a:100000)", Weighting::Comfy), Ok(()));
}

/// Time is linear, and the stack small, in texts of a megabyte.
#[test]
fn megabytes_of_markup_are_read_at_once() {
    let file = one_tower();
    let texts = ["(a:1.2), ", "((", "[a", "a)", "\\(a\\) ", "BREAK ", "(a BREAK b)", "a:1.2) ", ": ", "\\"]
        .map(|piece| {
            let whole = piece.repeat(1_000_000 / piece.len());
            [whole.clone() + "a", whole]
        });
    let plan = Plan::load(file.bytes()).unwrap();
    let work = || {
        let mut prompt = Box::new(Prompt::new());
        let started = std::time::Instant::now();
        for text in texts.iter().flatten() {
            for weighting in [Weighting::None, Weighting::A1111, Weighting::Comfy] {
                for chunks in [Chunks::One, Chunks::Exactly(MAX_CHUNKS as u8), Chunks::Auto] {
                    let options = Options { weighting, chunks, comma: USUAL_COMMA };
                    let _ = std::hint::black_box(prompt.read(plan.tokenizer(), text, options));
                }
            }
        }
        started.elapsed()
    };
    // What `Prompt::read` promises, and what a thread has besides.
    let stack = (10 << 10) + (8 << 10);
    let stack = if cfg!(debug_assertions) { 1 << 20 } else { stack };
    let took = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(stack).spawn_scoped(scope, work).unwrap();
        thread.join().unwrap()
    });
    // Twenty seconds under emulation on a slow machine; hours, were it quadratic.
    assert!(took.as_secs() < 300, "{took:?}");
}
