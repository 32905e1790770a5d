//! Prompts in chunks: which tokens they have, and what an encoder makes of them.

mod common;

use cliptext::prompt::{Chunks, MAX_CHUNKS, MAX_TOKENS, Options, Prompt, PromptError, Weighting};
use cliptext::{AlignedBytes, Encoder, IdsError, Input, PassError, Plan, Tokenizer};
use common::{PROMPTS, demo, hash, long, two_towers};

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
    for file in [demo(), two_towers(), long()] {
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
    let file = demo();
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
    let file = demo();
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
    for (file, most) in [(demo(), MAX_CHUNKS), (long(), 2)] {
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
    for file in [demo(), two_towers()] {
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
    let (file, other) = (demo(), long());
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
