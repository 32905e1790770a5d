//! ONNX: read, check, rewrite what tract cannot take as exporters write it, and hand it to tract.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use prost::Message;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::{InferenceModelExt, TypedModel};

use crate::tract::Imported;
use crate::tract::guard::guard;

mod attention;
mod check;
mod external;
mod functions;
mod fused_matmul;
mod inputs;
mod locations;
mod lower;
mod precision;
mod proto;

pub use locations::external_locations;

/// Reads the ONNX file at `path` up to a decluttered graph with its axes fixed.
///
/// # Errors
/// When the file cannot be read, is no sound ONNX model, keeps weights outside its own folder, or holds something that
/// neither tract nor the rewrites here can load. The error names the file.
pub fn load(path: &Path) -> Result<Imported> {
    let refused = || format!("cannot import `{}`", path.display());
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let proto = decode(&bytes).with_context(refused)?;
    drop(bytes);
    import(proto, path.parent().unwrap_or(Path::new("."))).with_context(refused)
}

fn decode(bytes: &[u8]) -> Result<ModelProto> {
    ensure!(!bytes.is_empty(), "the file is empty; copy or download it again");
    let proto = ModelProto::decode(bytes).map_err(|e| {
        anyhow!("this is not an ONNX model, or only the beginning of one ({e}); copy or download it again")
    })?;
    ensure!(
        proto.graph.is_some(),
        "this is not an ONNX model: it holds no graph; give an .onnx file exported from a CLIP text encoder"
    );
    Ok(proto)
}

/// Imports a decoded model; external tensors are looked for in `folder`.
///
/// # Errors
/// As [`load`], without the file's name.
pub fn import(mut proto: ModelProto, folder: &Path) -> Result<Imported> {
    external::embed(&mut proto, folder)?;
    check::check(&proto)?;
    functions::inline(&mut proto)?;
    precision::widen(&mut proto)?;
    let fixed = inputs::fix(&mut proto)?;
    lower::lower(&mut proto)?;
    let model = declutter(proto).with_context(|| match &fixed.exported_for {
        Some(shape) => format!(
            "this model was exported for prompts of the fixed shape {shape:?}, and tract cannot load it for the whole context; \
             export it for [1, {}], or with dynamic axes",
            fixed.context
        ),
        None => "tract cannot load this model".to_owned(),
    })?;
    Ok(Imported { model, context: fixed.context, ids_type: fixed.ids_type })
}

/// Types, folds and declutters with tract. The protobuf is dropped as soon as tract has copied the tensors out of it.
fn declutter(proto: ModelProto) -> Result<TypedModel> {
    guard(|| {
        let mut onnx = tract_onnx::onnx().with_ignore_value_info(true);
        onnx.op_register.insert("Attention", attention::build);
        onnx.op_register.insert("FusedMatMul", fused_matmul::build);
        let parsed = onnx.parse(&proto, None);
        drop(proto);
        let parsed = parsed.context("tract cannot read this graph")?;
        if let Some(name) = parsed.unresolved_inputs.first() {
            bail!("the graph uses a value `{name}` that nothing in it computes");
        }
        let mut model = parsed.model;
        model.analyse(false).context("tract cannot work out the graph's types and shapes")?;
        let model = model.into_typed().context("tract cannot type this graph")?;
        model.into_decluttered().context("tract cannot simplify this graph")
    })
}
