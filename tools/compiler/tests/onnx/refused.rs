//! What is not a CLIP text encoder is refused with the node, what was expected there and what was found.

use std::path::Path;

use cliptext_compiler::import::onnx;
use cliptext_compiler::recognise::{Misfit, recognise};
use cliptext_test_support::{export, fixtures};
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

/// The plainest export: no shape arithmetic, `LayerNormalization` and a folded mask.
const PLAIN: &str = "sd.tf523-torch215-dynamo.op18.static.i64";

fn misfit(model: ModelProto) -> Misfit {
    let imported = onnx::import(model, Path::new(".")).unwrap_or_else(|e| panic!("{e:#}"));
    let misfit = recognise(&imported.model).expect_err("a graph that is refused");
    let said = misfit.to_string();
    assert!(said.contains(&misfit.node) && said.contains(&misfit.expected) && said.contains(&misfit.found));
    assert!(!said.contains('\n'), "one sentence: {said}");
    println!("{said}");
    misfit
}

fn edited(edit: impl FnOnce(&mut GraphProto)) -> Misfit {
    let mut model = export(PLAIN);
    edit(model.graph.as_mut().expect("a graph"));
    misfit(model)
}

fn named<'g>(graph: &'g mut GraphProto, op: &str, index: usize) -> &'g mut NodeProto {
    graph.node.iter_mut().filter(|node| node.op_type == op).nth(index).expect("a node of that operator")
}

/// The tensor of `len` values that `pick` likes.
fn tensor(graph: &mut GraphProto, len: usize, pick: impl Fn(&[f32]) -> bool) -> &mut TensorProto {
    let fits = |t: &&mut TensorProto| t.raw_data.len() == 4 * len && pick(&values(t));
    graph.initializer.iter_mut().find(fits).expect("such a tensor")
}

fn values(tensor: &TensorProto) -> Vec<f32> {
    tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn set(tensor: &mut TensorProto, change: impl Fn(usize, f32) -> f32) {
    let changed = values(tensor).into_iter().enumerate().map(|(at, value)| change(at, value));
    tensor.raw_data = changed.flat_map(f32::to_le_bytes).collect();
}

#[test]
fn the_untouched_export_is_recognised() {
    let imported = onnx::import(export(PLAIN), Path::new(".")).expect("an import");
    assert!(recognise(&imported.model).is_ok());
}

#[test]
fn a_mask_that_lets_one_token_look_ahead() {
    let found = edited(|graph| {
        let mask = tensor(graph, 77 * 77, |_| true);
        set(mask, |at, value| if at == 5 * 77 + 6 { 0.0 } else { value });
    });
    assert!(found.expected.contains("causal mask"), "{found}");
    assert_eq!(found.found, "0 where token 5 looks at token 6");
    assert!(found.node.contains("Softmax"), "{found}");
}

#[test]
fn a_mask_that_hides_the_past() {
    let found =
        edited(|graph| set(tensor(graph, 77 * 77, |_| true), |at, v| if at == 77 { -1e30 } else { v }));
    assert!(found.expected.contains("causal mask"), "{found}");
}

#[test]
fn attention_without_a_mask() {
    let found = edited(|graph| set(tensor(graph, 77 * 77, |_| true), |_, _| 0.0));
    assert!(found.expected.contains("causal mask"), "{found}");
}

#[test]
fn a_residual_from_the_wrong_place() {
    // The second residual of layer 0 adds the MLP to the embedded prompt instead of the first residual's sum.
    let found = edited(|graph| {
        let sums: Vec<[String; 3]> = graph
            .node
            .iter()
            .filter(|n| n.op_type == "Add" && !graph.initializer.iter().any(|t| n.input.contains(&t.name)))
            .map(|n| [n.input[0].clone(), n.input[1].clone(), n.output[0].clone()])
            .collect();
        let (first, second) = (&sums[0], &sums[1]);
        let wrong = first[0].clone();
        let node = graph.node.iter_mut().find(|n| n.output[0] == second[2]).expect("the second sum");
        let at = node.input.iter().position(|name| *name == first[2]).expect("the first sum");
        node.input[at] = wrong;
    });
    assert!(found.expected.contains("layer norm") || found.expected.contains("residual"), "{found}");
}

#[test]
fn another_activation() {
    let found = edited(|graph| set(tensor(graph, 1, |v| v == [1.702]), |_, _| 1.5));
    assert!(found.expected.contains("GELU"), "{found}");
    assert!(found.found.contains("QuickGelu"), "{found}");
}

#[test]
fn a_relu() {
    let found = edited(|graph| named(graph, "Sigmoid", 0).op_type = "Relu".into());
    assert!(found.expected.contains("GELU"), "{found}");
}

#[test]
fn a_norm_over_the_tokens() {
    let found = edited(|graph| {
        let norm = named(graph, "Softmax", 0);
        norm.attribute.iter_mut().for_each(|a| a.i = 1);
    });
    assert!(found.node.contains("Softmax") && found.expected.contains("softmax over the keys"), "{found}");
}

#[test]
fn pooling_at_the_last_end_token() {
    let found = edited(|graph| {
        let argmax = named(graph, "ArgMax", 0);
        let last =
            argmax.attribute.iter_mut().find(|a| a.name == "select_last_index").expect("the attribute");
        last.i = 1;
    });
    assert_eq!((found.expected.as_str(), found.found.as_str()), ("the first end token", "the last one"));
}

#[test]
fn a_bert() {
    let found = misfit(cliptext_test_support::model(&fixtures().join("refused/bert.onnx")));
    assert!(found.expected.contains("causal mask") && found.found.contains("no mask"), "{found}");
    assert!(found.node.contains("layer.0"), "the first layer is named: {found}");
}

#[test]
fn models_that_take_no_token_ids() {
    for (name, input) in [("vision", "pixel_values"), ("mlp", "x")] {
        let error = onnx::load(&fixtures().join(format!("refused/{name}.onnx"))).expect_err("a refusal");
        let said = format!("{error:#}");
        assert!(said.contains(name) && said.contains(&format!("`{input}`")), "{said}");
        assert!(said.contains("expected token ids"), "{said}");
    }
}

#[test]
fn an_empty_graph() {
    let mut model = export(PLAIN);
    model.graph = Some(GraphProto::default());
    let said = format!("{:#}", onnx::import(model, Path::new(".")).expect_err("a refusal"));
    assert!(said.contains("no nodes"), "{said}");
}

#[test]
fn an_export_for_fewer_tokens_says_so() {
    let mut model = export(PLAIN);
    let graph = model.graph.as_mut().expect("a graph");
    let Some(Value::TensorType(ids)) = graph.input[0].r#type.as_mut().and_then(|t| t.value.as_mut()) else {
        panic!("an ids input");
    };
    ids.shape.as_mut().expect("a shape").dim[1].value = Some(dimension::Value::DimValue(20));
    // As an exporter for 20 tokens writes every shape of the attention's output.
    for shape in graph.initializer.iter_mut().filter(|t| t.dims == [3] && t.data_type == 7) {
        shape.raw_data[8..16].copy_from_slice(&20i64.to_le_bytes());
    }
    let said = format!("{:#}", onnx::import(model, Path::new(".")).expect_err("a refusal"));
    assert!(said.contains("the fixed shape [1, 20]") && said.contains("[1, 77]"), "{said}");
}

/// An export for two prompts at once, with its mask and its pooling for each.
const TWO: &str = "sd.tf523-torch215-dynamo.op18.static.2x77.eager";

#[test]
fn a_mask_that_differs_between_the_prompts() {
    let mut model = export(TWO);
    let graph = model.graph.as_mut().expect("a graph");
    let mask = graph.initializer.iter_mut().find(|t| t.dims == [2, 1, 77, 77]).expect("a mask");
    mask.raw_data[77 * 77 + 5 * 77 + 6] ^= 1;
    let found = misfit(model);
    assert!(found.expected.contains("alike"), "{found}");
}

#[test]
fn pooling_that_takes_the_other_prompts_row() {
    let mut model = export(TWO);
    let graph = model.graph.as_mut().expect("a graph");
    let prompts = graph.initializer.iter_mut().find(|t| t.dims == [2, 1]).expect("the prompts' numbers");
    prompts.raw_data.rotate_left(8);
    let found = misfit(model);
    assert!(found.expected.contains("index"), "{found}");
}

/// The input's batch.
fn batch(input: &mut ValueInfoProto) -> &mut Option<dimension::Value> {
    let Some(Value::TensorType(ids)) = input.r#type.as_mut().and_then(|t| t.value.as_mut()) else {
        panic!("a tensor");
    };
    &mut ids.shape.as_mut().expect("a shape").dim[0].value
}

#[test]
fn more_prompts_at_once_than_anyone_exports_for() {
    for name in ["input_ids", "attention_mask"] {
        let mut model = export(PLAIN);
        let graph = model.graph.as_mut().expect("a graph");
        let mut input = graph.input[0].clone();
        *batch(&mut input) = Some(dimension::Value::DimValue(1 << 60));
        input.name = name.into();
        graph.input.retain(|other| other.name != name);
        graph.input.push(input);
        let said = format!("{:#}", onnx::import(model, Path::new(".")).expect_err("a refusal"));
        assert!(said.contains("1152921504606846976 prompts at once"), "{said}");
    }
}

#[test]
fn positions_without_end() {
    let mut model = export(PLAIN);
    let graph = model.graph.as_mut().expect("a graph");
    let positions = graph.initializer.iter_mut().find(|t| t.dims == [1, 77, 16]).expect("the positions");
    (positions.dims, positions.raw_data) = (vec![1, 1 << 40, 0], vec![]);
    let words = graph.initializer.iter_mut().find(|t| t.dims == [49408, 16]).expect("the token embedding");
    (words.dims, words.raw_data) = (vec![1 << 41, 0], vec![]);
    let said = format!("{:#}", onnx::import(model, Path::new(".")).expect_err("a refusal"));
    assert!(said.contains("1099511627776 rows"), "{said}");
}

#[test]
fn a_softmax_over_an_axis_that_is_not_there() {
    let mut model = export(PLAIN);
    let softmax = named(model.graph.as_mut().expect("a graph"), "Softmax", 0);
    softmax.attribute.iter_mut().for_each(|a| a.i = 15);
    let said = format!("{:#}", onnx::import(model, Path::new(".")).expect_err("a refusal"));
    assert!(said.contains("along axis 15 of a tensor of 4 axes"), "{said}");
}
