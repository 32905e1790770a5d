//! A UNet goes through the same checks as a text encoder, and is found in the hub's cache.

use std::os::unix::fs::symlink;
use std::path::Path;

use cliptext_compiler::verify::unet::Unet;
use cliptext_test_support::{Scratch, fixtures, model};
use prost::Message;
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{ModelProto, StringStringEntryProto, TensorProto};

fn load(path: &Path) -> Result<Unet, String> {
    Unet::load(path, 77, 768).map_err(|error| format!("{error:#}"))
}

/// The largest tensor.
fn weight(unet: &mut ModelProto) -> &mut TensorProto {
    let graph = unet.graph.as_mut().expect("a graph");
    graph.initializer.iter_mut().max_by_key(|tensor| tensor.raw_data.len()).expect("a tensor")
}

/// Moves that tensor out of the model, and says its bytes.
fn externalise(unet: &mut ModelProto) -> Vec<u8> {
    let tensor = weight(unet);
    tensor.data_location = Some(DataLocation::External as i32);
    tensor.external_data =
        vec![StringStringEntryProto { key: "location".into(), value: "model.onnx_data".into() }];
    std::mem::take(&mut tensor.raw_data)
}

#[test]
fn a_unet_in_the_hubs_cache_is_read_from_its_blobs_only() {
    let scratch = Scratch::new();
    let mut unet = model(&fixtures().join("unet.onnx"));
    let data = externalise(&mut unet);
    let repository = scratch.path().join("models--a--b");
    let (folder, blobs) = (repository.join("snapshots/0123/unet"), repository.join("blobs"));
    for folder in [&folder, &blobs] {
        std::fs::create_dir_all(folder).expect("a folder");
    }
    std::fs::write(blobs.join("0a"), unet.encode_to_vec()).expect("a blob");
    std::fs::write(blobs.join("0b"), &data).expect("a blob");
    symlink("../../../blobs/0a", folder.join("model.onnx")).expect("a link");
    symlink("../../../blobs/0b", folder.join("model.onnx_data")).expect("a link");
    load(&folder.join("model.onnx")).expect("a UNet");
    // The same link, to a file of someone else's.
    let other = scratch.write("0b", &data);
    std::fs::remove_file(folder.join("model.onnx_data")).expect("a link");
    symlink(other, folder.join("model.onnx_data")).expect("a link");
    let said = load(&folder.join("model.onnx")).expect_err("a refusal");
    assert!(said.contains("outside the model's folder") && said.contains("model.onnx"), "{said}");
}

#[test]
fn a_unet_that_lies_is_refused() {
    let scratch = Scratch::new();
    let refused = |change: &dyn Fn(&mut ModelProto)| {
        let mut unet = model(&fixtures().join("unet.onnx"));
        change(&mut unet);
        let said = load(&scratch.write("unet.onnx", &unet.encode_to_vec())).expect_err("a refusal");
        assert!(said.contains("unet.onnx"), "{said}");
        said
    };
    assert!(refused(&|unet| weight(unet).raw_data.truncate(8)).contains("holds 8 bytes"));
    assert!(refused(&|unet| weight(unet).float_data = vec![0.0]).contains("in float_data and in raw_data"));
    let operator = |unet: &mut ModelProto, domain: &str, op: &str| {
        let node = &mut unet.graph.as_mut().expect("a graph").node[0];
        (node.domain, node.op_type) = (domain.into(), op.into());
    };
    assert!(refused(&|unet| operator(unet, "", "DynamicQuantizeLinear")).contains("quantized already"));
    assert!(refused(&|unet| operator(unet, "com.microsoft", "NhwcConv")).contains("before it was optimised"));
}
