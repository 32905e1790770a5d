//! The tokenizer over the standard vocabulary: the reference's ids, texts of a megabyte, and the stack they take.

use std::time::{Duration, Instant};

use cliptext::tokenizer::{Padding, Tokenizer, Vocabulary};
use serde::Deserialize;

#[repr(align(64))]
struct Aligned<T: ?Sized>(T);
static TABLE: &Aligned<[u8]> = &Aligned(*include_bytes!("../models/clip.vocab"));

/// Ids of the reference (transformers 5.23; tokenizers 0.23.3 for random texts), without padding and not truncated.
#[derive(Deserialize)]
struct Golden {
    text: String,
    ids: Vec<u32>,
}

fn tokenizer(context: usize, padding: Padding) -> Tokenizer<'static> {
    let vocabulary = Vocabulary::load(&TABLE.0).expect("the checked-in table is valid");
    Tokenizer::new(vocabulary, context, padding).expect("a context that is supported")
}

#[test]
fn every_golden_text_has_the_ids_of_the_reference() {
    let read = |text| serde_json::from_str::<Vec<Golden>>(text).expect("a list of texts and their ids");
    let mut goldens = read(include_str!("fixtures/tokenizer/goldens.json"));
    assert_eq!(goldens.len(), 1509);
    goldens.extend(read(include_str!("fixtures/tokenizer/random.json")));
    assert_eq!(goldens.len(), 1509 + 493);
    for context in [77, 2, 16, 75, 78, 256] {
        let tokenizer = tokenizer(context, Padding::End);
        for Golden { text, ids } in &goldens {
            let mut expected = ids.clone();
            if ids.len() > context {
                expected.truncate(context - 1);
                expected.push(49_407);
            }
            let tokens = tokenizer.encode(text);
            assert_eq!(tokens.unpadded(), expected, "{text:?}");
            assert_eq!(tokens.is_truncated(), ids.len() > context, "{text:?}");
            expected.resize(context, 49_407);
            assert_eq!(tokens.ids(), expected, "{text:?}");
            assert_eq!(Some(tokens.end_position()), expected.iter().position(|&id| id == 49_407), "{text:?}");
        }
    }
}

#[test]
fn padding_with_another_id() {
    let tokens = tokenizer(77, Padding::Id(0)).encode("a running dog");
    assert_eq!(tokens.unpadded(), [49_406, 320, 2761, 1929, 49_407]);
    assert_eq!(tokens.ids()[5..], [0; 72]);
}

/// A kind of text, by name and as a function of its length in bytes.
type Kind = (&'static str, Box<dyn Fn(usize) -> String>);

/// Texts that keep the tokenizer from stopping early, or make it look far ahead.
fn nasty() -> Vec<Kind> {
    let repeat = |piece: &'static str| move |bytes: usize| piece.repeat(bytes / piece.len());
    let classes: Vec<char> = "\u{334}\u{F71}\u{5B0}\u{5B1}\u{5B2}\u{5B3}\u{5B4}\u{5B5}\u{5B6}\u{5B7}\u{5B8}\u{5B9}\u{5BB}\u{5BC}\
         \u{5BD}\u{64B}\u{64C}\u{64D}\u{64E}\u{64F}\u{650}\u{651}\u{652}\u{670}\u{711}\u{C55}\u{C56}\u{E38}\u{E48}\u{EB8}\
         \u{EC8}\u{F72}\u{F74}\u{321}\u{1DCE}\u{31B}\u{1DFA}\u{316}\u{59A}\u{302E}\u{1D16D}\u{5AE}\u{18A9}\u{302B}\u{300}\
         \u{315}\u{35C}\u{35D}\u{345}\u{3099}\u{94D}\u{93C}\u{302A}\u{302F}"
        .chars()
        .collect();
    let mut falling = classes.clone();
    falling.reverse();
    let last = classes.clone();
    vec![
        ("one word of one letter", Box::new(repeat("a"))),
        ("one word of two letters", Box::new(repeat("ha"))),
        ("one word of letters and none", Box::new(repeat("aé\u{5D0}"))),
        ("one word of punctuation", Box::new(repeat("=-"))),
        ("marks of one class", Box::new(repeat("\u{301}"))),
        ("marks of all classes", Box::new(move |bytes| classes.iter().cycle().take(bytes / 2).collect())),
        (
            "marks in falling order",
            Box::new(move |bytes| {
                let each = bytes / 2 / falling.len();
                falling.iter().flat_map(|&mark| std::iter::repeat_n(mark, each)).collect()
            }),
        ),
        (
            "a mark of each class behind marks of one",
            Box::new(move |bytes| "a".to_owned() + &"\u{345}".repeat(bytes / 2) + &String::from_iter(&last)),
        ),
        ("spaces", Box::new(repeat(" "))),
        ("wide spaces and a word", Box::new(move |bytes| "\u{3000}".repeat(bytes / 3) + "end")),
        ("letters and spaces", Box::new(repeat("a "))),
        ("letters, marks and spaces", Box::new(repeat("e\u{301}\u{323} \t"))),
        ("Hangul letters", Box::new(repeat("\u{1112}\u{1161}\u{11AB}"))),
        ("nearly an end token", Box::new(repeat("<|endoftext|"))),
        ("apostrophes", Box::new(repeat("'"))),
    ]
}

#[test]
fn time_is_linear_in_the_text() {
    let tokenizer = tokenizer(77, Padding::End);
    let measure = |text: &str| {
        // The best of several: other programs share the machine.
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            assert!(tokenizer.encode(text).len() >= 2);
            best = best.min(start.elapsed());
        }
        best
    };
    for (name, text) in nasty() {
        // Four times the text; a quadratic step would take sixteen times as long, and would at each attempt.
        let linear = (0..5).any(|_| {
            let (short, long) = (measure(&text(250_000)), measure(&text(1_000_000)));
            println!("{name}: {short:?} for 250 KB, {long:?} for 1 MB");
            long < short * 8 + Duration::from_millis(2) && long < Duration::from_secs(20)
        });
        assert!(linear, "{name}: see the times above");
    }
}

/// Encodes on threads whose stacks are hardly larger than what the tokenizer is allowed.
#[test]
fn the_stack_is_small_whatever_the_text() {
    let around = 4 << 10; // for the thread's own start
    for (context, allowed) in [(77, 16 << 10), (256, 24 << 10)] {
        let run = move || {
            let tokenizer = tokenizer(context, Padding::End);
            for (_, text) in nasty() {
                assert!(tokenizer.encode(&text(20_000)).len() >= 2);
            }
        };
        let thread = std::thread::Builder::new().stack_size(allowed + around).spawn(run);
        thread.expect("a thread can be started").join().expect("no panic");
    }
}
