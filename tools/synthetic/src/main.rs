//! `cliptext-synthetic`: writes synthetic CLIP text towers.

use clap::{Args, Parser, Subcommand, ValueEnum};
use cliptext_synthetic::{Activation, Dtype, Error, Names, Options, checkpoint, generate, onnx};
use std::path::PathBuf;
use std::process::ExitCode;

/// Make a synthetic CLIP text tower: the same options give the same bytes everywhere.
///
/// Exit status: 0 when done, 1 when the work failed, 2 when the command line is wrong.
#[derive(Parser)]
#[command(version)]
struct Command {
    #[command(subcommand)]
    form: Form,
}

#[derive(Subcommand)]
enum Form {
    /// Write `config.json` and `model.safetensors`, as Hugging Face does.
    Safetensors {
        /// The folder to write them into.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        #[command(flatten)]
        model: Model,
    },
    /// Write an ONNX file, as PyTorch exports it; of the full-size model only.
    ///
    /// The graph that a real exporter wrote fixes shapes, activation, type and names: only the seed and the size of
    /// the massive channels can differ from the defaults.
    Onnx {
        /// The file to write.
        #[arg(value_name = "OUT.onnx")]
        path: PathBuf,
        /// Whether the input's sizes are fixed.
        #[arg(long, value_enum, default_value = "static")]
        axes: AxesName,
        #[command(flatten)]
        model: Model,
    },
}

/// The model; the defaults are the full-size one, the text tower of CLIP ViT-L/14.
#[derive(Args)]
#[command(next_help_heading = "Model")]
struct Model {
    /// Names the random numbers.
    #[arg(long, value_name = "N", default_value_t = Options::default().seed)]
    seed: u64,
    /// Channels of the residual stream.
    #[arg(long, value_name = "N", default_value_t = Options::default().width)]
    width: usize,
    /// Transformer layers.
    #[arg(long, value_name = "N", default_value_t = Options::default().layers)]
    layers: usize,
    /// Attention heads; must divide the width.
    #[arg(long, value_name = "N", default_value_t = Options::default().heads)]
    heads: usize,
    /// Neurons of each MLP.
    #[arg(long, value_name = "N", default_value_t = Options::default().mlp)]
    mlp: usize,
    /// Rows of the token embedding.
    #[arg(long, value_name = "N", default_value_t = Options::default().vocab)]
    vocab: usize,
    /// Rows of the position embedding.
    #[arg(long, value_name = "N", default_value_t = Options::default().positions)]
    positions: usize,
    /// The MLP's activation.
    #[arg(long, value_enum, default_value = "quick_gelu")]
    act: ActivationName,
    /// Outputs of the text projection; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 0)]
    projection_dim: usize,
    /// What the weights are stored as.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: DtypeName,
    /// Size of the massive channels at the start token.
    #[arg(long, value_name = "X", allow_negative_numbers = true, default_value_t = Options::default().massive)]
    massive: f64,
    /// Configuration value; Stable Diffusion 1.5 and SDXL say 0.
    #[arg(long, value_name = "ID", default_value_t = Options::default().bos_token_id)]
    bos_token_id: u32,
    /// Configuration value; Stable Diffusion 1.5 and SDXL say 2.
    #[arg(long, value_name = "ID", default_value_t = Options::default().eos_token_id)]
    eos_token_id: u32,
    /// v4: `text_model.…` as in published checkpoints; v5: as transformers 5 saves a model without projection.
    #[arg(long, value_enum, default_value = "v4")]
    names: NamesName,
    /// Add the int64 buffer `position_ids` that Stable Diffusion 1.5's file has.
    #[arg(long)]
    position_ids: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum AxesName {
    Static,
    Dynamic,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum ActivationName {
    QuickGelu,
    Gelu,
}

#[derive(Clone, Copy, ValueEnum)]
enum DtypeName {
    F32,
    F16,
}

#[derive(Clone, Copy, ValueEnum)]
enum NamesName {
    V4,
    V5,
}

impl Model {
    fn options(&self) -> Options {
        Options {
            seed: self.seed,
            width: self.width,
            layers: self.layers,
            heads: self.heads,
            mlp: self.mlp,
            vocab: self.vocab,
            positions: self.positions,
            activation: match self.act {
                ActivationName::QuickGelu => Activation::QuickGelu,
                ActivationName::Gelu => Activation::Gelu,
            },
            projection: (self.projection_dim > 0).then_some(self.projection_dim),
            dtype: match self.dtype {
                DtypeName::F32 => Dtype::F32,
                DtypeName::F16 => Dtype::F16,
            },
            massive: self.massive,
            bos_token_id: self.bos_token_id,
            eos_token_id: self.eos_token_id,
            names: match self.names {
                NamesName::V4 => Names::V4,
                NamesName::V5 => Names::V5,
            },
            position_ids: self.position_ids,
        }
    }
}

fn main() -> ExitCode {
    match run(Command::parse().form) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(match error {
                Error::Write { .. } => 1,
                Error::Options(_) => 2,
            })
        }
    }
}

fn run(form: Form) -> Result<(), Error> {
    match form {
        Form::Safetensors { folder, model } => {
            let options = model.options();
            options.check()?;
            checkpoint::write(&generate(&options), &folder)
        }
        Form::Onnx { path, axes, model } => {
            let axes = match axes {
                AxesName::Static => onnx::Axes::Static,
                AxesName::Dynamic => onnx::Axes::Dynamic,
            };
            let options = model.options();
            onnx::check(&options)?;
            onnx::write(generate(&options), axes, &path)
        }
    }
}
