//! Whether a decoded model is sound: every tensor as long as its dimensions say, every name defined, once.
//!
//! tract trusts what it reads; a file that lies about its lengths must be stopped here.

use std::collections::HashSet;

use anyhow::{Context, Result, bail, ensure};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};

use super::proto::label;

/// Nested graphs (`If`, `Loop`) deeper than this are refused; no exporter writes more than two.
const DEEPEST: usize = 8;

/// Refuses what a sound exporter cannot have written.
pub fn check(model: &ModelProto) -> Result<()> {
    let graph = model.graph.as_ref().context("the model holds no graph")?;
    ensure!(
        !graph.node.is_empty(),
        "the graph has no nodes; give an .onnx file exported from a CLIP text encoder"
    );
    ensure!(!graph.output.is_empty(), "the graph has no outputs; export the model again");
    ensure!(
        graph.sparse_initializer.is_empty(),
        "sparse weights are not supported; export the model with dense ones"
    );
    check_graph(graph, &HashSet::new(), 0)?;
    for function in &model.functions {
        check_tensors(&function.node, 0)?;
    }
    Ok(())
}

fn check_graph<'a>(graph: &'a GraphProto, outer: &HashSet<&'a str>, depth: usize) -> Result<()> {
    ensure!(depth <= DEEPEST, "graphs are nested more than {DEEPEST} deep");
    for tensor in &graph.initializer {
        check_tensor(tensor)?;
    }
    for input in &graph.input {
        let known = matches!(
            input.r#type.as_ref().and_then(|t| t.value.as_ref()),
            Some(Value::TensorType(t)) if DataType::try_from(t.elem_type).is_ok_and(|t| t != DataType::Undefined)
        );
        ensure!(depth > 0 || known, "input `{}` is not a tensor of a known type", input.name);
    }
    let mut defined = outer.clone();
    defined.extend(graph.initializer.iter().map(|tensor| tensor.name.as_str()));
    defined.extend(graph.input.iter().map(|input| input.name.as_str()));
    for node in &graph.node {
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            ensure!(
                defined.insert(output),
                "node {} computes `{output}`, which is defined already",
                label(node)
            );
        }
    }
    for node in &graph.node {
        if let Some(input) =
            node.input.iter().find(|name| !name.is_empty() && !defined.contains(name.as_str()))
        {
            bail!("node {} takes `{input}`, which nothing in the graph computes", label(node));
        }
        for attribute in &node.attribute {
            for nested in attribute.g.iter().chain(&attribute.graphs) {
                check_graph(nested, &defined, depth + 1)?;
            }
        }
    }
    check_tensors(&graph.node, depth)?;
    for output in &graph.output {
        ensure!(
            defined.contains(output.name.as_str()),
            "nothing in the graph computes its output `{}`",
            output.name
        );
    }
    Ok(())
}

fn check_tensors(nodes: &[NodeProto], depth: usize) -> Result<()> {
    ensure!(depth <= DEEPEST, "graphs are nested more than {DEEPEST} deep");
    for node in nodes {
        for attribute in &node.attribute {
            for tensor in attribute.t.iter().chain(&attribute.tensors) {
                check_tensor(tensor).with_context(|| format!("in node {}", label(node)))?;
            }
            ensure!(
                attribute.sparse_tensor.is_none() && attribute.sparse_tensors.is_empty(),
                "node {} holds a sparse tensor, which is not supported",
                label(node)
            );
        }
    }
    Ok(())
}

/// Bytes of one element in `raw_data`, for the types that tract knows and a text encoder uses.
pub fn element_size(data_type: DataType) -> Option<usize> {
    Some(match data_type {
        DataType::Bool | DataType::Uint8 | DataType::Int8 => 1,
        DataType::Uint16 | DataType::Int16 | DataType::Float16 | DataType::Bfloat16 => 2,
        DataType::Uint32 | DataType::Int32 | DataType::Float => 4,
        DataType::Uint64 | DataType::Int64 | DataType::Double => 8,
        _ => return None,
    })
}

/// Number of elements that the dimensions promise.
pub fn elements(tensor: &TensorProto) -> Result<usize> {
    tensor
        .dims
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(usize::try_from(dim).ok()?))
        .with_context(|| format!("tensor `{}` has impossible dimensions {:?}", tensor.name, tensor.dims))
}

fn check_tensor(tensor: &TensorProto) -> Result<()> {
    let name = &tensor.name;
    let data_type = DataType::try_from(tensor.data_type)
        .ok()
        .with_context(|| format!("tensor `{name}` has an unknown element type {}", tensor.data_type))?;
    let promised = elements(tensor)?;
    ensure!(tensor.segment.is_none(), "tensor `{name}` is split into segments, which is not supported");
    if data_type == DataType::String {
        let held = tensor.string_data.len();
        ensure!(held == promised, "tensor `{name}` promises {promised} strings but holds {held}");
        return Ok(());
    }
    let size = element_size(data_type).with_context(|| {
        format!(
            "tensor `{name}` is of type {data_type:?}, which is not supported; export the model in f32 or f16"
        )
    })?;
    if tensor.raw_data.is_empty() {
        let held = match data_type {
            DataType::Float => tensor.float_data.len(),
            DataType::Double => tensor.double_data.len(),
            DataType::Int64 => tensor.int64_data.len(),
            DataType::Uint32 | DataType::Uint64 => tensor.uint64_data.len(),
            _ => tensor.int32_data.len(),
        };
        ensure!(
            held == promised,
            "tensor `{name}` promises {promised} values but holds {held}; copy the file again"
        );
    } else {
        let bytes = promised.checked_mul(size);
        ensure!(
            bytes == Some(tensor.raw_data.len()),
            "tensor `{name}` promises {promised} values of {size} bytes but holds {} bytes; copy the file again",
            tensor.raw_data.len()
        );
    }
    Ok(())
}
