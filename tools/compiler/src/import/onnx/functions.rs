//! Model-local functions, as torch 2.1 to 2.4's dynamo exporter writes them: every call becomes the function's body.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use prost::Message as _;
use tract_onnx::pb::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};

use super::proto::label;

/// Functions calling functions deeper than this are refused: a chain this long is a cycle.
const DEEPEST: usize = 32;
/// More nodes than any text encoder or UNet has, and calls counted as nodes; keeps functions that double at each level from filling the
/// memory, and those whose bodies are empty from taking for ever.
const MOST_NODES: usize = 50_000;
/// Most bytes of the functions' bodies, each counted as often as its function is called.
const MOST_BYTES: usize = 1 << 30;
/// What a name of a function's arguments and results costs at each call, about.
const NAME_BYTES: usize = 64;

/// A function, and the bytes and names of each node of its body.
struct Function {
    proto: FunctionProto,
    sizes: Vec<(usize, usize)>,
}

type Functions = HashMap<(String, String), Function>;

/// Replaces every call of a model-local function, in nested graphs too.
pub fn inline(model: &mut ModelProto) -> Result<()> {
    let mut functions = Functions::new();
    for function in std::mem::take(&mut model.functions) {
        let name = (function.domain().to_owned(), function.name().to_owned());
        ensure!(
            !functions.contains_key(&name),
            "there are two functions `{}`; export the model again",
            name.1
        );
        let sizes = function.node.iter().map(|node| (node.encoded_len(), names_in(node))).collect();
        functions.insert(name, Function { proto: function, sizes });
    }
    let Some(graph) = model.graph.as_mut() else { return Ok(()) };
    let mut inliner = Inliner { functions: &functions, nodes: 0, bytes: 0 };
    graph.node = inliner.expand_all(std::mem::take(&mut graph.node), 0)?;
    Ok(())
}

struct Inliner<'a> {
    functions: &'a Functions,
    /// Nodes and calls so far, those of nested graphs too.
    nodes: usize,
    /// Bytes of the bodies so far.
    bytes: usize,
}

impl Inliner<'_> {
    fn expand_all(&mut self, nodes: Vec<NodeProto>, depth: usize) -> Result<Vec<NodeProto>> {
        let mut flat = Vec::new();
        for node in nodes {
            self.expand(node, &mut flat, depth)?;
        }
        Ok(flat)
    }

    fn expand(&mut self, mut call: NodeProto, flat: &mut Vec<NodeProto>, depth: usize) -> Result<()> {
        self.nodes += 1;
        ensure!(
            self.nodes <= MOST_NODES,
            "the graph, with its functions, has more than {MOST_NODES} nodes; export the text encoder alone"
        );
        let Some(Function { proto: function, sizes }) =
            self.functions.get(&(call.domain.clone(), call.op_type.clone()))
        else {
            for nested in call.attribute.iter_mut().flat_map(|a| a.g.iter_mut().chain(&mut a.graphs)) {
                nested.node = self.expand_all(std::mem::take(&mut nested.node), depth)?;
            }
            flat.push(call);
            return Ok(());
        };
        ensure!(
            depth < DEEPEST,
            "the model's functions call each other more than {DEEPEST} deep; export it again"
        );
        ensure!(
            call.input.len() <= function.input.len() && call.output.len() <= function.output.len(),
            "node {} gives its function more inputs or takes more outputs than it has; export the model again",
            label(&call)
        );
        self.take((function.input.len() + function.output.len()).saturating_mul(NAME_BYTES))?;
        let names = Names::of(&call, function);
        let given = call.attribute.iter().map(|attribute| (attribute.name.as_str(), attribute)).collect();
        for (body, (bytes, named)) in function.node.iter().zip(sizes) {
            // Before it is there.
            self.take(named.saturating_mul(names.prefix.len() + 1).saturating_add(*bytes))?;
            let mut node = body.clone();
            names.rename_node(&mut node);
            self.bind(&mut node, &given)?;
            self.expand(node, flat, depth + 1)?;
        }
        Ok(())
    }

    /// Counts bytes that a call makes.
    fn take(&mut self, bytes: usize) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        ensure!(
            self.bytes <= MOST_BYTES,
            "the bodies of the model's functions are more than {MOST_BYTES} bytes where they are called; export it again"
        );
        Ok(())
    }

    /// Replaces every reference to one of the function's attributes by the value that the call has given, in nested graphs too, or leaves the
    /// attribute out where it gives none.
    fn bind(&mut self, node: &mut NodeProto, given: &HashMap<&str, &AttributeProto>) -> Result<()> {
        for mut attribute in std::mem::take(&mut node.attribute) {
            if attribute.ref_attr_name.is_empty() {
                let nested = attribute.g.iter_mut().chain(&mut attribute.graphs);
                nested.flat_map(|graph| &mut graph.node).try_for_each(|inner| self.bind(inner, given))?;
                node.attribute.push(attribute);
            } else if let Some(value) = given.get(attribute.ref_attr_name.as_str()) {
                self.take(value.encoded_len())?;
                node.attribute.push(AttributeProto { name: attribute.name, ..(*value).clone() });
            }
        }
        Ok(())
    }
}

/// Names in a node and the graphs in it: each grows where a call gives it its own.
fn names_in(node: &NodeProto) -> usize {
    let graphs = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    let nested = graphs.map(|graph| {
        let own = graph.input.len() + graph.output.len() + graph.value_info.len() + graph.initializer.len();
        own + graph.node.iter().map(names_in).sum::<usize>()
    });
    1 + node.input.len() + node.output.len() + nested.sum::<usize>()
}

/// The names of a function's values at one call: the call's own for arguments and results, else names that begin with
/// the call's.
struct Names<'a> {
    outer: HashMap<&'a str, &'a str>,
    prefix: String,
}

impl<'a> Names<'a> {
    fn of(call: &'a NodeProto, function: &'a FunctionProto) -> Self {
        // An argument left out is the empty name; a result left out is computed all the same.
        let given = call.input.iter().map(String::as_str).chain(std::iter::repeat(""));
        let inputs = function.input.iter().map(String::as_str).zip(given);
        let outputs = function.output.iter().zip(&call.output).filter(|(_, outside)| !outside.is_empty());
        let outputs = outputs.map(|(inside, outside)| (inside.as_str(), outside.as_str()));
        let name = call.output.iter().find(|name| !name.is_empty()).unwrap_or(&call.name);
        Names { outer: inputs.chain(outputs).collect(), prefix: format!("{name}#{}", call.op_type) }
    }

    fn rename(&self, name: &mut String) {
        match self.outer.get(name.as_str()) {
            Some(outside) => *name = (*outside).to_owned(),
            None if name.is_empty() => {}
            None => *name = format!("{}/{name}", self.prefix),
        }
    }

    fn rename_node(&self, node: &mut NodeProto) {
        node.name = format!("{}/{}", self.prefix, node.name);
        node.input.iter_mut().chain(&mut node.output).for_each(|name| self.rename(name));
        let nested = node.attribute.iter_mut().flat_map(|a| a.g.iter_mut().chain(&mut a.graphs));
        nested.for_each(|graph| self.rename_graph(graph));
    }

    fn rename_graph(&self, graph: &mut GraphProto) {
        let infos = graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info);
        infos.map(|info| &mut info.name).for_each(|name| self.rename(name));
        graph.initializer.iter_mut().for_each(|tensor| self.rename(&mut tensor.name));
        graph.node.iter_mut().for_each(|node| self.rename_node(node));
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::{TensorProto, ValueInfoProto};

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
    fn a_graph_in_a_body_keeps_its_names() {
        // y = If(x) { x } else { m }, where m is the body's own.
        let branch = |from: &str| GraphProto {
            node: vec![node("Exp", &[from], "e"), call("Inner", "e", "r")],
            output: vec![ValueInfoProto { name: "r".into(), ..ValueInfoProto::default() }],
            ..GraphProto::default()
        };
        let mut choice = node("If", &["x"], "y");
        for (name, from) in [("then_branch", "x"), ("else_branch", "m")] {
            let graph = Some(branch(from));
            choice.attribute.push(AttributeProto {
                name: name.into(),
                g: graph,
                ..AttributeProto::default()
            });
        }
        let inner = function("Inner", vec![node("Neg", &["x"], "y")]);
        let outer = function("Outer", vec![node("Not", &["x"], "m"), choice]);
        let mut model = model(vec![inner, outer], vec![call("Outer", "a", "b")]);
        inline(&mut model).expect("an expansion");
        let nodes = model.graph.expect("a graph").node;
        let own = &nodes[0].output[0];
        for (attribute, from) in nodes[1].attribute.iter().zip(["a", own]) {
            let graph = attribute.g.as_ref().expect("a branch");
            let shape: Vec<_> = graph.node.iter().map(|n| n.op_type.as_str()).collect();
            assert_eq!(shape, ["Exp", "Neg"]);
            assert_eq!(graph.node[0].input, [from]);
            assert_eq!(graph.node[1].input, graph.node[0].output);
            assert_eq!(graph.node[1].output[0], graph.output[0].name);
        }
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
        // One tensor of a MiB, a thousand and more times.
        let mut large = node("Constant", &[], "y");
        let tensor = TensorProto { raw_data: vec![0; 1 << 20], ..TensorProto::default() };
        large.attribute.push(AttributeProto { t: Some(tensor), ..AttributeProto::default() });
        let calls = (0..1100).map(|n| call("F", "a", &format!("b{n}"))).collect();
        let mut bomb = model(vec![function("F", vec![large])], calls);
        assert!(inline(&mut bomb).expect_err("a bomb").to_string().contains("bytes"));
        // Bodies that are empty in the end.
        let mut functions: Vec<_> =
            (0..30).map(|n| double(&format!("F{n}"), &format!("F{}", n + 1))).collect();
        functions.push(function("F30", vec![]));
        let mut bomb = model(functions, vec![call("F0", "a", "b")]);
        assert!(inline(&mut bomb).expect_err("a bomb").to_string().contains("nodes"));
        // What is no tensor: a list, and a value that the call gives to many nodes.
        let calls = |op: &str| (0..1100).map(|n| call(op, "a", &format!("b{n}"))).collect::<Vec<_>>();
        let list =
            AttributeProto { floats: vec![1.0; 1 << 18], name: "list".into(), ..AttributeProto::default() };
        let mut listed = node("Exp", &["x"], "y");
        listed.attribute.push(list.clone());
        let mut bomb = model(vec![function("F", vec![listed])], calls("F"));
        assert!(inline(&mut bomb).expect_err("a bomb").to_string().contains("bytes"));
        let mut asks = node("Exp", &["x"], "y");
        let asked = AttributeProto { ref_attr_name: "list".into(), ..AttributeProto::default() };
        asks.attribute.push(AttributeProto { name: "mine".into(), ..asked });
        let mut gives = call("F", "a", "b");
        gives.attribute.push(list);
        let mut bomb = model(vec![function("F", vec![asks; 1100])], vec![gives]);
        assert!(inline(&mut bomb).expect_err("a bomb").to_string().contains("bytes"));
        // Long names, which each call puts before those of its body.
        let long = "F".repeat(1 << 19);
        let mut bomb = model(vec![function(&long, vec![node("Exp", &["x"], "y")])], calls(&long));
        assert!(inline(&mut bomb).expect_err("a bomb").to_string().contains("bytes"));
        let mut twice = model(vec![function("F", vec![]), function("F", vec![])], vec![]);
        assert!(inline(&mut twice).expect_err("two of a name").to_string().contains("two functions"));
    }
}
