//! ONNX: read, check, rewrite what tract cannot take as exporters write it, and hand it to tract.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use prost::Message;
use tract_core::optim::Optimizer;
use tract_onnx::pb::{ModelProto, NodeProto};
use tract_onnx::prelude::{InferenceModelExt, TypedModel};
use tract_onnx::tract_hir::prelude::InferenceModel;

use crate::ir::Modality;
use crate::tract::Imported;
use crate::tract::guard::guard;

use bounded::{NodeAxes, node_axis};

mod attention;
mod bounded;
mod check;
mod external;
mod functions;
mod fused_matmul;
mod inputs;
mod locations;
mod lower;
mod pixels;
mod precision;
mod proto;
mod tensors;

pub use locations::external_locations;

/// Most bytes of a file: protobuf's own limit is 2 GiB.
const MOST_BYTES: u64 = 2 << 30;

/// Most bytes of a value that a text encoder computes: more than the largest one's for
/// [the most prompts at once](inputs).
const MOST_VALUE_BYTES: usize = 1 << 30;

/// tract's name of its pass that pushes slices up through the graph.
const PUSH_SLICE_UP: &str = "PushSliceUp";

/// Reads the ONNX file at `path` up to a decluttered graph with its axes fixed.
///
/// # Errors
/// When the file cannot be read, is no sound ONNX model, keeps weights outside its own folder, or holds something that
/// neither tract nor the rewrites here can load. The error names the file.
pub fn load(path: &Path) -> Result<Imported> {
    let refused = || format!("cannot import `{}`", path.display());
    let proto = read(path)?;
    import(proto, folder(path)).with_context(refused)
}

/// Reads the image encoder in the ONNX file at `path`, alone or beside a text encoder, up to a graph whose one input is pixels,
/// `[batch, 3, side, side]`, and whose slices are left where they stand.
///
/// The side is the one that the file fixes, else `side`, else the one that a table of positions has rows for.
///
/// # Errors
/// As [`load`], and when nothing says the side, or `side` says another than the file.
pub fn load_image(path: &Path, side: Option<usize>) -> Result<TypedModel> {
    let refused = || format!("cannot import `{}`", path.display());
    let proto = read(path)?;
    import_image(proto, folder(path), side).with_context(refused)
}

/// Imports a decoded model's image encoder; external tensors are looked for in `folder`.
///
/// # Errors
/// As [`load_image`], without the file's name.
pub fn import_image(mut proto: ModelProto, folder: &Path, side: Option<usize>) -> Result<TypedModel> {
    settle(&mut proto, folder)?;
    pixels::fix(&mut proto, side)?;
    declutter(proto, Modality::Image)
        .context("tract cannot load this model; export it again, with opset 17 and without optimisation")
}

/// Reads the ONNX file at `path` into an operator graph whose inputs are as the file leaves them, for tract to run; no
/// value in it may have more than `most` bytes.
///
/// # Errors
/// As [`load`].
pub fn load_graph(path: &Path, most: usize) -> Result<InferenceModel> {
    let refused = || format!("cannot import `{}`", path.display());
    let mut proto = read(path)?;
    settle(&mut proto, folder(path)).with_context(refused)?;
    parse(proto, most).with_context(refused)
}

/// Where the model's external data are looked for.
fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

fn read(path: &Path) -> Result<ModelProto> {
    let unreadable = || format!("cannot read `{}`", path.display());
    let file = File::open(path).with_context(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).with_context(unreadable)?;
    decode(&bytes).with_context(|| format!("cannot import `{}`", path.display()))
}

fn decode(bytes: &[u8]) -> Result<ModelProto> {
    ensure!(!bytes.is_empty(), "the file is empty; copy or download it again");
    ensure!(
        bytes.len() as u64 <= MOST_BYTES,
        "the file has more than {MOST_BYTES} bytes, so it is no ONNX model; give an .onnx file with its weights beside it"
    );
    let proto = ModelProto::decode(bytes).map_err(|e| {
        anyhow!("this is not an ONNX model, or only the beginning of one ({e}); copy or download it again")
    })?;
    ensure!(proto.graph.is_some(), "this is not an ONNX model: it holds no graph; give an .onnx file");
    Ok(proto)
}

/// Imports a decoded model; external tensors are looked for in `folder`.
///
/// # Errors
/// As [`load`], without the file's name.
pub fn import(mut proto: ModelProto, folder: &Path) -> Result<Imported> {
    settle(&mut proto, folder)?;
    let fixed = inputs::fix(&mut proto)?;
    let model = declutter(proto, Modality::Text).with_context(|| match &fixed.exported_for {
        Some(shape) => format!(
            "this model was exported for prompts of the fixed shape {shape:?}, and tract cannot load it for the whole context; \
             export it for [1, {}], or with dynamic axes",
            fixed.context
        ),
        None => "tract cannot load this model; export it again, with opset 17 and without optimisation".to_owned(),
    })?;
    Ok(Imported { model, context: fixed.context, ids_type: fixed.ids_type })
}

/// Checks a decoded model, and makes it one graph without functions, with all tensors inside and in f32.
fn settle(proto: &mut ModelProto, folder: &Path) -> Result<()> {
    external::embed(proto, folder)?;
    check::check(proto)?;
    functions::inline(proto)?;
    precision::widen(proto)
}

/// Hands the graph to tract. The protobuf is dropped as soon as tract has copied the tensors out of it.
fn parse(mut proto: ModelProto, most: usize) -> Result<InferenceModel> {
    let mut onnx = tract_onnx::onnx().with_ignore_value_info(true);
    onnx.op_register.insert("Attention", attention::build);
    onnx.op_register.insert("FusedMatMul", fused_matmul::build);
    let mut axes = NodeAxes::new();
    if let Some(graph) = &mut proto.graph {
        graph.node =
            lower::lower(std::mem::take(&mut graph.node), &|op| onnx.op_register.0.contains_key(op))?;
        name_nodes(&mut graph.node, &mut axes);
    }
    guard(|| {
        let parsed = onnx.parse(&proto, None);
        drop(proto);
        let parsed = parsed.context("tract cannot read this graph")?;
        if let Some(name) = parsed.unresolved_inputs.first() {
            bail!("the graph uses a value `{name}` that nothing in it computes; export the model again");
        }
        let mut model = parsed.model;
        bounded::bound(&mut model, &axes, most);
        Ok(model)
    })
}

/// Gives every node a name of its own, by which tract finds it, and which ONNX lets be empty or the same; notes the nodes'
/// axes.
fn name_nodes(nodes: &mut [NodeProto], axes: &mut NodeAxes) {
    for node in nodes {
        if node.name.is_empty() || axes.contains_key(&node.name) {
            node.name = format!("{}#{}", node.output.first().map_or("", String::as_str), axes.len());
        }
        axes.insert(node.name.clone(), node_axis(node));
        for nested in node.attribute.iter_mut().flat_map(|a| a.g.iter_mut().chain(&mut a.graphs)) {
            name_nodes(&mut nested.node, axes);
        }
    }
}

/// Types, folds and declutters with tract. In an image tower a slice takes the class token's row: tract would compute the last layer
/// for that row only, which is no layer as the others any more.
fn declutter(proto: ModelProto, modality: Modality) -> Result<TypedModel> {
    let mut model = parse(proto, MOST_VALUE_BYTES)?;
    guard(|| {
        model.analyse(false).context("tract cannot work out the graph's types and shapes")?;
        let mut model = model.into_typed().context("tract cannot type this graph")?;
        let mut optimizer = Optimizer::declutter();
        if modality == Modality::Image {
            optimizer.passes.retain(|pass| format!("{pass:?}") != PUSH_SLICE_UP);
        }
        optimizer.optimize(&mut model).context("tract cannot simplify this graph")?;
        Ok(model)
    })
}
