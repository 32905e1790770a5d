//! Small helpers over the generated ONNX protobuf types.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// A node of the default operator set with one output and no attributes.
pub fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.to_owned(),
        name: output.to_owned(),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

/// An f32 tensor.
pub fn f32_tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    tensor(name, dims, DataType::Float, values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// A tensor of any type from its little-endian bytes.
pub fn tensor(name: &str, dims: &[i64], data_type: DataType, raw_data: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: data_type as i32,
        raw_data,
        ..TensorProto::default()
    }
}

/// The attribute of that name.
pub fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

fn named(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: kind as i32, ..AttributeProto::default() }
}

/// An attribute that is an integer.
pub fn int_attribute(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, ..named(name, AttributeType::Int) }
}

/// An attribute that is several integers.
pub fn ints_attribute(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { ints, ..named(name, AttributeType::Ints) }
}

/// An attribute that is a number.
pub fn float_attribute(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f, ..named(name, AttributeType::Float) }
}

/// An attribute that is a text.
pub fn string_attribute(name: &str, text: &str) -> AttributeProto {
    AttributeProto { s: text.as_bytes().to_vec(), ..named(name, AttributeType::String) }
}

/// An attribute that is a tensor.
pub fn tensor_attribute(name: &str, tensor: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(tensor), ..named(name, AttributeType::Tensor) }
}

/// Whether that is the domain of ONNX's own operator set.
pub fn is_default_domain(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// Every value that the node reads, those that its nested graphs take from around them too.
pub fn reads(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> =
        node.input.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    let mut graphs: Vec<&GraphProto> = nested(node).collect();
    while let Some(graph) = graphs.pop() {
        for inner in &graph.node {
            names.extend(inner.input.iter().map(String::as_str));
            graphs.extend(nested(inner));
        }
        names.extend(graph.output.iter().map(|output| output.name.as_str()));
    }
    names
}

/// The graphs in the node's attributes.
pub fn nested(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// What a message calls the node: its name, or its first output's.
pub fn label(node: &NodeProto) -> String {
    let name = if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name };
    format!("`{name}` ({})", node.op_type)
}

/// Calls `visit` on every tensor of the graph: initializers, attributes and nested graphs.
pub fn each_tensor<E>(
    graph: &mut GraphProto,
    visit: &mut dyn FnMut(&mut TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    for tensor in &mut graph.initializer {
        visit(tensor)?;
    }
    each_node_tensor(&mut graph.node, visit)
}

/// Calls `visit` on every tensor that the nodes' attributes hold.
pub fn each_node_tensor<E>(
    nodes: &mut [NodeProto],
    visit: &mut dyn FnMut(&mut TensorProto) -> Result<(), E>,
) -> Result<(), E> {
    for attribute in nodes.iter_mut().flat_map(|node| &mut node.attribute) {
        for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
            visit(tensor)?;
        }
        for nested in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            each_tensor(nested, visit)?;
        }
    }
    Ok(())
}
