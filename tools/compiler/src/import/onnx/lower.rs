//! Operators that tract does not know, in terms of those that it does.

use anyhow::{Context, Result, ensure};
use tract_onnx::pb::{ModelProto, NodeProto, TensorProto};

use super::proto::{attribute, f32_tensor, is_standard, label, node};

/// Rewrites the graph's nodes.
pub fn lower(model: &mut ModelProto) -> Result<()> {
    let graph = model.graph.as_mut().context("the model holds no graph")?;
    let mut out = Lowered::default();
    for node in std::mem::take(&mut graph.node) {
        match node.op_type.as_str() {
            "Swish" if is_standard(&node) => out.sigmoid_product(&node, 1.0)?,
            "QuickGelu" => out.sigmoid_product(&node, 1.702)?,
            _ => out.nodes.push(node),
        }
    }
    graph.node = out.nodes;
    graph.initializer.extend(out.constants);
    Ok(())
}

#[derive(Default)]
struct Lowered {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

impl Lowered {
    /// `x · sigmoid(alpha x)`: `Swish` of opset 24, ONNX Runtime's `QuickGelu`.
    fn sigmoid_product(&mut self, old: &NodeProto, default: f32) -> Result<()> {
        let [x, y] = [old.input.first(), old.output.first()].map(|name| name.cloned().unwrap_or_default());
        ensure!(!x.is_empty() && !y.is_empty(), "node {} needs one input and one output", label(old));
        let [alpha, scaled, gate] = ["alpha", "scaled", "gate"].map(|part| format!("{y}#{part}"));
        let factor = attribute(old, "alpha").map_or(default, |a| a.f);
        self.constants.push(f32_tensor(&alpha, &[], &[factor]));
        self.nodes.push(node("Mul", &[&x, &alpha], &scaled));
        self.nodes.push(node("Sigmoid", &[&scaled], &gate));
        self.nodes.push(node("Mul", &[&x, &gate], &y));
        Ok(())
    }
}
