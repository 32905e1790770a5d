//! Operators that tract does not know, or reads otherwise than they are defined, in terms of those that it reads rightly;
//! every other one is refused by its name.
//!
//! tract goes by an operator's name alone. ONNX Runtime's optimiser writes operators of its own (`com.microsoft`), two of
//! which have the name of one of ONNX's: `Attention`, with other inputs, and `Gelu`.
//! Their definitions are in ONNX Runtime's ContribOperators.md.

use anyhow::{Result, bail, ensure};
use tract_onnx::pb::{NodeProto, TensorProto};

use super::proto::{
    attribute, f32_tensor, float_attribute, int_attribute, ints_attribute, is_default_domain, label, node,
    string_attribute, tensor_attribute,
};

/// The epsilon of ONNX Runtime's `SkipLayerNormalization` where the node names none.
const SKIP_EPSILON: f32 = 1e-12;

/// The nodes in terms of operators that tract reads rightly; `known` says whether tract has ONNX's operator of a name.
///
/// # Errors
/// When the graph is quantized already, or holds another operator. The error names the node and what to give instead.
pub fn lower(nodes: Vec<NodeProto>, known: &dyn Fn(&str) -> bool) -> Result<Vec<NodeProto>> {
    if let Some(node) = nodes.iter().find(|node| is_quantized(&node.op_type)) {
        bail!(
            "node {}: the graph is quantized already; give the f32 or f16 export, as it was before: its weights are \
             quantized here",
            label(node)
        );
    }
    let mut out = Lowered { nodes: Vec::with_capacity(nodes.len()) };
    for mut node in nodes {
        for nested in node.attribute.iter_mut().flat_map(|a| a.g.iter_mut().chain(&mut a.graphs)) {
            nested.node = lower(std::mem::take(&mut nested.node), known)?;
        }
        let standard = is_default_domain(&node.domain);
        ensure!(
            standard || node.domain == "com.microsoft",
            "node {}: an operator of `{}`, which is not known here; give the export with ONNX's own operators only",
            label(&node),
            node.domain
        );
        match node.op_type.as_str() {
            "Swish" if standard => out.sigmoid_product(&node, 1.0)?,
            "QuickGelu" => out.sigmoid_product(&node, 1.702)?,
            "Mod" if standard && attribute(&node, "fmod").is_none_or(|a| a.i == 0) => out.modulo(node)?,
            "Gelu" if !standard => out.gelu(&node, "none")?,
            "BiasGelu" => out.gelu(&node, "none")?,
            "FastGelu" => out.gelu(&node, "tanh")?,
            "SkipLayerNormalization" => out.skip_norm(&node)?,
            "Attention" if !standard => out.packed_attention(&node)?,
            "MultiHeadAttention" => out.multi_head_attention(&node)?,
            "FusedMatMul" => out.nodes.push(node),
            // Its former name.
            "TransposeMatMul" => out.nodes.push(NodeProto { op_type: "FusedMatMul".into(), ..node }),
            op if standard && known(op) => out.nodes.push(node),
            _ if standard => bail!(
                "node {}: an operator that is not known here; export the model again, with opset 17 and ONNX's own operators",
                label(&node)
            ),
            _ => bail!(
                "node {}: an operator of ONNX Runtime's optimiser that is not known here; give the export as it was before \
                 it was optimised",
                label(&node)
            ),
        }
    }
    Ok(out.nodes)
}

/// Whether an operator of this name, ONNX's or ONNX Runtime's, makes, reads or multiplies quantized numbers.
fn is_quantized(op: &str) -> bool {
    // `QLinearMatMul`, `QAttention`, but not `QuickGelu`.
    let prefixed = op.strip_prefix('Q').is_some_and(|rest| rest.starts_with(char::is_uppercase));
    let named = ["Quantize", "quantize", "Integer"].iter().any(|word| op.contains(word));
    prefixed || named || ["MatMulNBits", "MatMulBnb4", "MatMulFpQ4", "GemmFloat8"].contains(&op)
}

struct Lowered {
    nodes: Vec<NodeProto>,
}

impl Lowered {
    /// Adds a node with one output, of which it is given the name, and says that name.
    fn push(&mut self, op: &str, inputs: &[&str], output: String) -> String {
        self.nodes.push(node(op, inputs, &output));
        output
    }

    fn constant(&mut self, tensor: TensorProto) {
        let mut constant = node("Constant", &[], &tensor.name);
        constant.attribute.push(tensor_attribute("value", tensor));
        self.nodes.push(constant);
    }

    /// `x · sigmoid(alpha x)`: `Swish` of opset 24, ONNX Runtime's `QuickGelu`.
    fn sigmoid_product(&mut self, old: &NodeProto, default: f32) -> Result<()> {
        let ([x], []) = inputs(old)?;
        let y = output(old)?;
        let [alpha, scaled, gate] = ["alpha", "scaled", "gate"].map(|part| format!("{y}#{part}"));
        self.constant(f32_tensor(&alpha, &[], &[attribute(old, "alpha").map_or(default, |a| a.f)]));
        self.push("Mul", &[x, &alpha], scaled.clone());
        self.push("Sigmoid", &[&scaled], gate.clone());
        self.push("Mul", &[x, &gate], y.to_owned());
        Ok(())
    }

    /// The remainder with the divisor's sign; tract's has the dividend's.
    fn modulo(&mut self, mut old: NodeProto) -> Result<()> {
        let ([_, divisor], []) = inputs(&old)?;
        let (y, divisor) = (output(&old)?.to_owned(), divisor.to_owned());
        let [remainder, positive] = ["remainder", "positive"].map(|part| format!("{y}#{part}"));
        old.output[0].clone_from(&remainder);
        self.nodes.push(old);
        self.push("Add", &[&remainder, &divisor], positive.clone());
        self.push("Mod", &[&positive, &divisor], y);
        Ok(())
    }

    /// ONNX Runtime's `Gelu(x)`, `BiasGelu(x, bias)` and `FastGelu(x, bias?)`.
    fn gelu(&mut self, old: &NodeProto, approximate: &str) -> Result<()> {
        let ([x], [bias]) = inputs(old)?;
        let y = output(old)?;
        ensure!(
            (old.op_type == "BiasGelu") == bias.is_some() || old.op_type == "FastGelu",
            "node {} has another number of inputs than it is defined with; export the model again",
            label(old)
        );
        let sum = bias.map(|bias| self.push("Add", &[x, bias], format!("{y}#sum")));
        let mut gelu = node("Gelu", &[sum.as_deref().unwrap_or(x)], y);
        gelu.attribute.push(string_attribute("approximate", approximate));
        self.nodes.push(gelu);
        Ok(())
    }

    /// ONNX Runtime's `SkipLayerNormalization(input, skip, gain, beta?, bias?)`: the norm of `input + skip + bias`, and the
    /// sum itself as fourth output.
    fn skip_norm(&mut self, old: &NodeProto) -> Result<()> {
        let ([input, skip, gain], [beta, bias]) = inputs(old)?;
        let y = output(old)?;
        let named = |index: usize| old.output.get(index).filter(|name| !name.is_empty()).cloned();
        let sum = named(3).unwrap_or_else(|| format!("{y}#sum"));
        match bias {
            None => self.push("Add", &[input, skip], sum.clone()),
            Some(bias) => {
                let unbiased = self.push("Add", &[input, skip], format!("{y}#unbiased"));
                self.push("Add", &[&unbiased, bias], sum.clone())
            }
        };
        let mut norm = node("LayerNormalization", &[&sum, gain], y);
        norm.input.extend(beta.map(str::to_owned));
        norm.output.extend([named(1), named(2)].map(Option::unwrap_or_default));
        norm.attribute.push(int_attribute("axis", -1));
        let epsilon = attribute(old, "epsilon").map_or(SKIP_EPSILON, |a| a.f);
        norm.attribute.push(float_attribute("epsilon", epsilon));
        self.nodes.push(norm);
        Ok(())
    }

    /// ONNX Runtime's `Attention(input, weight, bias?, mask?, past?, attention bias?)`: the projections of query, key and
    /// value are one product.
    fn packed_attention(&mut self, old: &NodeProto) -> Result<()> {
        let ([x, weight], [bias, mask, past, added, past_length]) = inputs(old)?;
        let y = output(old)?;
        refuse_uses(old, &[("a mask of its own", mask), ("a cache", past), ("a cache", past_length)])?;
        let mut projected = self.push("MatMul", &[x, weight], format!("{y}#projected"));
        if let Some(bias) = bias {
            projected = self.push("Add", &[&projected, bias], format!("{y}#biased"));
        }
        let widths =
            attribute(old, "qkv_hidden_sizes").map(|a| a.ints.clone()).filter(|widths| !widths.is_empty());
        let parts = self.split(&projected, y, widths)?;
        self.attention(old, y, &parts, added)
    }

    /// ONNX Runtime's `MultiHeadAttention(query, key, value, bias?, padding mask?, attention bias?)`: the projections'
    /// products come in, not yet with their bias.
    fn multi_head_attention(&mut self, old: &NodeProto) -> Result<()> {
        let ([query], [key, value, bias, mask, added, past_key, past_value]) = inputs(old)?;
        let y = output(old)?;
        refuse_uses(old, &[("a mask of its own", mask), ("a cache", past_key), ("a cache", past_value)])?;
        let (Some(key), Some(value)) = (key, value) else {
            bail!(
                "node {} takes query, key and value in one tensor, which is not supported; give the export as it was \
                 before it was optimised",
                label(old)
            )
        };
        let mut parts = [query, key, value].map(str::to_owned);
        if let Some(bias) = bias {
            let biases = self.split(bias, &format!("{y}#bias"), None)?;
            for (part, bias) in parts.iter_mut().zip(&biases) {
                *part = self.push("Add", &[part, bias], format!("{bias}#added"));
            }
        }
        self.attention(old, y, &parts, added)
    }

    /// Splits the last axis into three, at `widths` or evenly.
    fn split(&mut self, whole: &str, name: &str, widths: Option<Vec<i64>>) -> Result<[String; 3]> {
        let parts = ["query", "key", "value"].map(|part| format!("{name}#{part}"));
        let mut split = node("Split", &[whole], &parts[0]);
        split.output = parts.to_vec();
        split.attribute.push(int_attribute("axis", -1));
        split.attribute.extend(widths.map(|widths| ints_attribute("split", widths)));
        self.nodes.push(split);
        Ok(parts)
    }

    /// ONNX's `Attention` of opset 23, of `[batch, tokens, heads · width]` each.
    fn attention(
        &mut self,
        old: &NodeProto,
        y: &str,
        parts: &[String; 3],
        added: Option<&str>,
    ) -> Result<()> {
        let heads = attribute(old, "num_heads").map_or(0, |a| a.i);
        ensure!(heads > 0, "node {} does not say how many heads it has; export the model again", label(old));
        let rotary = attribute(old, "do_rotary").is_some_and(|a| a.i != 0);
        refuse_uses(old, &[("rotary positions", rotary.then_some(""))])?;
        for second in old.output.iter().skip(1).filter(|name| !name.is_empty()) {
            refuse_uses(old, &[("a second output", Some(second))])?;
        }
        let mut attention = node("Attention", &[&parts[0], &parts[1], &parts[2]], y);
        attention.input.extend(added.map(str::to_owned));
        let causal = attribute(old, "unidirectional").map_or(0, |a| a.i);
        attention.attribute = vec![
            int_attribute("q_num_heads", heads),
            int_attribute("kv_num_heads", heads),
            int_attribute("is_causal", causal),
        ];
        // Without it, or at 0, it is one over the square root of a head's width.
        let scale = attribute(old, "scale").map(|a| a.f).filter(|&scale| scale != 0.0);
        attention.attribute.extend(scale.map(|scale| float_attribute("scale", scale)));
        self.nodes.push(attention);
        Ok(())
    }
}

/// The node's first inputs, which it must have, and those after them, which may be left out; it may have no more.
fn inputs<const N: usize, const M: usize>(old: &NodeProto) -> Result<([&str; N], [Option<&str>; M])> {
    let given = |index: usize| old.input.get(index).map(String::as_str).filter(|name| !name.is_empty());
    let sound = old.input.len() <= N + M && (0..N).all(|index| given(index).is_some());
    ensure!(
        sound,
        "node {} has another number of inputs than it is defined with; export the model again",
        label(old)
    );
    let first = std::array::from_fn(|index| given(index).unwrap_or_default());
    Ok((first, std::array::from_fn(|index| given(N + index))))
}

/// The name of the node's first output.
fn output(old: &NodeProto) -> Result<&str> {
    match old.output.first() {
        Some(name) if !name.is_empty() => Ok(name),
        _ => bail!("node {} has no output; export the model again", label(old)),
    }
}

/// Refuses the first of the named features that is there.
fn refuse_uses(old: &NodeProto, features: &[(&str, Option<&str>)]) -> Result<()> {
    match features.iter().find(|(_, used)| used.is_some()) {
        None => Ok(()),
        Some((feature, _)) => bail!(
            "node {} has {feature}, which is not supported; give the export as it was before it was optimised",
            label(old)
        ),
    }
}
