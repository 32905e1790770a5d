//! A tower as PyTorch exports it to ONNX.
//!
//! A real exporter wrote the graph; it is kept here without its large tensors (`skeletons/`), with a map that says
//! which tensor of the checkpoint, transposed or not, belongs in each. The graph fixes the shapes and the activation,
//! so there is an export of the full-size model only.

use crate::checkpoint::little_endian;
use crate::{Error, Options, Tensor, Tower, files};
use prost::Message;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;

/// Whether the export fixes the sizes of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axes {
    /// `[1, 77]`.
    Static,
    /// Any batch and length, worked out by the graph as it runs.
    Dynamic,
}

impl Axes {
    fn skeleton(self) -> (&'static [u8], &'static str) {
        match self {
            Self::Static => (
                include_bytes!("../skeletons/vit-l.op14.static.skeleton.onnx"),
                include_str!("../skeletons/vit-l.op14.static.skeleton.map.json"),
            ),
            Self::Dynamic => (
                include_bytes!("../skeletons/vit-l.op14.dynamic.skeleton.onnx"),
                include_str!("../skeletons/vit-l.op14.dynamic.skeleton.map.json"),
            ),
        }
    }
}

/// Writes the export of `tower` to `path`.
///
/// The tower is used up, so that its half gigabyte is there once more, in the file's form, and not twice.
///
/// # Errors
/// [`Error::Options`] when the tower is not of the full-size model's shape, [`Error::Write`] when the file could not
/// be written.
pub fn write(tower: Tower, axes: Axes, path: &Path) -> Result<(), Error> {
    files::write(path, &encode(tower, axes)?)
}

/// The bytes of the export of `tower`.
///
/// # Errors
/// [`Error::Options`] when the tower is not of the full-size model's shape.
pub fn encode(tower: Tower, axes: Axes) -> Result<Vec<u8>, Error> {
    check(&tower.options)?;
    let (mut model, places) = read_skeleton(axes);
    let mut tensors: HashMap<String, Tensor> =
        tower.tensors.into_iter().map(|t| (t.name.clone(), t)).collect();
    for initializer in &mut model.graph.initializer {
        let place =
            places.get(&initializer.name).expect("the map has a place for every tensor of its skeleton");
        let tensor = tensors.remove(&place.tensor).expect("a skeleton uses every tensor of its model once");
        initializer.raw_data =
            Some(if place.transposed { transposed(&tensor) } else { bytes(&tensor.values) });
    }
    Ok(model.encode_to_vec())
}

/// Whether there is an export of such a model.
///
/// # Errors
/// [`Error::Options`] names the first option that the export cannot follow.
pub fn check(options: &Options) -> Result<(), Error> {
    let full = Options::default();
    // Only these can differ from the full-size model's.
    let Options { seed, massive, bos_token_id, eos_token_id, position_ids, .. } = *options;
    let nearest = Options { seed, massive, bos_token_id, eos_token_id, position_ids, ..full };
    if *options == nearest {
        return options.check();
    }
    let described = |options: &Options| {
        let Options {
            width, layers, heads, mlp, vocab, positions, activation, projection, dtype, names, ..
        } = options;
        [
            format!("width {width}"),
            format!("layers {layers}"),
            format!("heads {heads}"),
            format!("mlp {mlp}"),
            format!("vocab {vocab}"),
            format!("positions {positions}"),
            format!("act {activation:?}"),
            format!("projection-dim {}", projection.unwrap_or(0)),
            format!("dtype {dtype:?}"),
            format!("names {names:?}"),
        ]
    };
    let differing: Vec<String> = described(options)
        .into_iter()
        .zip(described(&nearest))
        .filter(|(given, needed)| given != needed)
        .map(|(given, needed)| format!("{given} (it has {needed})"))
        .collect();
    Err(Error::Options(format!(
        "the ONNX export exists for the full-size model only, its graph fixes the shapes: {} cannot be had",
        differing.join(", ")
    )))
}

/// Where the bytes of an initializer come from.
#[derive(Deserialize)]
struct InitializerSource {
    tensor: String,
    transposed: bool,
}

fn read_skeleton(axes: Axes) -> (Model, HashMap<String, InitializerSource>) {
    let (skeleton, map) = axes.skeleton();
    let model = Model::decode(skeleton).expect("the embedded skeleton is an ONNX model");
    let places = serde_json::from_str(map).expect("the embedded map lists places");
    (model, places)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    little_endian(values).into_owned()
}

/// The bytes of a matrix, column by column: exporters store linear weights as `[inputs, outputs]`.
fn transposed(tensor: &Tensor) -> Vec<u8> {
    let [rows, columns] = tensor.shape[..] else { unreachable!("only matrices are transposed") };
    let mut values = Vec::with_capacity(rows * columns);
    for column in 0..columns {
        values.extend((0..rows).map(|row| tensor.values[row * columns + column]));
    }
    bytes(&values)
}

// As much of `onnx.proto` as the skeletons use; what is only carried along stays bytes. A test holds that nothing of
// them is lost.

/// `ModelProto`.
#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, optional, tag = "1")]
    ir_version: Option<i64>,
    #[prost(string, optional, tag = "2")]
    producer_name: Option<String>,
    #[prost(string, optional, tag = "3")]
    producer_version: Option<String>,
    #[prost(message, required, tag = "7")]
    graph: Graph,
    #[prost(bytes = "vec", repeated, tag = "8")]
    opset_import: Vec<Vec<u8>>,
}

/// `GraphProto`.
#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(bytes = "vec", repeated, tag = "1")]
    node: Vec<Vec<u8>>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Initializer>,
    #[prost(bytes = "vec", repeated, tag = "11")]
    input: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "12")]
    output: Vec<Vec<u8>>,
}

/// `TensorProto`.
#[derive(Clone, PartialEq, Message)]
struct Initializer {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, optional, tag = "2")]
    data_type: Option<i32>,
    #[prost(string, required, tag = "8")]
    name: String,
    #[prost(bytes = "vec", optional, tag = "9")]
    raw_data: Option<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_skeleton_is_lost() {
        for axes in [Axes::Static, Axes::Dynamic] {
            let (model, _) = read_skeleton(axes);
            assert!(model.encode_to_vec() == axes.skeleton().0, "{axes:?}");
        }
    }

    #[test]
    fn a_map_places_every_tensor_once() {
        for axes in [Axes::Static, Axes::Dynamic] {
            let (model, places) = read_skeleton(axes);
            let named = model.graph.initializer.iter().map(|initializer| &initializer.name);
            let mut sources: Vec<&str> = named.map(|name| places[name].tensor.as_str()).collect();
            let count = sources.len();
            sources.sort_unstable();
            sources.dedup();
            assert_eq!((sources.len(), count), (places.len(), places.len()), "{axes:?}");
        }
    }

    #[test]
    fn transposing_goes_down_the_columns() {
        let tensor =
            Tensor { name: String::new(), shape: vec![2, 3], values: vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0] };
        assert_eq!(transposed(&tensor), bytes(&[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
    }

    #[test]
    fn only_the_full_size_model_has_an_export() {
        let full = Options::default();
        assert!(check(&Options { seed: 9, massive: 40.0, position_ids: true, ..full.clone() }).is_ok());
        let error = check(&Options { width: 64, heads: 4, ..full }).unwrap_err().to_string();
        assert!(error.contains("width 64 (it has width 768), heads 4"), "{error}");
    }
}
