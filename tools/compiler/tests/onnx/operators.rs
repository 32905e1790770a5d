//! Single operators, with their attributes left out or given, compute what ONNX Runtime computes.

use std::path::Path;

use cliptext_compiler::import::onnx;
use cliptext_test_support::{fixtures, model};
use tract_core::internal::{IntoRunnable, IntoTValue, Tensor, tvec};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};

/// Of the largest expected value.
const TOLERANCE: f32 = 1e-5;

/// What tract cannot compute: ends of names. Where constants are folded late, it panics without saying at which node.
const REFUSED: [&str; 3] =
    ["GatherND: from the end", "Range: floats", "opset 11, Squeeze: every axis of one"];

/// The graph's output `name` alone, computed in f32.
fn run(mut model: ModelProto, name: &str) -> Result<Vec<f32>, String> {
    let graph = model.graph.as_mut().expect("a graph");
    graph.output.retain(|output| output.name == name);
    let imported = onnx::import(model, Path::new(".")).map_err(|e| format!("{e:#}"))?;
    let run = || {
        let ids: Vec<i64> = (0..77).collect();
        let plan = imported.model.into_optimized()?.into_runnable()?;
        let outputs = plan.run(tvec![Tensor::from_shape(&[1, 77], &ids)?.into_tvalue()])?;
        let values = outputs[0].cast_to::<f32>()?;
        Ok(values.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
    };
    run().map_err(|e: anyhow::Error| format!("{e:#}"))
}

/// The zero that every case adds to its inputs becomes a constant, so that all of it folds.
fn folded(mut model: ModelProto) -> ModelProto {
    let graph = model.graph.as_mut().expect("a graph");
    for (zero, data_type, size) in [("zero_f", 1, 4), ("zero_l", 7, 8), ("zero_i", 6, 4)] {
        graph.node.retain(|node| node.output[0] != zero);
        graph.initializer.push(TensorProto {
            name: zero.into(),
            data_type,
            raw_data: vec![0; size],
            ..TensorProto::default()
        });
    }
    model
}

fn expected(graph: &GraphProto, name: &str) -> Vec<f32> {
    let named = format!("{name}#expected");
    let tensor = graph.initializer.iter().find(|tensor| tensor.name == named).expect("what is right");
    tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn agree(ours: &[f32], expected: &[f32]) -> bool {
    let largest = expected.iter().filter(|v| v.is_finite()).fold(1e-6f32, |worst, v| worst.max(v.abs()));
    let close =
        |(a, b): (&f32, &f32)| a == b || (a - b).abs() <= TOLERANCE * largest || a.is_nan() && b.is_nan();
    ours.len() == expected.len() && ours.iter().zip(expected).all(close)
}

fn every_operator(change: fn(ModelProto) -> ModelProto) {
    let mut wrong = Vec::new();
    let mut count = 0;
    for opset in [11, 17, 18, 24] {
        let file = model(&fixtures().join(format!("operators/opset{opset}.onnx")));
        let graph = file.graph.clone().expect("a graph");
        let changed = change(file);
        for output in &graph.output {
            count += 1;
            let name = output.name.as_str();
            let title = format!("opset {opset}, {name}");
            let refused = REFUSED.iter().any(|refused| title.ends_with(refused));
            let expected = expected(&graph, name);
            let told = match run(changed.clone(), name) {
                Ok(ours) if agree(&ours, &expected) && !refused => continue,
                Ok(ours) => format!("{ours:?}, expected {expected:?}"),
                Err(said) if refused && said.contains("export it again") => continue,
                Err(said) => said,
            };
            wrong.push(format!("{title}: {told}"));
        }
    }
    assert!(count >= 700, "{count} operators");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_operator_computes_what_onnx_runtime_computes() {
    every_operator(|model| model);
}

#[test]
fn every_operator_folds_to_what_onnx_runtime_computes() {
    every_operator(folded);
}

/// Why the operator is refused, put in the place of one that is not.
fn refusal(domain: &str, op: &str) -> String {
    let mut file = model(&fixtures().join("operators/opset17.onnx"));
    let name = "Relu: plain";
    let graph = file.graph.as_mut().expect("a graph");
    let node: &mut NodeProto = graph.node.iter_mut().find(|node| node.name == name).expect("the node");
    (node.domain, node.op_type) = (domain.to_owned(), op.to_owned());
    let said = run(file, name).expect_err(op);
    assert!(said.contains(&format!("`{name}` ({op})")), "the node and its operator are named: {said}");
    said
}

#[test]
fn quantized_graphs_are_called_that() {
    for (domain, op) in [
        ("", "QuantizeLinear"),
        ("", "DequantizeLinear"),
        ("", "DynamicQuantizeLinear"),
        ("", "QLinearMatMul"),
        ("", "MatMulInteger"),
        ("", "ConvInteger"),
        ("com.microsoft", "MatMulIntegerToFloat"),
        ("com.microsoft", "DynamicQuantizeMatMul"),
        ("com.microsoft", "QAttention"),
        ("com.microsoft", "QEmbedLayerNormalization"),
        ("com.microsoft", "MatMulNBits"),
        ("com.microsoft", "MatMulBnb4"),
        ("com.microsoft", "GatherBlockQuantized"),
    ] {
        let said = refusal(domain, op);
        assert!(said.contains("quantized already") && said.contains("give the f32 or f16 export"), "{said}");
    }
}

#[test]
fn unknown_operators_are_named_with_what_to_give_instead() {
    for op in
        ["EmbedLayerNormalization", "GroupQueryAttention", "SkipSimplifiedLayerNormalization", "NhwcConv"]
    {
        let said = refusal("com.microsoft", op);
        assert!(
            said.contains("ONNX Runtime's optimiser") && said.contains("before it was optimised"),
            "{said}"
        );
    }
    let said = refusal("ai.onnx.contrib", "GPT2Tokenizer");
    assert!(said.contains("`ai.onnx.contrib`") && said.contains("ONNX's own operators"), "{said}");
    assert!(refusal("", "Frobnicate").contains("export the model again"));
}

#[test]
fn features_of_fused_operators_that_are_not_supported_are_named() {
    let refused = |name: &str, edit: &dyn Fn(&mut NodeProto)| {
        let mut file = model(&fixtures().join("operators/opset17.onnx"));
        let graph = file.graph.as_mut().expect("a graph");
        edit(graph.node.iter_mut().find(|node| node.name == name).expect("the node"));
        let said = run(file, name).expect_err("a refusal");
        assert!(said.contains(name) && said.contains("give the export"), "{said}");
        said
    };
    let put = |index: usize| {
        move |node: &mut NodeProto| {
            node.input.resize(node.input.len().max(index + 1), String::new());
            node.input[index] = node.input[0].clone();
        }
    };
    assert!(refused("Attention: plain", &put(3)).contains("a mask of its own"));
    assert!(refused("Attention: plain", &put(4)).contains("a cache"));
    assert!(refused("MultiHeadAttention: plain", &put(4)).contains("a mask of its own"));
    assert!(refused("MultiHeadAttention: plain", &put(6)).contains("a cache"));
    let packed = |node: &mut NodeProto| node.input.truncate(1);
    assert!(refused("MultiHeadAttention: plain", &packed).contains("in one tensor"));
    let second = |node: &mut NodeProto| node.output.push("present".into());
    assert!(refused("Attention: plain", &second).contains("a second output"));
}

#[test]
fn axes_that_the_input_has_not_are_refused_at_once() {
    for (name, axis) in [
        ("LayerNormalization: two axes", 1 << 62),
        ("LayerNormalization: two axes", -4),
        ("LayerNormalization: two axes", 3),
        ("Softmax: second axis", 15),
        ("ReduceMean: last axis", i64::MIN),
        ("Concat: last axis", 5),
        ("Flatten: at the last axis", -5),
    ] {
        let mut file = model(&fixtures().join("operators/opset17.onnx"));
        let graph = file.graph.as_mut().expect("a graph");
        let node = graph.node.iter_mut().find(|node| node.name == name).expect("the node");
        for attribute in node.attribute.iter_mut().filter(|a| a.name == "axis" || a.name == "axes") {
            if attribute.name == "axis" {
                attribute.i = axis;
            } else {
                attribute.ints = vec![axis];
            }
        }
        let said = run(file, name).expect_err(name);
        assert!(said.contains(name) && said.contains(&axis.to_string()), "{said}");
    }
}

#[test]
fn orders_of_axes_that_are_no_permutation_are_refused_at_once() {
    for order in [vec![2, 1, 2], vec![0, 1, 3], vec![0, 1], vec![0, 1, -1], vec![0, 1, 2, 3]] {
        let mut file = model(&fixtures().join("operators/opset17.onnx"));
        let graph = file.graph.as_mut().expect("a graph");
        let node = graph.node.iter_mut().find(|node| node.name == "Transpose: axes").expect("the node");
        node.attribute[0].ints = order;
        let said = run(file, "Transpose: axes").expect_err("a refusal");
        assert!(said.contains("Transpose: axes"), "{said}");
    }
}

#[test]
fn gathering_at_a_single_number_is_refused_at_once() {
    let mut file = model(&fixtures().join("operators/opset17.onnx"));
    let name = "GatherND: no batches by default";
    let graph = file.graph.as_mut().expect("a graph");
    let indices = format!("{name}#1");
    let tensor = graph.initializer.iter_mut().find(|tensor| tensor.name == indices).expect("the indices");
    (tensor.dims, tensor.raw_data) = (vec![], vec![0; 8]);
    let said = run(file, name).expect_err("a refusal");
    assert!(said.contains("at a single number") && said.contains(name), "{said}");
}

#[test]
fn numbers_without_elements_are_refused() {
    // tract looks for a single number in each of them, and reads beyond its end.
    for (name, input) in [("Pow: float to a float", 1), ("Mul: broadcast", 1), ("Softmax: last axis", 0)] {
        let mut file = folded(model(&fixtures().join("operators/opset17.onnx")));
        let graph = file.graph.as_mut().expect("a graph");
        let named = format!("{name}#{input}");
        let tensor = graph.initializer.iter_mut().find(|tensor| tensor.name == named).expect("the input");
        (tensor.dims, tensor.raw_data) = (vec![0], vec![]);
        let said = run(file, name).expect_err(name);
        assert!(said.contains("of a tensor without elements"), "{name}: {said}");
    }
}

#[test]
fn a_few_bytes_do_not_become_terabytes() {
    for (name, input, values) in [
        ("ConstantOfShape: zeros by default", 0, vec![1 << 20, 1 << 20]),
        ("Expand: more axes", 1, vec![1 << 30, 1, 1]),
        ("Expand: more axes", 1, vec![1, 5, 1]),
        ("Tile: by axis", 1, vec![1 << 20, 1 << 20]),
        ("Range: downwards", 1, vec![-(1 << 30)]),
        ("Pad: zeros by default", 1, vec![0, 1, 1 << 30, 0]),
    ] {
        for change in [|model| model, folded] {
            let mut file = change(model(&fixtures().join("operators/opset17.onnx")));
            let graph = file.graph.as_mut().expect("a graph");
            let named = format!("{name}#{input}");
            let tensor = graph.initializer.iter_mut().find(|tensor| tensor.name == named).expect("the input");
            tensor.raw_data = values.iter().flat_map(|value: &i64| value.to_le_bytes()).collect();
            if !tensor.dims.is_empty() {
                tensor.dims = vec![values.len() as i64];
            }
            let said = run(file, name).expect_err(&format!("{name} {values:?}"));
            assert!(said.contains("makes a tensor of"), "{name} {values:?}: {said}");
        }
    }
}
