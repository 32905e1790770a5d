//! Model-local functions, as torch 2.1 to 2.4's dynamo exporter writes them: every call becomes the function's body.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use tract_onnx::pb::{AttributeProto, FunctionProto, ModelProto, NodeProto};

/// Functions calling functions deeper than this are refused: a chain this long is a cycle.
const DEEPEST: usize = 32;
/// More nodes than any text encoder has; keeps functions that double at each level from filling the memory.
const MOST_NODES: usize = 100_000;

type Functions = HashMap<(String, String), FunctionProto>;

/// Replaces every call of a model-local function.
pub fn inline(model: &mut ModelProto) -> Result<()> {
    let functions: Functions = std::mem::take(&mut model.functions)
        .into_iter()
        .map(|f| ((f.domain.clone().unwrap_or_default(), f.name.clone().unwrap_or_default()), f))
        .collect();
    let Some(graph) = model.graph.as_mut().filter(|_| !functions.is_empty()) else {
        return Ok(());
    };
    let mut flat = Vec::new();
    for node in std::mem::take(&mut graph.node) {
        expand(node, &functions, &mut flat, 0)?;
    }
    graph.node = flat;
    Ok(())
}

fn expand(call: NodeProto, functions: &Functions, flat: &mut Vec<NodeProto>, depth: usize) -> Result<()> {
    let Some(function) = functions.get(&(call.domain.clone(), call.op_type.clone())) else {
        ensure!(flat.len() < MOST_NODES, "the model's functions expand to more than {MOST_NODES} nodes");
        flat.push(call);
        return Ok(());
    };
    ensure!(depth < DEEPEST, "the model's functions call each other more than {DEEPEST} deep");
    let prefix =
        format!("{}#{}", call.output.first().map_or(call.name.as_str(), String::as_str), call.op_type);
    // Names outside: the call's arguments and results; an argument left out is the empty name.
    let mut outer: HashMap<&str, String> = HashMap::new();
    for (index, inside) in function.input.iter().enumerate() {
        outer.insert(inside, call.input.get(index).cloned().unwrap_or_default());
    }
    for (inside, outside) in
        function.output.iter().zip(&call.output).filter(|(_, outside)| !outside.is_empty())
    {
        outer.insert(inside, outside.clone());
    }
    let rename = |name: &String| match outer.get(name.as_str()) {
        Some(outside) => outside.clone(),
        None if name.is_empty() => String::new(),
        None => format!("{prefix}/{name}"),
    };
    for body in &function.node {
        let mut node = body.clone();
        node.name = format!("{prefix}/{}", node.name);
        node.input = node.input.iter().map(rename).collect();
        node.output = node.output.iter().map(rename).collect();
        node.attribute = bind(&node, &call);
        expand(node, functions, flat, depth + 1)?;
    }
    Ok(())
}

/// The node's attributes, with every reference to one of the function's replaced by the call's value, or left out where
/// the call gives none.
fn bind(node: &NodeProto, call: &NodeProto) -> Vec<AttributeProto> {
    let given = |name: &str| call.attribute.iter().find(|attribute| attribute.name == name).cloned();
    let bound = node.attribute.iter().filter_map(|attribute| match attribute.ref_attr_name.as_str() {
        "" => Some(attribute.clone()),
        reference => given(reference).map(|mut value| {
            value.name.clone_from(&attribute.name);
            value
        }),
    });
    bound.collect()
}
