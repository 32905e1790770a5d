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

#[cfg(test)]
mod tests {
    use tract_onnx::pb::GraphProto;

    use super::super::proto::node;
    use super::*;

    fn function(name: &str, body: Vec<NodeProto>) -> FunctionProto {
        FunctionProto {
            name: Some(name.into()),
            domain: Some("local".into()),
            input: vec!["x".into()],
            output: vec!["y".into()],
            node: body,
            ..FunctionProto::default()
        }
    }

    fn call(name: &str, input: &str, output: &str) -> NodeProto {
        NodeProto { domain: "local".into(), ..node(name, &[input], output) }
    }

    fn model(functions: Vec<FunctionProto>, nodes: Vec<NodeProto>) -> ModelProto {
        let graph = GraphProto { node: nodes, ..GraphProto::default() };
        ModelProto { functions, graph: Some(graph), ..ModelProto::default() }
    }

    #[test]
    fn calls_become_bodies_with_names_of_their_own() {
        let mut softmax = node("Softmax", &["e"], "y");
        let axis =
            AttributeProto { name: "axis".into(), ref_attr_name: "dim".into(), ..AttributeProto::default() };
        softmax.attribute.push(axis);
        let inner = function("Inner", vec![node("Exp", &["x"], "e"), softmax]);
        let mut nested = call("Inner", "x", "y");
        nested.attribute.push(AttributeProto { name: "dim".into(), i: 2, ..AttributeProto::default() });
        let outer = function("Outer", vec![nested]);
        let mut model = model(vec![inner, outer], vec![call("Outer", "a", "b"), call("Outer", "b", "c")]);
        inline(&mut model).expect("an expansion");
        let nodes = model.graph.expect("a graph").node;
        let shape: Vec<_> = nodes.iter().map(|n| (n.op_type.as_str(), n.input[0].as_str())).collect();
        assert_eq!(shape[0], ("Exp", "a"));
        assert_eq!(shape[2], ("Exp", "b"));
        assert_eq!((nodes[1].output[0].as_str(), nodes[3].output[0].as_str()), ("b", "c"));
        assert_eq!(nodes[1].input, nodes[0].output);
        assert_ne!(nodes[0].output, nodes[2].output);
        assert_eq!((nodes[1].attribute[0].name.as_str(), nodes[1].attribute[0].i), ("axis", 2));
    }

    #[test]
    fn functions_without_end_are_refused() {
        let mut cycle = model(vec![function("F", vec![call("F", "x", "y")])], vec![call("F", "a", "b")]);
        assert!(inline(&mut cycle).expect_err("a cycle").to_string().contains("deep"));
        let double =
            |name: &str, inner: &str| function(name, vec![call(inner, "x", "m"), call(inner, "m", "y")]);
        let mut functions: Vec<_> =
            (0..25).map(|n| double(&format!("F{n}"), &format!("F{}", n + 1))).collect();
        functions.push(function("F25", vec![node("Exp", &["x"], "y")]));
        let mut bomb = model(functions, vec![call("F0", "a", "b")]);
        assert!(inline(&mut bomb).expect_err("a bomb").to_string().contains("nodes"));
    }
}
