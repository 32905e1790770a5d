//! Exports of a CLIP whose graph was changed: refused, or imported and perhaps recognised. Never a panic or a loop.
#![no_main]

use std::path::Path;

use cliptext_compiler::import::onnx;
use cliptext_compiler::recognise::recognise;
use cliptext_test_support::export;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use tract_onnx::pb::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, attribute_proto,
};

/// Of TorchScript and dynamo, with functions of ONNX Runtime's among them.
const EXPORTS: [&str; 4] = [
    "sd.tf523-torch215-ts.op14.static.i64",
    "proj.tf523-torch215-dynamo.op23.static.sdpa",
    "proj.onnxruntime-attention",
    "proj.tf425-torch113-ts.op14.dynamic.i32.hs",
];

/// Operators that a node becomes: those of CLIP's graphs, of control flow, and one that nobody knows.
const OPERATORS: [&str; 24] = [
    "Add", "MatMul", "Gemm", "Reshape", "Transpose", "Softmax", "Gather", "Slice", "Concat", "Where", "Expand", "Shape",
    "ConstantOfShape", "Range", "If", "Loop", "Scan", "Attention", "LayerNormalization", "ArgMax", "Unsqueeze", "Cast",
    "Split", "NoSuchOperator",
];

#[derive(Arbitrary, Debug)]
enum Edit {
    Operator { node: u16, operator: u8, domain: u8 },
    /// Reads what another node writes, itself or a later one too: a cycle.
    Read { node: u16, input: u8, from: u16 },
    Write { node: u16, output: u8, like: u16 },
    Attribute { node: u16, attribute: u8, number: i64, list: Vec<i32> },
    Kind { node: u16, attribute: u8, kind: i32 },
    Remove(u16),
    Repeat(u16),
    Dimension { tensor: u16, axis: u8, to: i64 },
    Values { tensor: u16, at: u16, byte: u8 },
    Shorten { tensor: u16, bytes: u16 },
    Type { tensor: u16, to: i32 },
    Input { axis: u8, to: i64 },
    Opset { version: i64, domain: u8 },
    /// A function that calls itself, or others, and a node that calls it.
    Function { node: u16, calls: Vec<u8> },
    /// A graph within a node.
    Within { node: u16, depth: u8 },
    External { tensor: u16, location: String },
}

thread_local! {
    static MODELS: [ModelProto; EXPORTS.len()] = EXPORTS.map(export);
}

fuzz_target!(|input: (u8, Vec<Edit>)| {
    let (which, edits) = input;
    let mut model = MODELS.with(|models| models[usize::from(which) % models.len()].clone());
    edits.iter().take(12).for_each(|edit| apply(edit, &mut model));
    // What is read is what a file can hold.
    let Ok(model) = ModelProto::decode(&*model.encode_to_vec()) else { return };
    let nowhere = Path::new("/nonexistent");
    let image = onnx::import_image(model.clone(), nowhere, Some(16));
    for error in [image.err(), of_text(model, nowhere)].into_iter().flatten() {
        assert!(!format!("{error:#}").is_empty());
    }
});

fn of_text(model: ModelProto, folder: &Path) -> Option<anyhow::Error> {
    match onnx::import(model, folder) {
        Ok(imported) => recognise(&imported.model).err().map(Into::into),
        Err(error) => Some(error),
    }
}

fn at<T>(list: &mut [T], place: impl Into<usize>) -> Option<&mut T> {
    let place: usize = place.into();
    let count = list.len();
    list.get_mut(place.checked_rem(count)?)
}

fn apply(edit: &Edit, model: &mut ModelProto) {
    if let Edit::Opset { version, domain } = edit {
        let names = ["", "com.microsoft", "pkg.onnxscript.torch_lib", "own"];
        let domain = names[usize::from(*domain) % names.len()].to_owned();
        model.opset_import.retain(|opset| opset.domain != domain);
        model.opset_import.push(OperatorSetIdProto { domain, version: *version });
        return;
    }
    if let Edit::Function { node, calls } = edit {
        for (number, called) in calls.iter().take(24).enumerate() {
            let name = |number: usize| format!("f{number}");
            let call = |input: &str, output: &str| NodeProto {
                op_type: name(usize::from(*called) % calls.len().min(24)),
                domain: "own".into(),
                input: vec![input.into()],
                output: vec![output.into()],
                ..NodeProto::default()
            };
            model.functions.push(FunctionProto {
                name: Some(name(number)),
                domain: Some("own".into()),
                input: vec!["x".into()],
                output: vec!["z".into()],
                // Twice: without bounds the nodes double with each function.
                node: vec![call("x", "y"), call("y", "z")],
                ..FunctionProto::default()
            });
        }
        let Some(graph) = &mut model.graph else { return };
        if let Some(node) = at(&mut graph.node, *node) {
            (node.op_type, node.domain) = ("f0".into(), "own".into());
        }
        return;
    }
    let Some(graph) = &mut model.graph else { return };
    in_graph(edit, graph);
}

fn in_graph(edit: &Edit, graph: &mut GraphProto) {
    let names: Vec<String> = graph.node.iter().flat_map(|node| node.output.clone()).collect();
    let name = |place: u16| names.get(usize::from(place) % names.len().max(1)).cloned().unwrap_or_default();
    match edit {
        Edit::Operator { node, operator, domain } => {
            if let Some(node) = at(&mut graph.node, *node) {
                node.op_type = OPERATORS[usize::from(*operator) % OPERATORS.len()].into();
                node.domain = ["", "", "", "com.microsoft", "own"][usize::from(*domain) % 5].into();
            }
        }
        Edit::Read { node, input, from } => {
            if let Some(input) = at(&mut graph.node, *node).and_then(|node| at(&mut node.input, *input)) {
                *input = name(*from);
            }
        }
        Edit::Write { node, output, like } => {
            if let Some(output) = at(&mut graph.node, *node).and_then(|node| at(&mut node.output, *output)) {
                *output = name(*like);
            }
        }
        Edit::Attribute { node, attribute, number, list } => {
            if let Some(found) = at(&mut graph.node, *node).and_then(|node| at(&mut node.attribute, *attribute)) {
                found.i = *number;
                found.ints = list.iter().map(|&number| number.into()).collect();
            }
        }
        Edit::Kind { node, attribute, kind } => {
            if let Some(found) = at(&mut graph.node, *node).and_then(|node| at(&mut node.attribute, *attribute)) {
                found.r#type = *kind;
            }
        }
        Edit::Remove(node) => {
            if !graph.node.is_empty() {
                graph.node.remove(usize::from(*node) % graph.node.len());
            }
        }
        Edit::Repeat(node) => {
            if let Some(node) = at(&mut graph.node, *node).cloned() {
                graph.node.push(node);
            }
        }
        Edit::Dimension { tensor, axis, to } => {
            if let Some(dim) = at(&mut graph.initializer, *tensor).and_then(|tensor| at(&mut tensor.dims, *axis)) {
                *dim = *to;
            }
        }
        Edit::Values { tensor, at: place, byte } => {
            if let Some(value) = at(&mut graph.initializer, *tensor).and_then(|tensor| at(&mut tensor.raw_data, *place)) {
                *value = *byte;
            }
        }
        Edit::Shorten { tensor, bytes } => {
            if let Some(TensorProto { raw_data, .. }) = at(&mut graph.initializer, *tensor) {
                raw_data.truncate(raw_data.len().saturating_sub(usize::from(*bytes)));
            }
        }
        Edit::Type { tensor, to } => {
            if let Some(tensor) = at(&mut graph.initializer, *tensor) {
                tensor.data_type = *to;
            }
        }
        Edit::Input { axis, to } => {
            use tract_onnx::pb::tensor_shape_proto::dimension::Value;
            use tract_onnx::pb::type_proto;
            let kind = graph.input.first_mut().and_then(|input| input.r#type.as_mut()).and_then(|kind| kind.value.as_mut());
            if let Some(type_proto::Value::TensorType(tensor)) = kind
                && let Some(dim) = tensor.shape.as_mut().and_then(|shape| at(&mut shape.dim, *axis))
            {
                dim.value = Some(Value::DimValue(*to));
            }
        }
        Edit::Within { node, depth } => {
            let mut inner = GraphProto { node: graph.node.iter().take(2).cloned().collect(), ..GraphProto::default() };
            for _ in 0..*depth {
                let outer = NodeProto { op_type: "If".into(), attribute: vec![branch(inner)], ..NodeProto::default() };
                inner = GraphProto { node: vec![outer], ..GraphProto::default() };
            }
            if let Some(node) = at(&mut graph.node, *node) {
                node.op_type = "If".into();
                node.attribute = vec![branch(inner)];
            }
        }
        Edit::External { tensor, location } => {
            use tract_onnx::pb::StringStringEntryProto;
            use tract_onnx::pb::tensor_proto::DataLocation;
            if let Some(tensor) = at(&mut graph.initializer, *tensor) {
                tensor.data_location = Some(DataLocation::External.into());
                let entry = StringStringEntryProto { key: "location".into(), value: location.clone() };
                tensor.external_data = vec![entry];
            }
        }
        Edit::Opset { .. } | Edit::Function { .. } => {}
    }
}

fn branch(graph: GraphProto) -> AttributeProto {
    AttributeProto {
        name: "then_branch".into(),
        r#type: attribute_proto::AttributeType::Graph.into(),
        g: Some(graph),
        ..AttributeProto::default()
    }
}
