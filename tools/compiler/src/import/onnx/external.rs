//! Tensors kept in files beside the model: read in, from inside the model's own folder only, and no more than there is.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{ModelProto, TensorProto};

use super::proto::{each_node_tensor, each_tensor};
use super::tensors::{element_size, elements};

/// Most bytes of external tensors in one model: a sparse file costs nothing to claim more. The f32 UNet of SDXL has
/// 10 GiB, the largest CLIP text encoder 3 GiB.
const MOST_BYTES: u64 = 16 << 30;

/// Tensors may name the same bytes, as tied weights do; altogether they may be this many times as large as their files.
const MOST_TIMES: u64 = 2;

/// Replaces every reference to external data by the data, once all of them are known to be sound.
pub fn embed(model: &mut ModelProto, folder: &Path) -> Result<()> {
    let mut files = Files { folder, files: HashMap::new() };
    let mut ranges = Vec::new();
    each_external(model, &mut |tensor| {
        ranges.push(files.range(tensor)?);
        Ok(())
    })?;
    let total: u64 = ranges.iter().map(|range| range.length).sum();
    let held: u64 = files.files.values().map(|file| file.bytes).sum();
    ensure!(
        total <= MOST_BYTES && total / MOST_TIMES <= held,
        "the external tensors are {total} bytes, more than {MOST_TIMES} times the {held} bytes of their files or more than \
         {MOST_BYTES}; export the model again"
    );
    let mut ranges = ranges.iter();
    each_external(model, &mut |tensor| {
        let range = ranges.next().context("a tensor that was not there before")?;
        tensor.raw_data = range.read().with_context(|| format!("cannot read `{}`", range.path.display()))?;
        tensor.data_location = None;
        tensor.external_data.clear();
        Ok(())
    })
}

fn each_external(
    model: &mut ModelProto,
    visit: &mut dyn FnMut(&mut TensorProto) -> Result<()>,
) -> Result<()> {
    let mut visit = |tensor: &mut TensorProto| {
        if tensor.data_location != Some(DataLocation::External as i32) {
            return Ok(());
        }
        let name = tensor.name.clone();
        visit(tensor).with_context(|| format!("tensor `{name}`"))
    };
    if let Some(graph) = &mut model.graph {
        each_tensor(graph, &mut visit)?;
    }
    model.functions.iter_mut().try_for_each(|function| each_node_tensor(&mut function.node, &mut visit))
}

/// Where a tensor's bytes are.
struct Range {
    /// Without links.
    path: PathBuf,
    offset: u64,
    length: u64,
}

impl Range {
    fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(usize::try_from(self.length)?).context("not enough memory")?;
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let read = file.take(self.length).read_to_end(&mut bytes)? as u64;
        ensure!(read == self.length, "it ends {} bytes too early; copy it again", self.length - read);
        Ok(bytes)
    }
}

/// The files that tensors were found in so far, by their paths without links.
struct Files<'a> {
    folder: &'a Path,
    files: HashMap<PathBuf, Claims>,
}

/// What tensors have claimed of one file.
struct Claims {
    /// Of the whole file.
    bytes: u64,
    /// Ends of the claimed ranges, by their beginnings.
    ranges: BTreeMap<u64, u64>,
}

impl Files<'_> {
    fn range(&mut self, tensor: &TensorProto) -> Result<Range> {
        ensure!(
            tensor.raw_data.is_empty(),
            "it is external but holds {} bytes itself; export the model again",
            tensor.raw_data.len()
        );
        let location =
            entry(tensor, "location")?.context("it is external but names no file; export the model again")?;
        let number = |key| -> Result<Option<u64>> {
            let parse =
                |text: &str| text.parse().with_context(|| format!("`{text}` is no external data {key}"));
            entry(tensor, key)?.map(parse).transpose()
        };
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let size = DataType::try_from(tensor.data_type)
            .ok()
            .and_then(element_size)
            .context("it has an element type that cannot be external; export the model in f32 or f16")?;
        let promised = elements(tensor)?.checked_mul(size).context("its dimensions are impossible")? as u64;
        let path = find(self.folder, location)?;
        if !self.files.contains_key(&path) {
            let bytes = path.metadata().with_context(|| format!("`{location}`"))?.len();
            self.files.insert(path.clone(), Claims { bytes, ranges: BTreeMap::new() });
        }
        let claims = self.files.get_mut(&path).context("the file's claims")?;
        ensure!(
            length.is_none_or(|length| length == promised)
                && offset.checked_add(promised).is_some_and(|end| end <= claims.bytes),
            "it needs {promised} bytes, but the model names {} at offset {offset} of `{location}`, which holds {}; copy \
             that file again",
            length.unwrap_or(promised),
            claims.bytes
        );
        claims.add(offset, offset + promised).with_context(|| format!("in `{location}`"))?;
        Ok(Range { path, offset, length: promised })
    }
}

/// The value of a key of the tensor's external data. ONNX's own reader takes the last of several, others the first.
fn entry<'t>(tensor: &'t TensorProto, key: &str) -> Result<Option<&'t str>> {
    let mut values = tensor.external_data.iter().filter(|e| e.key == key).map(|e| e.value.as_str());
    let value = values.next();
    ensure!(values.next().is_none(), "its external data gives {key} twice; export the model again");
    Ok(value)
}

impl Claims {
    /// Notes that a tensor lies in `begin..end`. Another may lie in the very same place, but not across its edges.
    fn add(&mut self, begin: u64, end: u64) -> Result<()> {
        if let Some((&other, &last)) = self.ranges.range(..end).next_back()
            && last > begin
            && (other, last) != (begin, end)
        {
            bail!(
                "its bytes {begin} to {end} overlap those of another tensor, {other} to {last}; export the model again"
            );
        }
        if end > begin {
            self.ranges.insert(begin, end);
        }
        Ok(())
    }
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

/// The path, without links, of a file of the model's folder, following links only if they stay inside, or lead from a snapshot in the hub's
/// cache to its blobs.
fn find(folder: &Path, location: &str) -> Result<PathBuf> {
    plain(location)?;
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let folder =
        folder.canonicalize().with_context(|| format!("cannot open folder `{}`", folder.display()))?;
    let missing = || format!("cannot open external data `{location}`; put it beside the model");
    let file = folder.join(location).canonicalize().with_context(missing)?;
    ensure!(file.starts_with(&folder) || is_blob(&file, &folder), outside(location));
    ensure!(file.is_file(), "external data `{location}` is not a file; export the model again");
    Ok(file)
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
