//! Files that are damaged, or that lie, are refused with an error that names them and says what to do.

use std::os::unix::fs::symlink;
use std::path::Path;

use cliptext_compiler::import::onnx;
use cliptext_test_support::{Scratch, export};
use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, SparseTensorProto,
    StringStringEntryProto, TensorProto, ValueInfoProto,
};

const PLAIN: &str = "sd.tf523-torch215-ts.op14.static.i64";

fn refusal(path: &Path) -> String {
    let said = format!("{:#}", onnx::load(path).expect_err("a refusal"));
    let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name");
    assert!(said.contains(name), "the error names the file: {said}");
    said
}

fn refused(model: &ModelProto) -> String {
    let scratch = Scratch::new();
    refusal(&scratch.write("model.onnx", &model.encode_to_vec()))
}

fn edited(edit: impl FnOnce(&mut GraphProto)) -> String {
    let mut model = export(PLAIN);
    edit(model.graph.as_mut().expect("a graph"));
    refused(&model)
}

/// A weight matrix.
fn weight(graph: &mut GraphProto) -> &mut TensorProto {
    graph.initializer.iter_mut().find(|t| t.dims == [16, 64]).expect("a matrix of the MLP")
}

#[test]
fn files_that_are_no_models() {
    let scratch = Scratch::new();
    assert!(refusal(&scratch.write("empty.onnx", b"")).contains("empty"));
    for (name, bytes) in
        [("text.onnx", b"a running dog\n".as_slice()), ("zeros.onnx", &[0; 64]), ("nul.onnx", b"\x08")]
    {
        let said = refusal(&scratch.write(name, bytes));
        assert!(said.contains("not an ONNX model"), "{said}");
    }
    assert!(refusal(&scratch.path().join("missing.onnx")).contains("cannot read"));
}

#[test]
fn truncated_files() {
    let scratch = Scratch::new();
    let bytes = export(PLAIN).encode_to_vec();
    for parts in 1..40 {
        refusal(&scratch.write("cut.onnx", &bytes[..bytes.len() * parts / 40]));
    }
}

#[test]
fn flipped_bytes_never_panic() {
    // With a vocabulary of 128 most flips hit structure.
    let mut model = export(PLAIN);
    let graph = model.graph.as_mut().expect("a graph");
    let table = graph.initializer.iter_mut().find(|t| t.dims == [49408, 16]).expect("the token embedding");
    table.dims[0] = 128;
    table.raw_data.truncate(128 * 16 * 4);
    let bytes = model.encode_to_vec();
    let scratch = Scratch::new();
    let path = scratch.write("flipped.onnx", &bytes);
    assert!(onnx::load(&path).is_ok());
    let mut refusals = 0;
    for round in 0..300usize {
        let mut damaged = bytes.clone();
        let at = round.wrapping_mul(2_654_435_761) % damaged.len();
        damaged[at] ^= 1 << (round % 8);
        scratch.write("flipped.onnx", &damaged);
        // A flip in a weight or a note is no damage that shows; any other is refused, and none stops the program.
        match onnx::load(&path) {
            Ok(imported) => {
                let _ = cliptext_compiler::recognise::recognise(&imported.model);
            }
            Err(error) => {
                refusals += 1;
                assert!(format!("{error:#}").contains("flipped.onnx"));
            }
        }
    }
    assert!(refusals > 10, "{refusals}");
}

#[test]
fn lying_lengths_and_dimensions() {
    let said = edited(|graph| weight(graph).raw_data.truncate(100));
    assert!(said.contains("promises 1024 values") && said.contains("holds 100 bytes"), "{said}");
    let said = edited(|graph| weight(graph).dims = vec![16, 65]);
    assert!(said.contains("promises 1040 values"), "{said}");
    for dims in [vec![i64::MAX, i64::MAX], vec![-16, -64], vec![1 << 32, 1 << 32, 0x40]] {
        let said = edited(|graph| weight(graph).dims = dims);
        assert!(said.contains("are impossible"), "{said}");
    }
    let said = edited(|graph| weight(graph).raw_data.clear());
    assert!(said.contains("holds 0"), "{said}");
    let said = edited(|graph| weight(graph).data_type = 99);
    assert!(said.contains("element type 99"), "{said}");
}

#[test]
fn names_that_nothing_defines() {
    let said = edited(|graph| graph.output[0].name = "elsewhere".into());
    assert!(said.contains("`elsewhere`"), "{said}");
    let said = edited(|graph| graph.node[20].input[0] = "nowhere".into());
    assert!(said.contains("`nowhere`"), "{said}");
    let said = edited(|graph| {
        let name = graph.node[3].output[0].clone();
        graph.node[9].output[0] = name;
    });
    assert!(said.contains("defined already"), "{said}");
    let said = edited(|graph| graph.output.clear());
    assert!(said.contains("no outputs"), "{said}");
}

#[test]
fn data_in_two_fields_and_names_twice() {
    let said = edited(|graph| weight(graph).int32_data = vec![0]);
    assert!(said.contains("in int32_data and in raw_data"), "{said}");
    let said = edited(|graph| {
        let again = weight(graph).clone();
        graph.initializer.push(again);
    });
    assert!(said.contains("two tensors"), "{said}");
    let said = edited(|graph| {
        let again = graph.input[0].clone();
        graph.input.push(again);
    });
    assert!(said.contains("two inputs"), "{said}");
}

#[test]
fn operators_of_unknown_versions() {
    for (versions, part) in [
        (vec![], "which version"),
        (vec![99], "version 99"),
        (vec![3], "version 3"),
        (vec![14, 17], "two versions"),
    ] {
        let mut model = export(PLAIN);
        let set = model.opset_import[0].clone();
        model.opset_import =
            versions.into_iter().map(|version| OperatorSetIdProto { version, ..set.clone() }).collect();
        let said = refused(&model);
        assert!(said.contains(part) && said.contains("export the model"), "{said}");
    }
}

/// `If(condition)` with this branch twice.
fn choice(branch: GraphProto) -> NodeProto {
    let attribute = |name: &str| AttributeProto {
        name: name.into(),
        r#type: AttributeType::Graph as i32,
        g: Some(branch.clone()),
        ..AttributeProto::default()
    };
    NodeProto {
        op_type: "If".into(),
        name: "choice".into(),
        input: vec!["condition".into()],
        output: vec!["chosen".into()],
        attribute: vec![attribute("then_branch"), attribute("else_branch")],
        ..NodeProto::default()
    }
}

#[test]
fn nested_graphs_are_checked_in_the_graph_and_in_functions() {
    let named = |name: &str| ValueInfoProto { name: name.into(), ..ValueInfoProto::default() };
    let truth =
        TensorProto { name: "condition".into(), data_type: 9, int32_data: vec![1], ..TensorProto::default() };
    let sound = TensorProto {
        name: "inner".into(),
        data_type: 1,
        dims: vec![2],
        float_data: vec![1.0; 2],
        ..TensorProto::default()
    };
    let branch =
        GraphProto { initializer: vec![sound], output: vec![named("inner")], ..GraphProto::default() };
    let mut deep = branch.clone();
    for depth in 0..9 {
        let mut node = choice(deep);
        node.output[0] = format!("chosen{depth}");
        deep = GraphProto { output: vec![named(&node.output[0])], node: vec![node], ..GraphProto::default() };
    }
    let edit = |change: &dyn Fn(&mut GraphProto)| {
        let mut changed = branch.clone();
        change(&mut changed);
        changed
    };
    let cases = [
        ("promises 3 values", edit(&|graph| graph.initializer[0].dims = vec![3])),
        ("in float_data and in raw_data", edit(&|graph| graph.initializer[0].raw_data = vec![0; 8])),
        ("sparse", edit(&|graph| graph.sparse_initializer = vec![SparseTensorProto::default()])),
        ("its output `elsewhere`", edit(&|graph| graph.output[0].name = "elsewhere".into())),
        ("two tensors", edit(&|graph| graph.initializer.push(graph.initializer[0].clone()))),
        (
            "takes `nowhere`",
            edit(&|graph| {
                let mut node = choice(branch.clone());
                node.input[0] = "nowhere".into();
                node.output[0] = "other".into();
                graph.node.push(node);
            }),
        ),
        ("nested more than 8 deep", deep),
    ];
    for (part, branch) in cases {
        let mut model = export(PLAIN);
        let graph = model.graph.as_mut().expect("a graph");
        graph.initializer.push(truth.clone());
        graph.node.push(choice(branch.clone()));
        let said = refused(&model);
        assert!(said.contains(part) && said.contains("`choice` (If)"), "{part}: {said}");
        // The same in the body of a function.
        let mut model = export(PLAIN);
        model.functions.push(FunctionProto {
            name: Some("Local".into()),
            domain: Some("local".into()),
            input: vec!["condition".into()],
            output: vec!["chosen".into()],
            node: vec![choice(branch)],
            opset_import: model.opset_import.clone(),
            ..FunctionProto::default()
        });
        let said = refused(&model);
        assert!(said.contains(part) && said.contains("function `Local`"), "{part}: {said}");
    }
}

#[test]
fn functions_of_other_versions_of_the_operators() {
    let mut model = export(PLAIN);
    let mut set = model.opset_import[0].clone();
    set.version += 1;
    let function =
        FunctionProto { name: Some("Local".into()), opset_import: vec![set], ..FunctionProto::default() };
    model.functions.push(function);
    assert!(refused(&model).contains("operators of version 15, the model those of 14"));
}

#[test]
fn a_graph_that_goes_round() {
    edited(|graph| {
        let last = graph.node.last().and_then(|node| node.output.first()).cloned().expect("a last node");
        let sum = graph.node.iter_mut().find(|node| node.op_type == "Add").expect("a sum");
        sum.input[0] = last;
    });
}

/// Moves a weight into a file and names it.
fn externalise(model: &mut ModelProto, location: &str, entries: &[(&str, String)]) -> Vec<u8> {
    let tensor = weight(model.graph.as_mut().expect("a graph"));
    tensor.data_location = Some(DataLocation::External as i32);
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    tensor.external_data = vec![entry("location", location)];
    tensor.external_data.extend(entries.iter().map(|(key, value)| entry(key, value)));
    std::mem::take(&mut tensor.raw_data)
}

#[test]
fn external_data_inside_the_folder_is_read() {
    let scratch = Scratch::new();
    let mut model = export(PLAIN);
    let bytes = externalise(&mut model, "weights.bin", &[("offset", "8".into()), ("length", "4096".into())]);
    let path = scratch.write("model.onnx", &model.encode_to_vec());
    assert!(refusal(&path).contains("put it beside the model"));
    scratch.write("weights.bin", &[&[0; 8][..], &bytes].concat());
    assert!(onnx::load(&path).is_ok());
    scratch.write("weights.bin", &bytes);
    let said = refusal(&path);
    assert!(said.contains("needs 4096 bytes") && said.contains("holds 4096"), "{said}");
}

#[test]
fn external_locations_are_listed_without_the_data() {
    let scratch = Scratch::new();
    let list = |model: &ModelProto| {
        onnx::external_locations(&scratch.write("model.onnx", &model.encode_to_vec()))
            .map_err(|error| format!("{error:#}"))
    };
    let mut model = export(PLAIN);
    assert!(list(&model).is_ok_and(|none| none.is_empty()));
    externalise(&mut model, "deep/any name", &[]);
    // Another one in a graph of a function's node.
    let mut tensor = weight(model.graph.as_mut().expect("a graph")).clone();
    tensor.external_data[0].value = "other".into();
    let constant = AttributeProto { t: Some(tensor), ..AttributeProto::default() };
    let node = NodeProto { attribute: vec![constant], ..NodeProto::default() };
    let branch = GraphProto { node: vec![node], ..GraphProto::default() };
    let branch = AttributeProto { g: Some(branch), ..AttributeProto::default() };
    let node = NodeProto { attribute: vec![branch], ..NodeProto::default() };
    model.functions.push(FunctionProto { node: vec![node], ..FunctionProto::default() });
    assert!(list(&model).is_ok_and(|both| both.iter().eq(["deep/any name", "other"])));
    weight(model.graph.as_mut().expect("a graph")).external_data[0].value = "../other".into();
    let said = list(&model).expect_err("a refusal");
    assert!(said.contains("model.onnx") && said.contains("outside the model's folder"), "{said}");
    assert!(onnx::external_locations(&scratch.write("text.onnx", b"a running dog")).is_err());
}

/// The refusal of a model whose matrices of the MLP, `count` of them, lie in `weights.bin` at these offsets.
fn shared(offsets: &[u64], file: impl FnOnce(&Scratch, &[u8])) -> Result<(), String> {
    let scratch = Scratch::new();
    let mut model = export(PLAIN);
    let graph = model.graph.as_mut().expect("a graph");
    let matrices = graph.initializer.iter_mut().filter(|t| t.raw_data.len() == 4096);
    let mut count = 0;
    for (tensor, offset) in matrices.zip(offsets) {
        let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
        tensor.data_location = Some(DataLocation::External as i32);
        tensor.external_data = vec![entry("location", "weights.bin"), entry("offset", &offset.to_string())];
        tensor.raw_data.clear();
        count += 1;
    }
    assert_eq!(count, offsets.len(), "there are so many matrices");
    file(&scratch, &[0; 4 * 4096]);
    onnx::load(&scratch.write("model.onnx", &model.encode_to_vec()))
        .map(drop)
        .map_err(|error| format!("{error:#}"))
}

#[test]
fn external_tensors_may_share_their_bytes_but_not_multiply_them() {
    let whole = |scratch: &Scratch, bytes: &[u8]| drop(scratch.write("weights.bin", bytes));
    let one = |scratch: &Scratch, bytes: &[u8]| drop(scratch.write("weights.bin", &bytes[..4096]));
    assert_eq!(shared(&[0, 4096, 8192], whole), Ok(()));
    assert_eq!(shared(&[0, 0], one), Ok(()), "tied weights");
    let said = shared(&[0, 4092], whole).expect_err("an overlap");
    assert!(said.contains("overlap those of another tensor") && said.contains("model.onnx"), "{said}");
    let said = shared(&[4092, 0], whole).expect_err("an overlap");
    assert!(said.contains("overlap"), "{said}");
    let said = shared(&[0, 0, 0], one).expect_err("three of one");
    assert!(said.contains("12288 bytes, more than 2 times the 4096"), "{said}");
}

#[test]
fn sparse_files_claim_no_memory() {
    let scratch = Scratch::new();
    let mut model = export(PLAIN);
    externalise(&mut model, "weights.bin", &[]);
    weight(model.graph.as_mut().expect("a graph")).dims = vec![1 << 20, 1 << 20];
    let file = std::fs::File::create(scratch.path().join("weights.bin")).expect("a file");
    file.set_len(4 << 40).expect("a sparse file");
    let said = refusal(&scratch.write("model.onnx", &model.encode_to_vec()));
    assert!(said.contains("4398046511104 bytes") && said.contains("more than 17179869184"), "{said}");
}

#[test]
fn external_data_that_say_two_things() {
    let scratch = Scratch::new();
    let mut model = export(PLAIN);
    let twice = [("length", "4096".to_owned()), ("length", "8".to_owned())];
    let bytes = externalise(&mut model, "weights.bin", &twice);
    scratch.write("weights.bin", &bytes);
    let said = refusal(&scratch.write("model.onnx", &model.encode_to_vec()));
    assert!(said.contains("gives length twice"), "{said}");
    let tensor = weight(model.graph.as_mut().expect("a graph"));
    tensor.external_data.pop();
    tensor.raw_data = bytes;
    let said = refusal(&scratch.write("model.onnx", &model.encode_to_vec()));
    assert!(said.contains("holds 4096 bytes itself"), "{said}");
}

#[test]
fn external_data_outside_the_folder_is_not() {
    let scratch = Scratch::new();
    let mut model = export(PLAIN);
    let bytes = externalise(&mut model, "../weights.bin", &[]);
    let outside = scratch.write("weights.bin", &bytes);
    let folder = scratch.path().join("model");
    std::fs::create_dir(&folder).expect("a folder");
    symlink(&outside, folder.join("link.bin")).expect("a link");
    symlink(scratch.path(), folder.join("up")).expect("a link");
    let absolute = outside.to_str().expect("a plain path").to_owned();
    for location in
        ["../weights.bin", absolute.as_str(), "link.bin", "up/weights.bin", "model/../../weights.bin", ""]
    {
        weight(model.graph.as_mut().expect("a graph")).external_data[0].value = location.into();
        let path = folder.join("model.onnx");
        std::fs::write(&path, model.encode_to_vec()).expect("a model");
        let said = refusal(&path);
        assert!(said.contains("outside the model's folder"), "{location}: {said}");
    }
}

#[test]
fn external_data_of_a_snapshot_is_read_from_its_blobs_only() {
    let scratch = Scratch::new();
    let mut model = export(PLAIN);
    let bytes = externalise(&mut model, "weights.bin", &[]);
    let [ours, others] = ["models--a--b", "models--c--d"].map(|name| scratch.path().join(name));
    let folder = ours.join("snapshots/0123/text_encoder");
    for folder in [&folder, &ours.join("blobs/deep"), &others.join("blobs")] {
        std::fs::create_dir_all(folder).expect("a folder");
    }
    let path = folder.join("model.onnx");
    std::fs::write(&path, model.encode_to_vec()).expect("a model");
    for (place, allowed) in [
        (ours.join("blobs/0a1b"), true),
        (ours.join("blobs/deep/0a1b"), false),
        (ours.join("0a1b"), false),
        (others.join("blobs/0a1b"), false),
    ] {
        std::fs::write(&place, &bytes).expect("a file");
        let _ = std::fs::remove_file(folder.join("weights.bin"));
        symlink(&place, folder.join("weights.bin")).expect("a link");
        match allowed {
            true => assert!(onnx::load(&path).is_ok()),
            false => assert!(refusal(&path).contains("outside the model's folder"), "{}", place.display()),
        }
    }
}

#[test]
fn external_ranges_that_overflow() {
    for (key, value) in
        [("offset", u64::MAX.to_string()), ("length", u64::MAX.to_string()), ("offset", "-1".into())]
    {
        let scratch = Scratch::new();
        let mut model = export(PLAIN);
        let bytes = externalise(&mut model, "weights.bin", &[(key, value)]);
        scratch.write("weights.bin", &bytes);
        refusal(&scratch.write("model.onnx", &model.encode_to_vec()));
    }
}
