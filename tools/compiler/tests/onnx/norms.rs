//! Every spelling of layer norm is the same layer norm.

use std::path::Path;

use cliptext_compiler::compile::check::recognised as check;
use cliptext_compiler::import::onnx;
use cliptext_compiler::ir::{LayerNorm, TextModel};
use cliptext_compiler::recognise::{Misfit, recognise};
use cliptext_compiler::reference::relative_error;
use cliptext_compiler::tract::run::F32Run;
use cliptext_test_support::export;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, TensorProto};

/// An export of opset 18 whose norms are all `LayerNormalization`.
const PLAIN: &str = "sd.tf523-torch215-dynamo.op18.static.i64";

const WIDTH: f32 = 16.0;

/// Lines of `output = Op input input`: `x`, `gain` and `bias` come in, `y` goes out; numbers are constants.
fn spelled(spelling: &str) -> ModelProto {
    let mut model = export(PLAIN);
    let graph = model.graph.as_mut().expect("a graph");
    let mut nodes = Vec::new();
    for node in std::mem::take(&mut graph.node) {
        if node.op_type != "LayerNormalization" {
            nodes.push(node);
            continue;
        }
        let norm = &node.output[0];
        let outer = |name: &str| match name {
            "x" => node.input[0].clone(),
            "gain" => node.input[1].clone(),
            "bias" => node.input[2].clone(),
            "y" => norm.clone(),
            _ => format!("{norm}/{name}"),
        };
        for line in spelling.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (output, call) = line.split_once(" = ").expect("an output");
            let mut words = call.split(' ');
            let op = words.next().expect("an operator");
            let mut inner = NodeProto {
                op_type: op.into(),
                name: outer(output),
                output: vec![outer(output)],
                ..NodeProto::default()
            };
            for word in words {
                let input = outer(word);
                if let Ok(number) = word.parse::<f32>()
                    && !graph.initializer.iter().any(|known| known.name == input)
                {
                    graph.initializer.push(tensor(&input, &[], 1, number.to_le_bytes().to_vec()));
                }
                inner.input.push(input);
            }
            if op.starts_with("Reduce") {
                let axes = outer("axes");
                if !graph.initializer.iter().any(|known| known.name == axes) {
                    graph.initializer.push(tensor(&axes, &[1], 7, (-1i64).to_le_bytes().to_vec()));
                }
                inner.input.push(axes);
            }
            if op == "Cast" {
                inner.attribute.push(AttributeProto {
                    name: "to".into(),
                    i: 1,
                    r#type: AttributeType::Int as i32,
                    ..AttributeProto::default()
                });
            }
            nodes.push(inner);
        }
    }
    graph.node = nodes;
    model
}

fn tensor(name: &str, dims: &[i64], data_type: i32, raw_data: Vec<u8>) -> TensorProto {
    TensorProto { name: name.into(), dims: dims.to_vec(), data_type, raw_data, ..TensorProto::default() }
}

fn understood(model: ModelProto) -> Result<TextModel, Misfit> {
    let imported = onnx::import(model, Path::new(".")).unwrap_or_else(|e| panic!("{e:#}"));
    let recognised = recognise(&imported.model)?;
    let run = F32Run::new(imported, &recognised.outlets).unwrap_or_else(|e| panic!("{e:#}"));
    check(&recognised.model, &recognised.outputs, &run).unwrap_or_else(|e| panic!("{e:#}"));
    Ok(recognised.model)
}

fn norms(model: &TextModel) -> Vec<&LayerNorm> {
    let layers = model.layers.iter().flat_map(|layer| [&layer.norm1, &layer.norm2]);
    layers.chain([&model.final_norm]).collect()
}

/// How a mean and one over the deviation may begin.
const MEAN: &str = "m = ReduceMean x\n d = Sub x m\n";
const VARIANCES: [(&str, &str); 6] = [
    ("multiplied with itself", "s = Mul d d\n v = ReduceMean s\n"),
    ("to the power of two", "s = Pow d 2\n v = ReduceMean s\n"),
    ("a sum of squares", "s = ReduceSumSquare d\n v = Div s 16\n"),
    ("a squared length", "l = ReduceL2 d\n s = Mul l l\n v = Mul s 0.0625\n"),
    ("squares less the mean's", "q = Mul x x\n e = ReduceMean q\n mm = Mul m m\n v = Sub e mm\n"),
    ("cast on the way", "c = Cast d\n s = Mul c c\n w = ReduceMean s\n v = Cast w\n"),
];
const INVERSES: [(&str, &str); 4] = [
    ("one over the root", "p = Add v 0.00001\n o = Sqrt p\n r = Div 1 o\n"),
    ("the reciprocal", "p = Add v 0.00001\n o = Sqrt p\n r = Reciprocal o\n"),
    ("the power of minus a half", "p = Add 0.00001 v\n r = Pow p -0.5\n"),
    ("the root of the reciprocal", "p = Add v 0.00001\n o = Reciprocal p\n r = Sqrt o\n"),
];
const ENDS: [(&str, &str); 11] = [
    ("plain", "n = Mul d r\n g = Mul n gain\n y = Add g bias"),
    ("TensorFlow's", "a = Mul r gain\n xa = Mul x a\n ma = Mul m a\n b = Sub bias ma\n y = Add xa b"),
    (
        "the mean's part taken off",
        "a = Mul gain r\n xa = Mul a x\n ma = Mul a m\n b = Sub xa ma\n y = Add b bias",
    ),
    (
        "the mean's part negated",
        "a = Mul gain r\n xa = Mul a x\n ma = Mul a m\n n = Neg ma\n b = Add n bias\n y = Add b xa",
    ),
    ("the gain last", "xr = Mul x r\n mr = Mul m r\n n = Sub xr mr\n g = Mul n gain\n y = Add g bias"),
    (
        "the gain on both parts",
        "xr = Mul x r\n mr = Mul m r\n xg = Mul xr gain\n mg = Mul mr gain\n n = Sub xg mg\n y = Add n bias",
    ),
    ("Keras's", "a = Mul r gain\n n = Mul d a\n y = Add n bias"),
    ("the gain first", "g = Mul gain d\n n = Mul g r\n y = Add n bias"),
    ("divided", "o2 = Sqrt p\n n = Div d o2\n g = Mul n gain\n y = Add g bias"),
    ("the gain first, divided", "o2 = Sqrt p\n g = Mul gain d\n n = Div g o2\n y = Add n bias"),
    ("the gain over the deviation", "o2 = Sqrt p\n a = Div gain o2\n n = Mul d a\n y = Add n bias"),
];

#[test]
fn every_spelling_is_the_same_norm() {
    let expected = understood(export(PLAIN)).expect("the export as it is");
    for (variance, v) in VARIANCES {
        for (inverse, r) in INVERSES {
            for (end, y) in ENDS {
                let named = format!("{variance}, {inverse}, {end}");
                let model = understood(spelled(&format!("{MEAN}{v}{r}{y}")))
                    .unwrap_or_else(|e| panic!("{named}: {e}"));
                for (found, expected) in norms(&model).iter().zip(norms(&expected)) {
                    assert!(relative_error(&found.gain, &expected.gain) <= 1e-6, "{named}");
                    assert!(relative_error(&found.bias, &expected.bias) <= 1e-6, "{named}");
                    assert!((found.epsilon / expected.epsilon - 1.0).abs() <= 1e-3, "{named}");
                }
            }
        }
    }
    assert_eq!(expected.width() as f32, WIDTH, "as the spellings above divide by");
}

#[test]
fn what_is_nearly_a_norm_is_not_one() {
    let (_, v) = VARIANCES[0];
    let (_, r) = INVERSES[0];
    for (what, y) in [
        (
            "the mean's part added",
            "a = Mul r gain\n xa = Mul x a\n ma = Mul m a\n b = Add bias ma\n y = Add xa b",
        ),
        (
            "the mean without the gain",
            "a = Mul r gain\n xa = Mul x a\n ma = Mul m r\n b = Sub bias ma\n y = Add xa b",
        ),
        (
            "the mean twice",
            "a = Mul r gain\n xa = Mul x a\n ma = Mul m a\n m2 = Mul ma 2\n b = Sub bias m2\n y = Add xa b",
        ),
        ("no mean", "a = Mul r gain\n xa = Mul x a\n y = Add xa bias"),
        ("the variance for its root", "n = Mul d v\n g = Mul n gain\n y = Add g bias"),
    ] {
        let found = understood(spelled(&format!("{MEAN}{v}{r}{y}"))).expect_err(what);
        println!("{what}: {found}");
    }
}
