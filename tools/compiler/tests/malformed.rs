//! Files that are damaged, or that lie, are refused with an error that names them and says what to do.

use std::os::unix::fs::symlink;
use std::path::Path;

use cliptext_compiler::import::onnx;
use cliptext_test_support::{Scratch, export};
use prost::Message;
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
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
        assert!(said.contains("impossible dimensions"), "{said}");
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
