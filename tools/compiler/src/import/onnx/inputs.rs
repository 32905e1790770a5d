//! The graph's inputs and axes: one input, the token ids, of a fixed batch and the model's own number of positions.
//!
//! The batch is 1 unless the file fixes another: a static export has it in the shapes of its reshapes, where only what
//! follows (the axes that [`recognise`](crate::recognise) keeps track of) can tell it from a number of heads.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use tract_core::prelude::DatumType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto::{self, Value};
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
};

use super::proto::{reads, tensor};
use crate::ir::Modality;

/// CLIP's context, where the graph does not say.
const CONTEXT: usize = 77;

/// Most positions: no CLIP has more than 1000, and attention grows with their square.
const MOST_POSITIONS: usize = 1 << 14;

/// Most prompts at once that a graph may be made for: the reference computes them all.
pub const MOST_PROMPTS: usize = 64;

/// What [`fix`] settled.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// Tokens of the fixed sequence.
    pub context: usize,
    /// The ids' integer type.
    pub ids_type: DatumType,
    /// The fixed shape that the file was exported for, if its context is another than this one: it may hold on to it.
    pub exported_for: Option<Vec<i64>>,
}

/// Fixes the axes, gives the inputs beside the ids their neutral value, and drops what depends on other inputs (the
/// image tower of a whole CLIP).
pub fn fix(model: &mut ModelProto) -> Result<Fixed> {
    let graph = only_inputs(model)?;
    let ids = find_ids(graph)?;
    let (kept, foreign): (Vec<_>, Vec<_>) = std::mem::take(&mut graph.input)
        .into_iter()
        .partition(|input| input.name == ids || neutral(input, 1, 1).is_some());
    let batch = kept.iter().find(|input| input.name == ids).and_then(fixed_batch).unwrap_or(1);
    keep_outputs_without(graph, foreign, batch, Modality::Text)?;
    let context = context(graph).unwrap_or(CONTEXT);
    ensure!(
        context <= MOST_POSITIONS,
        "its table of positions has {context} rows, more than the {MOST_POSITIONS} supported; export the model again"
    );
    for batch in kept.iter().filter_map(fixed_batch) {
        ensure!(
            batch <= MOST_PROMPTS,
            "this model was exported for {batch} prompts at once, more than the {MOST_PROMPTS} supported; export it for 1"
        );
    }
    let mut exported_for = None;
    for mut input in kept {
        if input.name == ids {
            let wanted = [batch as i64, context as i64];
            exported_for = fixed_dims(&input).filter(|dims| !wanted.ends_with(dims));
            let rank = tensor_type(&input).and_then(|t| t.shape.as_ref()).map_or(2, |shape| shape.dim.len());
            let shape = [batch, context];
            set_shape(&mut input, if rank == 1 { &shape[1..] } else { &shape }, DataType::Int64);
            graph.input.push(input);
        } else {
            graph.initializer.extend(neutral(&input, fixed_batch(&input).unwrap_or(batch), context));
        }
    }
    for output in &mut graph.output {
        output.r#type = None;
    }
    let ids_type = match graph.input.first().and_then(tensor_type).map(|t| t.elem_type) {
        Some(t) if t == DataType::Int32 as i32 => DatumType::I32,
        _ => DatumType::I64,
    };
    Ok(Fixed { context, ids_type, exported_for })
}

/// The model's graph, whose inputs are those alone that have no value of their own.
pub fn only_inputs(model: &mut ModelProto) -> Result<&mut GraphProto> {
    let graph = model.graph.as_mut().context("the model holds no graph")?;
    let initialized: HashSet<String> = graph.initializer.iter().map(|t| t.name.clone()).collect();
    graph.input.retain(|input| !initialized.contains(&input.name));
    graph.value_info.clear();
    Ok(graph)
}

pub fn tensor_type(info: &ValueInfoProto) -> Option<&type_proto::Tensor> {
    match info.r#type.as_ref()?.value.as_ref()? {
        Value::TensorType(tensor) => Some(tensor),
    }
}

fn is_integer(info: &ValueInfoProto) -> bool {
    tensor_type(info)
        .is_some_and(|t| t.elem_type == DataType::Int64 as i32 || t.elem_type == DataType::Int32 as i32)
}

/// The integer input that is not a mask, a position or a token type by its name; a name that says `ids` wins.
fn find_ids(graph: &GraphProto) -> Result<String> {
    let plain =
        |name: &str| !["mask", "position", "token_type", "segment"].iter().any(|word| name.contains(word));
    let mut integer: Vec<&str> = graph
        .input
        .iter()
        .filter(|i| is_integer(i))
        .map(|i| i.name.as_str())
        .filter(|name| plain(name))
        .collect();
    if integer.len() > 1 {
        let named: Vec<&str> = integer.iter().copied().filter(|name| name.contains("ids")).collect();
        integer = if named.is_empty() { integer } else { named };
    }
    match integer[..] {
        [ids] => Ok(ids.to_owned()),
        [] => {
            let found: Vec<String> = graph.input.iter().map(|i| format!("`{}`", i.name)).collect();
            bail!(
                "input {} does not fit: expected token ids, an int64 or int32 tensor [batch, tokens]; found no such \
                 input; give the text encoder's .onnx file{}",
                if found.is_empty() { "(none)".to_owned() } else { found.join(", ") },
                if graph.input.iter().any(is_pixels) {
                    ", or compile this image encoder with --image"
                } else {
                    ""
                }
            )
        }
        _ => {
            bail!("inputs `{}` could each be the token ids; name that one `input_ids`", integer.join("`, `"))
        }
    }
}

/// Whether an input can be pixels: floats of four axes.
pub fn is_pixels(input: &ValueInfoProto) -> bool {
    tensor_type(input).is_some_and(|t| {
        t.elem_type == DataType::Float as i32 && t.shape.as_ref().is_none_or(|shape| shape.dim.len() == 4)
    })
}

/// The input's dimensions, those that are free as `None`.
pub fn dims(input: &ValueInfoProto) -> Option<Vec<Option<i64>>> {
    let shape = tensor_type(input)?.shape.as_ref()?;
    let dims = shape.dim.iter().map(|dim| match dim.value {
        Some(dimension::Value::DimValue(value)) => Some(value),
        _ => None,
    });
    Some(dims.collect())
}

/// The input's dimensions, if none of them is free.
fn fixed_dims(input: &ValueInfoProto) -> Option<Vec<i64>> {
    dims(input)?.into_iter().collect()
}

/// Prompts at once, where the input of rank 2 fixes how many.
fn fixed_batch(input: &ValueInfoProto) -> Option<usize> {
    match tensor_type(input)?.shape.as_ref()?.dim.as_slice() {
        [Dimension { value: Some(dimension::Value::DimValue(batch)), .. }, _] => {
            usize::try_from(*batch).ok().filter(|&batch| batch > 0)
        }
        _ => None,
    }
}

/// Gives the input, of that type where it has none, the shape.
pub fn set_shape(input: &mut ValueInfoProto, shape: &[usize], default: DataType) {
    let dim = |&value: &usize| Dimension {
        value: Some(dimension::Value::DimValue(value as i64)),
        ..Dimension::default()
    };
    let elem_type = tensor_type(input).map_or(default as i32, |t| t.elem_type);
    let shape = TensorShapeProto { dim: shape.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type, shape: Some(shape) };
    input.r#type = Some(TypeProto { value: Some(Value::TensorType(tensor)), ..TypeProto::default() });
}

/// The value at which an input beside the ids says nothing: a mask of ones, positions in order, token type 0.
fn neutral(input: &ValueInfoProto, batch: usize, context: usize) -> Option<TensorProto> {
    let elem_type = DataType::try_from(tensor_type(input)?.elem_type).ok()?;
    let value = |position: usize| match input.name.as_str() {
        name if name.contains("mask") => Some(1),
        name if name.contains("position") => Some(position),
        name if name.contains("token_type") || name.contains("segment") => Some(0),
        _ => None,
    };
    let mut bytes = Vec::new();
    for position in 0..context {
        let value = value(position)?;
        match elem_type {
            DataType::Int64 => bytes.extend((value as i64).to_le_bytes()),
            DataType::Int32 => bytes.extend((value as i32).to_le_bytes()),
            DataType::Float => bytes.extend((value as f32).to_le_bytes()),
            DataType::Bool => bytes.push(u8::from(value != 0)),
            _ => return None,
        }
    }
    Some(tensor(&input.name, &[batch as i64, context as i64], elem_type, bytes.repeat(batch)))
}

/// The dimensions of the graph's constants, by their names.
pub fn constants(graph: &GraphProto) -> HashMap<&str, &[i64]> {
    let mut constants: HashMap<&str, &[i64]> =
        graph.initializer.iter().map(|t| (t.name.as_str(), t.dims.as_slice())).collect();
    for node in &graph.node {
        let value = node.attribute.iter().find(|a| a.name == "value").and_then(|a| a.t.as_ref());
        let source = node.input.first().and_then(|name| constants.get(name.as_str()).copied());
        let dims = match node.op_type.as_str() {
            "Constant" => value.map(|t| t.dims.as_slice()),
            "Identity" | "Cast" => source,
            _ => None,
        };
        if let (Some(dims), Some(output)) = (dims, node.output.first()) {
            constants.insert(output, dims);
        }
    }
    constants
}

/// The dimensions of the constants that are looked up in, or taken parts of, or added.
fn tables<'g>(graph: &'g GraphProto, ops: &[&str]) -> Vec<&'g [i64]> {
    let constants = constants(graph);
    let users = graph.node.iter().filter(|node| ops.contains(&node.op_type.as_str()));
    users.flat_map(|node| &node.input).filter_map(|name| constants.get(name.as_str()).copied()).collect()
}

/// Rows of tables of positions that are so wide, by the operators that read them.
pub fn position_rows(graph: &GraphProto, width: i64) -> Vec<usize> {
    let rows = |dims: &[i64]| match *dims {
        [rows, columns] | [1, rows, columns] if columns == width && rows > 1 => usize::try_from(rows).ok(),
        _ => None,
    };
    tables(graph, &["Gather", "Slice", "Add"]).into_iter().filter_map(rows).collect()
}

/// Rows of the position table: a constant as wide as the token table, looked up, sliced or added.
fn context(graph: &GraphProto) -> Option<usize> {
    let matrices = |dims: &&[i64]| dims.len() == 2;
    let vocabulary = tables(graph, &["Gather"]).into_iter().filter(matrices).max_by_key(|dims| dims[0])?;
    let is_positions = |rows: &usize| *rows as i64 != vocabulary[0];
    // A table of token types is shorter.
    position_rows(graph, vocabulary[1]).into_iter().filter(is_positions).max()
}

/// Drops the outputs that depend on the `foreign` inputs of a graph for one modality, and what no output needs. Of an input whose shape
/// alone counts, as where an exporter takes the batch from it, zeros of that `batch` are left.
pub fn keep_outputs_without(
    graph: &mut GraphProto,
    foreign: Vec<ValueInfoProto>,
    batch: usize,
    modality: Modality,
) -> Result<()> {
    let inputs: Vec<String> = foreign.iter().map(|input| input.name.clone()).collect();
    drop_dependent_outputs(graph, &inputs);
    let wanted = match modality {
        Modality::Text => "token ids",
        Modality::Image => "pixels",
    };
    ensure!(
        !graph.output.is_empty(),
        "input `{}` does not fit: expected {wanted} and nothing else; found that every output depends on it too; export the \
         {modality} alone",
        inputs.join("`, `")
    );
    drop_unused(graph);
    let read: HashSet<&str> = graph.node.iter().flat_map(reads).collect();
    let needed = foreign.iter().filter(|input| read.contains(input.name.as_str()));
    let zeros = needed.map(|input| zeros(input, batch)).collect::<Result<Vec<_>>>()?;
    graph.initializer.extend(zeros);
    Ok(())
}

/// Zeros in the shape of an input whose values nothing reads, of that batch where it leaves it open, and of one where it leaves other axes
/// open.
fn zeros(input: &ValueInfoProto, batch: usize) -> Result<TensorProto> {
    /// Most of them: the pixels of the largest images at once that are supported.
    const MOST: usize = 1 << 28;
    let size = |(at, size): (usize, &Option<i64>)| match size {
        Some(size) => usize::try_from(*size).unwrap_or(0),
        None if at == 0 => batch,
        None => 1,
    };
    let sizes = dims(input).unwrap_or_default();
    let shape: Vec<usize> = sizes.iter().enumerate().map(size).collect();
    let count =
        shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size)).filter(|&count| count <= MOST);
    let count = count
        .with_context(|| format!("input `{}` is too large: {shape:?}; export the model again", input.name))?;
    let shape: Vec<i64> = shape.into_iter().map(|size| size as i64).collect();
    // The type counts for as little as the values.
    Ok(tensor(&input.name, &shape, DataType::Bool, vec![0; count]))
}

fn drop_dependent_outputs(graph: &mut GraphProto, inputs: &[String]) {
    let mut foreign: HashSet<String> = inputs.iter().cloned().collect();
    // The nodes may stand in any order.
    let mut readers: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
    let only_shape =
        |node: &NodeProto| node.op_type == "Shape" && node.input.iter().all(|name| inputs.contains(name));
    for node in graph.node.iter().filter(|node| !only_shape(node)) {
        for name in reads(node) {
            readers.entry(name).or_default().push(node);
        }
    }
    let mut pending = inputs.to_vec();
    while let Some(name) = pending.pop() {
        for output in readers.remove(name.as_str()).into_iter().flatten().flat_map(|node| &node.output) {
            if foreign.insert(output.clone()) {
                pending.push(output.clone());
            }
        }
    }
    graph.output.retain(|output| !foreign.contains(&output.name));
}

/// Drops the nodes and weights that no output needs.
fn drop_unused(graph: &mut GraphProto) {
    let producers: HashMap<&str, usize> = graph
        .node
        .iter()
        .zip(0..)
        .flat_map(|(node, index)| node.output.iter().map(move |output| (output.as_str(), index)))
        .collect();
    let mut needed: HashSet<String> = HashSet::new();
    let mut kept = vec![false; graph.node.len()];
    let mut pending: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    while let Some(name) = pending.pop() {
        if let Some(&index) = producers.get(name)
            && !std::mem::replace(&mut kept[index], true)
        {
            pending.extend(reads(&graph.node[index]));
        }
        needed.insert(name.to_owned());
    }
    let mut kept = kept.into_iter();
    graph.node.retain(|_| kept.next().unwrap_or(true));
    graph.initializer.retain(|tensor| needed.contains(&tensor.name));
}
