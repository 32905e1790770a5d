//! Any prompt under any options: read within its limits, the same each time, as plain text where it has no markup.
#![no_main]

use std::sync::LazyLock;

use cliptext::AlignedBytes;
use cliptext::prompt::{Chunks, Options, Prompt, PromptError, Weighting, number};
use cliptext::tokenizer::{Padding, Tokenizer, Vocabulary};
use libfuzzer_sys::fuzz_target;

const TABLE: &[u8] = include_bytes!("../../models/clip.vocab");
const CONTEXTS: [usize; 4] = [3, 16, 77, 248];

static ALIGNED: LazyLock<AlignedBytes> = LazyLock::new(|| AlignedBytes::copy_of(TABLE));

thread_local! {
    static TOKENIZERS: [Tokenizer<'static>; CONTEXTS.len()] = {
        CONTEXTS.map(|context| {
            let vocabulary = Vocabulary::load(&ALIGNED).expect("the repository's table");
            Tokenizer::new(vocabulary, context, Padding::End).expect("a context that is supported")
        })
    };
}

fuzz_target!(|data: &[u8]| {
    let &[how, count, comma, ref text @ ..] = data else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    let weighting = [Weighting::None, Weighting::A1111, Weighting::Comfy][usize::from(how % 3)];
    let chunks = [Chunks::One, Chunks::Auto, Chunks::Exactly(count)][usize::from(how / 3 % 3)];
    let options = Options { weighting, chunks, comma };
    if let Some(number) = number(text) {
        assert!(!number.is_nan(), "{text:?}");
    }
    TOKENIZERS.with(|tokenizers| {
        let tokenizer = &tokenizers[usize::from(how / 9) % CONTEXTS.len()];
        let mut prompt = Prompt::new();
        let read = prompt.read(tokenizer, text, options);
        sound(&prompt, tokenizer, text, options, &read);
        // Whatever was in it before.
        let mut again = Prompt::new();
        again.read(tokenizer, "((a:2) cat, BREAK [dog]", Options { weighting: Weighting::A1111, ..options }).ok();
        assert_eq!(again.read(tokenizer, text, options), read, "{text:?}");
        assert_eq!(contents(&again), contents(&prompt), "{text:?}");
        beside_others(&prompt, tokenizer, text, options, &read);
    });
});

fn contents(prompt: &Prompt) -> Vec<(Vec<u32>, Vec<u32>)> {
    let bits = |chunk| prompt.weights(chunk).iter().map(|weight| weight.to_bits()).collect();
    (0..prompt.chunks()).map(|chunk| (prompt.ids(chunk).to_vec(), bits(chunk))).collect()
}

/// What holds of each prompt.
fn sound(
    prompt: &Prompt,
    tokenizer: &Tokenizer<'_>,
    text: &str,
    options: Options,
    read: &Result<(), PromptError>,
) {
    let most = Prompt::max_chunks(tokenizer.context());
    if read.is_err() {
        assert_eq!((prompt.chunks(), prompt.dropped()), (0, None), "{text:?}");
        return;
    }
    let chunks = prompt.chunks();
    assert!((1..=most).contains(&chunks), "{text:?}: {chunks} chunks");
    match options.chunks {
        Chunks::One => assert_eq!(chunks, 1),
        Chunks::Exactly(count) => assert_eq!(chunks, usize::from(count)),
        Chunks::Auto => assert_eq!(prompt.dropped(), None),
    }
    let size = tokenizer.vocabulary().size();
    for chunk in 0..chunks {
        let (ids, weights) = (prompt.ids(chunk), prompt.weights(chunk));
        assert!(ids.len() <= tokenizer.context() - 2, "{text:?}");
        assert!(ids.iter().all(|&id| id < size), "{text:?}");
        assert_eq!(ids.len(), weights.len(), "{text:?}");
        assert!(weights.iter().all(|weight| !weight.is_nan()), "{text:?}: {weights:?}");
        if options.weighting == Weighting::None {
            assert!(weights.iter().all(|&weight| weight == 1.0), "{text:?}");
        }
    }
    assert_eq!(prompt.ids(chunks), &[] as &[u32]);
    if let Some(dropped) = prompt.dropped() {
        assert!(dropped.start <= dropped.end && text.get(dropped.clone()).is_some(), "{text:?}: {dropped:?}");
    }
}

/// What other options make of the same text.
fn beside_others(
    prompt: &Prompt,
    tokenizer: &Tokenizer<'_>,
    text: &str,
    options: Options,
    read: &Result<(), PromptError>,
) {
    let all = |prompt: &Prompt| (0..prompt.chunks()).flat_map(|at| prompt.ids(at).to_vec()).collect::<Vec<_>>();
    // As a tokenizer reads it.
    if options.weighting == Weighting::None && options.chunks == Chunks::One && read.is_ok() {
        let tokens = tokenizer.encode(text);
        let [_, middle @ .., _] = tokens.unpadded() else { panic!("{text:?}: start and end") };
        assert_eq!(prompt.ids(0), middle, "{text:?}");
        assert_eq!(prompt.dropped().is_some(), tokens.is_truncated(), "{text:?}");
    }
    // As many chunks as it needs are as many as it needs.
    if options.chunks == Chunks::Auto && read.is_ok() {
        let exactly = Options { chunks: Chunks::Exactly(prompt.chunks() as u8), ..options };
        let mut same = Prompt::new();
        same.read(tokenizer, text, exactly).expect("so many chunks");
        assert_eq!(contents(&same), contents(prompt), "{text:?}");
        assert_eq!(same.dropped(), None, "{text:?}");
    }
    // Escaped, A1111's markup is text: what is read without weights.
    if options.weighting == Weighting::None && options.chunks != Chunks::One {
        let escaped: String = text
            .chars()
            .flat_map(|c| ['\\'].into_iter().filter(move |_| "()[]\\".contains(c)).chain([c]))
            .collect();
        let mut marked = Prompt::new();
        let marked_read = marked.read(tokenizer, &escaped, Options { weighting: Weighting::A1111, ..options });
        if let (Ok(()), Ok(())) = (&marked_read, read) {
            assert_eq!(all(&marked), all(prompt), "{text:?}");
            assert!(!marked.is_weighted(), "{text:?}");
        }
    }
}
