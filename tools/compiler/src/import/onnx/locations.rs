//! The files that an ONNX model keeps its tensors in, found without decoding the tensors themselves.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use tract_onnx::pb::tensor_proto::DataLocation;

use super::external::plain;

/// Names of the files beside the ONNX file at `path` that hold its external tensors, in order and each once: relative
/// to the model's folder, and never outside it. Empty where the model holds all of its tensors itself.
///
/// # Errors
/// When the file cannot be read, is no ONNX model, or names a file outside its folder. The error names the file.
pub fn external_locations(path: &Path) -> Result<BTreeSet<String>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    locations(&bytes).with_context(|| format!("`{}`", path.display()))
}

fn locations(bytes: &[u8]) -> Result<BTreeSet<String>> {
    let model = <Model as prost::Message>::decode(bytes).map_err(|e| {
        anyhow!("this is not an ONNX model, or only the beginning of one ({e}); copy or download it again")
    })?;
    let mut found = BTreeSet::new();
    let nodes = model.functions.into_iter().flat_map(|function| function.node);
    let mut graphs = vec![Graph { node: nodes.collect(), initializer: Vec::new() }];
    graphs.extend(model.graph);
    while let Some(graph) = graphs.pop() {
        let mut tensors = graph.initializer;
        for attribute in graph.node.into_iter().flat_map(|node| node.attribute) {
            tensors.extend(attribute.t.into_iter().chain(attribute.tensors));
            graphs.extend(attribute.g.into_iter().chain(attribute.graphs));
        }
        for tensor in tensors.into_iter().filter(|t| t.data_location == DataLocation::External as i32) {
            let location = tensor.external_data.into_iter().find(|entry| entry.key == "location");
            let location = location
                .with_context(|| format!("tensor `{}` is external but names no file", tensor.name))?
                .value;
            plain(&location).with_context(|| format!("tensor `{}`", tensor.name))?;
            found.insert(location);
        }
    }
    Ok(found)
}

// The parts of ONNX's messages on the way to an external tensor's location; prost skips every other field, the data
// among them.

#[derive(Clone, PartialEq, prost::Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Function>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Function {
    #[prost(message, repeated, tag = "7")]
    node: Vec<Node>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Tensor>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Node {
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Attribute {
    #[prost(message, optional, tag = "5")]
    t: Option<Tensor>,
    #[prost(message, optional, tag = "6")]
    g: Option<Graph>,
    #[prost(message, repeated, tag = "10")]
    tensors: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<Graph>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Tensor {
    #[prost(string, tag = "8")]
    name: String,
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<Entry>,
    #[prost(int32, tag = "14")]
    data_location: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}
