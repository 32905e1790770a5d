//! Synthetic models in the layouts that people hold, and their plans.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use cliptext::{AlignedBytes, Encoder, Plan};
use cliptext_compiler::backend::emit::Precision;
use cliptext_compiler::backend::target::Target;
use cliptext_compiler::compile::load::Spec;
use cliptext_compiler::compile::report::Report;
use cliptext_compiler::compile::{Job, compile};
use cliptext_compiler::edit::Edits;
use cliptext_compiler::preset::{Choice, Preset};
use cliptext_compiler::progress::Progress;
use cliptext_compiler::quantize;
use cliptext_synthetic::{Activation, Options, Tower, checkpoint, generate};
use cliptext_test_support::{Scratch, fixtures};
use safetensors::Dtype;

/// A tensor of a file that a test writes.
#[derive(Clone, Debug)]
pub struct Named {
    pub name: String,
    pub shape: Vec<usize>,
    pub dtype: Dtype,
    pub bytes: Vec<u8>,
}

impl Named {
    pub fn f32(name: impl Into<String>, shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Named { name: name.into(), shape: shape.to_vec(), dtype: Dtype::F32, bytes }
    }

    /// Values between -1 and 1 that the name decides.
    pub fn arbitrary(name: impl Into<String>, shape: &[usize]) -> Self {
        let name = name.into();
        let seed = name.bytes().fold(7u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let value = |at: usize| {
            let mixed =
                (at as u32 ^ seed).wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(0x9E37_79B9);
            mixed as f32 / u32::MAX as f32 * 2.0 - 1.0
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
        Named::f32(name, shape, &values)
    }

    pub fn values(&self) -> Vec<f32> {
        assert_eq!(self.dtype, Dtype::F32, "{}", self.name);
        self.bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    pub fn called(self, name: impl Into<String>) -> Self {
        Named { name: name.into(), ..self }
    }

    pub fn called_with(self, rename: impl FnOnce(&str) -> String) -> Self {
        let name = rename(&self.name);
        self.called(name)
    }

    /// The same values as `bf16`, cut off.
    pub fn bf16(self) -> Self {
        let bytes = self.bytes.as_chunks::<4>().0.iter().flat_map(|bytes| [bytes[2], bytes[3]]).collect();
        Named { dtype: Dtype::BF16, bytes, ..self }
    }
}

impl safetensors::View for &Named {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        self.bytes.as_slice().into()
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes a `.safetensors` file, and the folders above it.
pub fn write(path: &Path, tensors: &[Named]) -> PathBuf {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let views = tensors.iter().map(|tensor| (tensor.name.clone(), tensor));
    safetensors::serialize_to_file(views, None, path).unwrap();
    path.to_owned()
}

pub fn write_text(path: &Path, text: &str) -> PathBuf {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    path.to_owned()
}

/// Writes the folder of a text encoder.
pub fn write_component(folder: &Path, tower: &Tower) -> PathBuf {
    checkpoint::write(tower, folder).unwrap();
    folder.to_owned()
}

/// Ids of the small vocabulary, whose last is the end token.
pub const VOCABULARY: usize = 600;

/// Options of a tower with the small vocabulary and heads of 64 channels, as the published have.
pub fn small(width: usize, layers: usize, seed: u64) -> Options {
    Options { seed, width, layers, heads: width / 64, mlp: 128, vocab: VOCABULARY, ..Options::default() }
}

/// Options of the published tower that the goldens of `tests/fixtures/zoo-sd` are of.
pub fn zoo_sd() -> Options {
    Options { width: 16, layers: 2, heads: 2, mlp: 64, seed: 13, ..Options::default() }
}

/// A tower as Stable Diffusion 1 has it, but narrow.
pub fn like_l() -> Arc<Tower> {
    static TOWER: OnceLock<Arc<Tower>> = OnceLock::new();
    TOWER.get_or_init(|| Arc::new(generate(&small(64, 3, 21)))).clone()
}

/// A tower of OpenCLIP's kind: GELU and a projection.
pub fn like_h() -> Arc<Tower> {
    static TOWER: OnceLock<Arc<Tower>> = OnceLock::new();
    let options = Options { activation: Activation::Gelu, projection: Some(96), ..small(128, 3, 22) };
    TOWER.get_or_init(|| Arc::new(generate(&options))).clone()
}

/// A tower of bigG's width with two layers.
pub fn like_big_g() -> Arc<Tower> {
    static TOWER: OnceLock<Arc<Tower>> = OnceLock::new();
    let options = Options { activation: Activation::Gelu, projection: Some(1280), ..small(1280, 2, 23) };
    TOWER.get_or_init(|| Arc::new(generate(&options))).clone()
}

/// The tensors of a tower as transformers calls them, behind `prefix`; `text_model.` is theirs.
pub fn hugging_face(tower: &Tower, prefix: &str) -> Vec<Named> {
    let tensors = tower.tensors.iter();
    tensors.map(|t| Named::f32(format!("{prefix}{}", t.name), &t.shape, &t.values)).collect()
}

/// The tensors of a tower as OpenCLIP calls and lays them out, behind `prefix`.
pub fn open_clip(tower: &Tower, prefix: &str) -> Vec<Named> {
    let mut all = Vec::new();
    let get = |name: &str| tower.tensor(name).unwrap_or_else(|| panic!("{name}"));
    let mut copy = |from: String, to: String| {
        let tensor = get(&from);
        all.push(Named::f32(format!("{prefix}{to}"), &tensor.shape, &tensor.values));
    };
    copy("text_model.embeddings.token_embedding.weight".into(), "token_embedding.weight".into());
    copy("text_model.embeddings.position_embedding.weight".into(), "positional_embedding".into());
    for part in ["weight", "bias"] {
        copy(format!("text_model.final_layer_norm.{part}"), format!("ln_final.{part}"));
        for layer in 0..tower.options.layers {
            for (from, to) in [
                ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"),
                ("self_attn.out_proj", "attn.out_proj"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
            ] {
                let from = format!("text_model.encoder.layers.{layer}.{from}.{part}");
                copy(from, format!("transformer.resblocks.{layer}.{to}.{part}"));
            }
        }
    }
    let width = tower.options.width;
    for layer in 0..tower.options.layers {
        for (part, shape) in [("weight", vec![3 * width, width]), ("bias", vec![3 * width])] {
            let sides = ["q", "k", "v"].map(|side| {
                &get(&format!("text_model.encoder.layers.{layer}.self_attn.{side}_proj.{part}")).values[..]
            });
            let name = format!("{prefix}transformer.resblocks.{layer}.attn.in_proj_{part}");
            all.push(Named::f32(name, &shape, &sides.concat()));
        }
    }
    if let Some(projection) = tower.tensor("text_projection.weight") {
        let (rows, cols) = (projection.shape[0], projection.shape[1]);
        let values: Vec<f32> =
            (0..rows * cols).map(|at| projection.values[at % rows * cols + at / rows]).collect();
        all.push(Named::f32(format!("{prefix}text_projection"), &[cols, rows], &values));
    }
    all
}

/// What stands beside the text towers in a checkpoint: parts of a UNet and a VAE.
pub fn others() -> Vec<Named> {
    vec![
        Named::arbitrary("model.diffusion_model.input_blocks.0.0.weight", &[8, 4, 3, 3]),
        Named::arbitrary("model.diffusion_model.middle_block.1.norm.weight", &[8]),
        Named::arbitrary("first_stage_model.decoder.conv_in.weight", &[8, 4, 3, 3]),
        Named::arbitrary("alphas_cumprod", &[8]),
    ]
}

/// The small vocabulary.
pub fn merges() -> PathBuf {
    fixtures().join("tokenizer/merges-86.txt")
}

/// A job that gives the plan `scratch/x.plan`, f32, of a model with the small vocabulary.
pub fn job(model: &Path, scratch: &Scratch) -> Job {
    Job {
        model: Spec {
            path: model.to_owned(),
            name: "the model".into(),
            tower: None,
            choice: Choice::default(),
            edits: Edits::default(),
        },
        plan: scratch.path().join("x.plan"),
        vocabulary: Some(merges()),
        precision: Precision::F32,
        quantize: quantize::Options::new(quantize::Quality::Fast),
        target: Target::default(),
        prefix_cache: false,
        force: false,
        full_report: false,
    }
}

/// The same job for one of several towers.
pub fn one_of(job: Job, tower: Option<String>) -> Job {
    Job { model: Spec { tower, ..job.model }, ..job }
}

/// The same job with changes to the model.
pub fn with_edits(job: Job, edits: Edits) -> Job {
    Job { model: Spec { edits, ..job.model }, ..job }
}

/// The same job with another choice of outputs.
pub fn with_choice(job: Job, choice: Choice) -> Job {
    Job { model: Spec { choice, ..job.model }, ..job }
}

/// The choice of a preset alone.
pub fn preset(preset: Preset) -> Choice {
    Choice { preset: Some(preset), ..Choice::default() }
}

/// A plan where plans may be, and the report of its making.
pub struct Compiled {
    bytes: AlignedBytes,
    pub report: Report,
}

impl Compiled {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn plan(&self) -> Plan<'_> {
        Plan::load(&self.bytes).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Hidden states and pooled row of a prompt.
    pub fn encode(&self, prompt: &str) -> (Vec<f32>, Option<Vec<f32>>) {
        let ids = self.plan().tokenizer().encode(prompt).unpadded().to_vec();
        assert!(!ids.is_empty());
        let plan = self.plan();
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
        let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
        let embedding = encoder.encode(prompt);
        (embedding.hidden().to_vec(), embedding.pooled().map(<[f32]>::to_vec))
    }

    /// The same of ids as they stand.
    pub fn encode_ids(&self, ids: &[u32]) -> (Vec<f32>, Option<Vec<f32>>) {
        let plan = self.plan();
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
        let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
        let embedding = encoder.encode_ids(ids).unwrap();
        (embedding.hidden().to_vec(), embedding.pooled().map(<[f32]>::to_vec))
    }

    pub fn ids(&self, prompt: &str) -> Vec<u32> {
        self.plan().tokenizer().encode(prompt).unpadded().to_vec()
    }
}

/// Does the job, whose plan is gone from its place afterwards.
#[track_caller]
pub fn compiled(job: &Job) -> Compiled {
    let report = compile(job, &Progress::new(true)).unwrap_or_else(|error| panic!("{error:#}"));
    let bytes = std::fs::read(&job.plan).unwrap();
    std::fs::remove_file(&job.plan).unwrap();
    Compiled { bytes: AlignedBytes::copy_of(&bytes), report }
}

/// What the job fails with; nothing may be left behind.
#[track_caller]
pub fn refused(job: &Job) -> String {
    let error = compile(job, &Progress::new(true)).expect_err("a refusal");
    assert!(!job.plan.exists());
    let left = std::fs::read_dir(job.plan.parent().unwrap()).unwrap();
    let temporary = |name: &str| name.contains("tmp") || name.contains(".plan");
    assert!(!left.into_iter().any(|entry| temporary(&entry.unwrap().file_name().to_string_lossy())));
    format!("{error:#}")
}
