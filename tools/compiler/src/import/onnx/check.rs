//! Whether a decoded model is sound: every tensor as long as its dimensions say, every name defined, once.
//!
//! tract trusts what it reads; a file that lies about its lengths must be stopped here.

use std::collections::HashSet;

use anyhow::{Context, Result, bail, ensure};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{FunctionProto, GraphProto, ModelProto, NodeProto};

use super::proto::{attribute, is_default_domain, label};
use super::tensors::settle;

/// Nested graphs (`If`, `Loop`) deeper than this are refused; no exporter writes more than two.
const DEEPEST: usize = 8;

/// Versions of ONNX's own operator set whose operators are read here as they are meant.
const OPSETS: std::ops::RangeInclusive<i64> = 9..=24;

/// Refuses what a sound exporter cannot have written, and brings every tensor's data into one form.
pub fn check(model: &mut ModelProto) -> Result<()> {
    let opset = check_opsets(model)?;
    for function in &mut model.functions {
        let name = function.name().to_owned();
        check_function(function, opset).with_context(|| format!("function `{name}`"))?;
    }
    let graph = model.graph.as_mut().context("the model holds no graph")?;
    ensure!(!graph.node.is_empty(), "the graph has no nodes; export the model again");
    ensure!(!graph.output.is_empty(), "the graph has no outputs; export the model again");
    for input in &graph.input {
        let known = matches!(
            input.r#type.as_ref().and_then(|t| t.value.as_ref()),
            Some(Value::TensorType(t)) if DataType::try_from(t.elem_type).is_ok_and(|t| t != DataType::Undefined)
        );
        ensure!(known, "input `{}` is not a tensor of a known type; export the model again", input.name);
    }
    check_graph(graph, &mut Scope::default(), 0)
}

/// The version of ONNX's own operators, one for the whole model.
fn check_opsets(model: &ModelProto) -> Result<i64> {
    let mut versions =
        model.opset_import.iter().filter(|set| is_default_domain(&set.domain)).map(|set| set.version);
    let version = versions
        .next()
        .context("it does not say which version of ONNX's operators it uses; export the model again")?;
    ensure!(
        versions.all(|other| other == version),
        "it names two versions of ONNX's operators; export the model again"
    );
    ensure!(
        OPSETS.contains(&version),
        "it uses ONNX's operators of version {version}, known are {} to {}; export the model with opset 17",
        OPSETS.start(),
        OPSETS.end()
    );
    Ok(version)
}

fn check_function(function: &mut FunctionProto, opset: i64) -> Result<()> {
    // The body is read with the model's version, after the call is replaced by it.
    let other =
        function.opset_import.iter().find(|set| is_default_domain(&set.domain) && set.version != opset);
    if let Some(other) = other {
        bail!(
            "it uses ONNX's operators of version {}, the model those of {opset}; export the model again",
            other.version
        );
    }
    let mut scope = Scope::default();
    for input in &function.input {
        ensure!(scope.define(input), "it has two inputs `{input}`; export the model again");
    }
    check_nodes(&mut function.node, &mut scope, 0)?;
    check_outputs(function.output.iter().map(String::as_str), &scope)
}

/// The names that are defined at one place: those of the graphs around it too.
#[derive(Default)]
struct Scope {
    names: HashSet<String>,
    /// In the order in which they were defined.
    order: Vec<String>,
}

impl Scope {
    /// False where the name is defined already.
    fn define(&mut self, name: &str) -> bool {
        let new = self.names.insert(name.to_owned());
        if new {
            self.order.push(name.to_owned());
        }
        new
    }

    /// Forgets what was defined since there were `count` names.
    fn leave(&mut self, count: usize) {
        for name in self.order.drain(count..) {
            self.names.remove(&name);
        }
    }
}

fn check_graph(graph: &mut GraphProto, scope: &mut Scope, depth: usize) -> Result<()> {
    ensure!(depth <= DEEPEST, "graphs are nested more than {DEEPEST} deep; export the model again");
    ensure!(
        graph.sparse_initializer.is_empty(),
        "sparse weights are not supported; export the model with dense ones"
    );
    let outer = scope.order.len();
    let mut initialized = HashSet::new();
    for tensor in &mut graph.initializer {
        settle(tensor)?;
        ensure!(
            scope.define(&tensor.name),
            "there are two tensors `{}`; export the model again",
            tensor.name
        );
        initialized.insert(tensor.name.as_str());
    }
    for input in &graph.input {
        // Old exporters list the weights among the inputs.
        ensure!(
            initialized.remove(input.name.as_str()) || scope.define(&input.name),
            "there are two inputs `{}`; export the model again",
            input.name
        );
    }
    check_nodes(&mut graph.node, scope, depth)?;
    check_outputs(graph.output.iter().map(|output| output.name.as_str()), scope)?;
    scope.leave(outer);
    Ok(())
}

fn check_nodes(nodes: &mut [NodeProto], scope: &mut Scope, depth: usize) -> Result<()> {
    for node in &*nodes {
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            ensure!(
                scope.define(output),
                "node {} computes `{output}`, which is defined already; export the model again",
                label(node)
            );
        }
    }
    for node in nodes {
        let missing = node.input.iter().find(|name| !name.is_empty() && !scope.names.contains(name.as_str()));
        if let Some(input) = missing {
            bail!(
                "node {} takes `{input}`, which nothing in the graph computes; export the model again",
                label(node)
            );
        }
        check_permutation(node)?;
        let named = label(node);
        let node_named = || format!("in node {named}");
        for attribute in &mut node.attribute {
            ensure!(
                attribute.sparse_tensor.is_none() && attribute.sparse_tensors.is_empty(),
                "node {named} holds a sparse tensor, which is not supported; export the model with dense ones"
            );
            for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
                settle(tensor).with_context(node_named)?;
            }
            for nested in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                check_graph(nested, scope, depth + 1).with_context(node_named)?;
            }
        }
    }
    Ok(())
}

/// tract looks without end for the transpositions of what is no permutation.
fn check_permutation(node: &NodeProto) -> Result<()> {
    if node.op_type != "Transpose" {
        return Ok(());
    }
    let Some(order) = attribute(node, "perm").map(|attribute| &attribute.ints) else { return Ok(()) };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    ensure!(
        sorted.into_iter().eq(0..order.len() as i64),
        "node {} puts axes in the order {order:?}, which is no permutation; export the model again",
        label(node)
    );
    Ok(())
}

fn check_outputs<'a>(mut outputs: impl Iterator<Item = &'a str>, scope: &Scope) -> Result<()> {
    match outputs.find(|name| !scope.names.contains(*name)) {
        None => Ok(()),
        Some(name) => bail!("nothing in the graph computes its output `{name}`; export the model again"),
    }
}
