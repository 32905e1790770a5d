//! The towers that people have, at their full width: alone and as Stable Diffusion XL has two, against the intermediate
//! representation's f32 reference.
//!
//! With few layers, since the weights are made for each test. At their full depth:
//! `cargo test --release -p cliptext-demo --test towers -- --ignored --nocapture` (10 GB of memory, some minutes).

use cliptext::threads::{Solo, Threads};
use cliptext::tokenizer::{MAX_CONTEXT, Padding};
use cliptext::{AlignedBytes, Embedding, Encoder, Kernels, Plan};
use cliptext_compiler::backend::emit::{Options, Precision, emit};
use cliptext_compiler::backend::lower::Tower;
use cliptext_compiler::backend::target::Target;
use cliptext_compiler::ir::{Pooled, TextModel};
use cliptext_compiler::reference::{Encoded, encode, relative_error};
use cliptext_compiler::verify::compare::{Comparison, Quality};
use cliptext_compiler::vocabulary::{VocabularySource, VocabularyTable, build};
use cliptext_demo::sizes::{long_clip, vit_b, vit_big_g, vit_h, vit_l};
use cliptext_demo::{model, small_vocabulary, xl, zero_shot};
use cliptext_synthetic::{Options as Size, generate};

const PROMPTS: [&str; 3] =
    ["a running dog", "", "the inside of a vast library, a literal <|endoftext|> on its wall"];

/// What f32 plans may differ by, of the largest value.
const F32: f32 = 1e-4;

/// A plan's bytes where plans may be.
struct Loaded(AlignedBytes);

impl Loaded {
    fn new(towers: &[Tower<'_>], vocabulary: &VocabularyTable, precision: Precision) -> Self {
        let options = Options {
            prefix_cache: false,
            precision,
            target: Target::default(),
            logit_scale: Some(100.0),
            source: "synthetic".into(),
        };
        let emitted = emit(towers, &vocabulary.bytes, &options);
        Self(AlignedBytes::copy_of(&emitted.unwrap_or_else(|error| panic!("{error:#}")).bytes))
    }

    fn plan(&self) -> Plan<'_> {
        Plan::load(&self.0).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// A tower of that size with few layers and the small vocabulary.
fn shallow(size: Size, layers: usize, vocabulary: &VocabularyTable) -> TextModel {
    model(generate(&Size { layers, vocab: vocabulary.size, ..size })).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Hidden states and pooled output.
type Output = (Vec<f32>, Vec<f32>);

fn output(embedding: &Embedding<'_>) -> Output {
    (embedding.hidden().to_vec(), embedding.pooled().unwrap_or_default().to_vec())
}

/// What a plan makes of the prompts, the same by all kernels of this machine and by 1, 2 and 4 threads.
fn run_everywhere(plan: &Plan<'_>) -> Vec<Output> {
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(2));
    let mut first: Option<Vec<Output>> = None;
    for kernels in Kernels::available().filter(|kernels| kernels.reads(plan.manifest().packing)) {
        for threads in [1, 2, 4] {
            let team = Threads::start(threads).unwrap();
            let mut encoder = Encoder::with(plan, &mut arena, kernels, &team).unwrap();
            let named = format!("{} on {threads}", kernels.name());
            // The scalar reference is slow: once is enough.
            if let (Some(first), "scalar") = (&first, kernels.name()) {
                if threads == 2 {
                    assert!(output(&encoder.encode(PROMPTS[0])) == first[0], "{named}");
                }
                continue;
            }
            let outputs: Vec<Output> = PROMPTS.iter().map(|prompt| output(&encoder.encode(prompt))).collect();
            let pair = encoder.encode_pair([PROMPTS[0], PROMPTS[1]]).unwrap();
            assert!(pair.iter().zip(&outputs).all(|(one, single)| output(one) == *single), "{named}");
            for (prompt, (hidden, pooled)) in PROMPTS.iter().zip(&outputs) {
                let short = encoder.encode_unpadded(prompt);
                assert!(bits(short.hidden()) == bits(&hidden[..short.hidden().len()]), "{named}: {prompt}");
                assert!(bits(short.pooled().unwrap_or_default()) == bits(pooled), "{named}: {prompt}");
            }
            let first = first.get_or_insert_with(|| outputs.clone());
            assert!(*first == outputs, "{named}");
        }
    }
    first.expect("a kernel that reads the plan")
}

fn run_fast(plan: &Plan<'_>) -> Vec<Output> {
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = Encoder::with(plan, &mut arena, plan.kernels().unwrap(), Solo).unwrap();
    PROMPTS.iter().map(|prompt| output(&encoder.encode(prompt))).collect()
}

/// What the reference makes of a prompt with the tower's own padding.
fn reference(tower: &Tower<'_>, plan: &Plan<'_>, prompt: &str) -> Encoded {
    let vocabulary = *plan.tokenizer().vocabulary();
    let tokenizer = cliptext::Tokenizer::new(vocabulary, tower.model.context(), tower.padding).unwrap();
    encode(tower.model, &tower.outputs, tokenizer.encode(prompt).ids())
}

/// Columns `from..from + width` of rows of `of`.
fn columns(rows: &[f32], of: usize, from: usize, width: usize) -> Vec<f32> {
    rows.chunks_exact(of).flat_map(|row| row[from..from + width].iter().copied()).collect()
}

/// Compares a plan's outputs with each tower's reference.
fn compare(outputs: &[Output], towers: &[Tower<'_>], plan: &Plan<'_>) -> Vec<(f32, Quality)> {
    let whole = plan.width();
    let (mut from, mut found) = (0, Vec::new());
    for tower in towers {
        let width = tower.model.width();
        let (mut worst, mut comparison) = (0f32, Comparison::default());
        for (prompt, (hidden, pooled)) in PROMPTS.iter().zip(outputs) {
            let expected = reference(tower, plan, prompt);
            let hidden = columns(hidden, whole, from, width);
            worst = worst.max(relative_error(&hidden, &expected.hidden.values));
            comparison.add(&hidden, &expected.hidden.values, width);
            if let Some(expected) = expected.pooled {
                worst = worst.max(relative_error(pooled, &expected));
                comparison.add(pooled, &expected, expected.len());
            }
        }
        found.push((worst, comparison.quality().unwrap()));
        from += width;
    }
    assert_eq!(from, whole);
    found
}

/// Compiles towers into a plan: in f32 it is the reference's, in int8, as `run` has it, near it.
fn holds(
    name: &str,
    towers: &[Tower<'_>],
    vocabulary: &VocabularyTable,
    run: impl Fn(&Plan<'_>) -> Vec<Output>,
) {
    let loaded = Loaded::new(towers, vocabulary, Precision::F32);
    let plan = loaded.plan();
    for (error, _) in compare(&run_fast(&plan), towers, &plan) {
        assert!(error <= F32, "{name}: {error:e}");
    }
    let loaded = Loaded::new(towers, vocabulary, Precision::Int8);
    let plan = loaded.plan();
    for (_, quality) in compare(&run(&plan), towers, &plan) {
        println!("{name}: {quality:?}, {} bytes of arena", plan.arena_bytes(1));
        assert!(quality.cosine_mean >= 0.99 && quality.sqnr_db >= 20.0, "{name}: {quality:?}");
    }
}

#[test]
fn towers_of_every_size_compile_and_run() {
    let vocabulary = small_vocabulary().unwrap();
    for (name, size) in [("B", vit_b()), ("L", vit_l()), ("H", vit_h()), ("bigG", vit_big_g())] {
        let model = shallow(size, 2, &vocabulary);
        holds(name, &[zero_shot(&model, &vocabulary)], &vocabulary, run_fast);
    }
}

#[test]
fn two_towers_are_each_what_it_is_alone() {
    let vocabulary = small_vocabulary().unwrap();
    let models = [shallow(vit_l(), 3, &vocabulary), shallow(vit_big_g(), 2, &vocabulary)];
    let mut towers = xl(&models, &vocabulary);
    holds("SDXL", &towers, &vocabulary, run_everywhere);

    let loaded = Loaded::new(&towers, &vocabulary, Precision::Int8);
    let together = loaded.plan();
    assert_eq!((together.width(), together.manifest().pooled.unwrap().columns), (2048, 1280));
    let joined = run_fast(&together);
    let mut from = 0;
    for tower in &towers {
        let loaded = Loaded::new(std::slice::from_ref(tower), &vocabulary, Precision::Int8);
        let plan = loaded.plan();
        let width = plan.width();
        for ((hidden, pooled), (alone, alone_pooled)) in joined.iter().zip(run_fast(&plan)) {
            assert!(bits(&columns(hidden, 2048, from, width)) == bits(&alone));
            assert!(plan.manifest().pooled.is_none() || bits(pooled) == bits(&alone_pooled));
        }
        from += width;
    }

    // Pooled outputs of several towers come side by side too, as Stable Diffusion 3 takes them.
    towers[0].outputs.pooled = Pooled::Projected;
    let loaded = Loaded::new(&towers, &vocabulary, Precision::Int8);
    let both = loaded.plan();
    assert_eq!(both.manifest().pooled.unwrap().columns, 768 + 1280);
    assert!(!both.is_projected(), "two projections are no space shared with images");
    for ((hidden, pooled), (same, second)) in run_fast(&both).iter().zip(&joined) {
        assert!(bits(hidden) == bits(same) && bits(&pooled[768..]) == bits(second));
    }
}

#[test]
fn the_arena_of_two_towers_is_hardly_more_than_the_larger_one_s() {
    let vocabulary = small_vocabulary().unwrap();
    let models = [shallow(vit_l(), 2, &vocabulary), shallow(vit_big_g(), 2, &vocabulary)];
    let towers = xl(&models, &vocabulary);
    let arena =
        |towers: &[Tower<'_>]| Loaded::new(towers, &vocabulary, Precision::Int8).plan().arena_bytes(1);
    let (first, second, both) = (arena(&towers[..1]), arena(&towers[1..]), arena(&towers));
    println!("{first}, {second}, together {both} bytes");
    // Besides the second tower's buffers there stand the first one's hidden states only.
    assert!(both <= second + 77 * 768 * 4, "{first}, {second}, together {both}");
}

#[test]
fn towers_that_do_not_fit_one_plan_are_refused() {
    let vocabulary = small_vocabulary().unwrap();
    let small = Size { width: 16, heads: 2, mlp: 64, vocab: 600, layers: 1, ..Size::default() };
    let one = model(generate(&small)).unwrap();
    let other = model(generate(&Size { positions: 40, ..small })).unwrap();
    let options = Options {
        prefix_cache: false,
        precision: Precision::Int8,
        target: Target::default(),
        logit_scale: None,
        source: "".into(),
    };
    let plain = |model| {
        let mut tower = zero_shot(model, &vocabulary);
        tower.outputs.pooled = Pooled::None;
        tower
    };
    let refused = |towers: &[Tower<'_>]| emit(towers, &vocabulary.bytes, &options).err().unwrap().to_string();
    let contexts = refused(&[plain(&one), plain(&other)]);
    assert!(contexts.contains("77") && contexts.contains("40"), "{contexts}");
    assert!(refused(&[]).contains("a text tower"));
    assert!(refused(&[zero_shot(&one, &vocabulary)]).contains("no projection"));
    let mut deep = [plain(&one), plain(&one)];
    deep[1].outputs.hidden_layer = 2;
    assert!(refused(&deep).contains("after layer 2"));
    assert!(emit(&[plain(&one), plain(&one)], &vocabulary.bytes, &options).is_ok());
}

#[test]
fn long_contexts_work() {
    let vocabulary = small_vocabulary().unwrap();
    let long = Size { width: 64, heads: 4, mlp: 256, ..long_clip() };
    let model = shallow(long, 2, &vocabulary);
    let tower = Tower { padding: Padding::ZeroAfterEnd, ..zero_shot(&model, &vocabulary) };
    holds("248 tokens", &[tower], &vocabulary, run_everywhere);
    // A prompt of more than 77 tokens, and one of more than 248.
    let loaded = Loaded::new(&[tower], &vocabulary, Precision::F32);
    let plan = loaded.plan();
    assert_eq!(plan.context(), 248);
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
    for (words, truncated) in [(30, false), (1000, true)] {
        let prompt = "word ".repeat(words);
        let embedding = encoder.encode(&prompt);
        assert_eq!((embedding.tokens(), embedding.is_truncated()), (248, truncated));
        assert!(embedding.ids().iter().position(|&id| id == vocabulary.end_id).unwrap() > 77);
        let expected = encode(tower.model, &tower.outputs, embedding.ids());
        assert!(relative_error(embedding.hidden(), &expected.hidden.values) <= F32);
        assert!(relative_error(embedding.pooled().unwrap(), &expected.pooled.unwrap()) <= F32);
    }
    assert!(encoder.encode_ids(&[1; 248]).is_ok() && encoder.encode_ids(&[1; MAX_CONTEXT]).is_err());
}

/// A tower of full size, compiled and run, in int8; what its arena and its plan have is printed.
fn in_full(name: &str, towers: &[Tower<'_>], vocabulary: &VocabularyTable) {
    let loaded = Loaded::new(towers, vocabulary, Precision::Int8);
    let plan = loaded.plan();
    println!("{name}: plan {} bytes, arena {} bytes", plan.file_bytes(), plan.arena_bytes(1));
    let outputs = run_fast(&plan);
    for (tower, (_, quality)) in plan.towers().zip(compare(&outputs, towers, &plan)) {
        println!("  {tower:?}: {quality:?}");
        assert!(quality.cosine_mean >= 0.99 && quality.sqnr_db >= 15.0, "{name}: {quality:?}");
    }
}

#[test]
#[ignore = "takes minutes and 10 GB: see the top of this file"]
fn towers_of_every_size_in_full() {
    let vocabulary = build(VocabularySource::Standard, &[]).unwrap();
    for (name, size) in
        [("B", vit_b()), ("L", vit_l()), ("Long-CLIP", long_clip()), ("H", vit_h()), ("bigG", vit_big_g())]
    {
        let model = model(generate(&size)).unwrap();
        in_full(name, &[zero_shot(&model, &vocabulary)], &vocabulary);
    }
    let models = [model(generate(&vit_l())).unwrap(), model(generate(&vit_big_g())).unwrap()];
    in_full("SDXL", &xl(&models, &vocabulary), &vocabulary);
}
