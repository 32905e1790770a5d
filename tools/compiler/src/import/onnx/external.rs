//! Tensors kept in files beside the model: read in, from inside the model's own folder only.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path};

use anyhow::{Context, Result, ensure};
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{ModelProto, TensorProto};

use super::check::{element_size, elements};
use super::proto::{each_node_tensor, each_tensor};

/// Replaces every reference to external data by the data.
pub fn embed(model: &mut ModelProto, folder: &Path) -> Result<()> {
    let mut files = HashMap::new();
    let mut embed = |tensor: &mut TensorProto| embed_tensor(tensor, folder, &mut files);
    if let Some(graph) = &mut model.graph {
        each_tensor(graph, &mut embed)?;
    }
    model.functions.iter_mut().try_for_each(|function| each_node_tensor(&mut function.node, &mut embed))
}

fn embed_tensor(tensor: &mut TensorProto, folder: &Path, files: &mut HashMap<String, File>) -> Result<()> {
    if tensor.data_location != Some(DataLocation::External as i32) {
        return Ok(());
    }
    let name = tensor.name.clone();
    let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
    let number = |key: &str| -> Result<Option<u64>> {
        entry(key)
            .map(|text| {
                text.parse().with_context(|| format!("tensor `{name}`: `{text}` is no external data {key}"))
            })
            .transpose()
    };
    let location =
        entry("location").with_context(|| format!("tensor `{name}` is external but names no file"))?;
    let offset = number("offset")?.unwrap_or(0);
    if !files.contains_key(location) {
        files
            .insert(location.to_owned(), open(folder, location).with_context(|| format!("tensor `{name}`"))?);
    }
    let file = &files[location];
    let held = file.metadata()?.len();
    let size = DataType::try_from(tensor.data_type).ok().and_then(element_size);
    let promised = elements(tensor)?
        .checked_mul(
            size.with_context(|| format!("tensor `{name}` has an element type that cannot be external"))?,
        )
        .with_context(|| format!("tensor `{name}` has impossible dimensions {:?}", tensor.dims))?;
    let length = number("length")?.unwrap_or(promised as u64);
    ensure!(
        length == promised as u64 && offset.checked_add(length).is_some_and(|end| end <= held),
        "tensor `{name}` needs {promised} bytes, but the model names {length} at offset {offset} of `{location}`, which \
         holds {held}; copy that file again"
    );
    let mut bytes = vec![0; promised];
    file.read_exact_at(&mut bytes, offset)
        .with_context(|| format!("cannot read tensor `{name}` from `{location}`"))?;
    tensor.raw_data = bytes;
    tensor.data_location = None;
    tensor.external_data.clear();
    Ok(())
}

fn outside(location: &str) -> String {
    format!(
        "external data `{location}` lies outside the model's folder, where nothing is read; put it into the folder and \
         export the model again, or correct the path in it"
    )
}

/// Refuses a location that is no plain path below the model's folder.
pub fn plain(location: &str) -> Result<()> {
    let below =
        Path::new(location).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    ensure!(below && !location.is_empty(), outside(location));
    Ok(())
}

/// Opens a file of the model's folder, following links only if they stay inside, or lead from a snapshot in the hub's
/// cache to its blobs.
fn open(folder: &Path, location: &str) -> Result<File> {
    plain(location)?;
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let folder =
        folder.canonicalize().with_context(|| format!("cannot open folder `{}`", folder.display()))?;
    let missing = || format!("cannot open external data `{location}`; put it beside the model");
    let file = folder.join(location).canonicalize().with_context(missing)?;
    ensure!(file.starts_with(&folder) || is_blob(&file, &folder), outside(location));
    ensure!(file.is_file(), "external data `{location}` is not a file");
    File::open(&file).with_context(missing)
}

/// Whether `folder` is `REPOSITORY/snapshots/COMMIT` or below it, and `file` is directly in `REPOSITORY/blobs`: so the hub's
/// cache keeps the files that a snapshot has.
fn is_blob(file: &Path, folder: &Path) -> bool {
    let in_blobs =
        || file.parent()?.parent().filter(|repository| file.parent() == Some(&repository.join("blobs")));
    in_blobs().is_some_and(|repository| {
        let below = folder.strip_prefix(repository.join("snapshots"));
        below.is_ok_and(|below| below.components().next().is_some())
    })
}
