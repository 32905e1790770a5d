//! What the tests of several crates share: the fixtures of `tests/fixtures` made whole, and a reader of `.npy` files.
//!
//! Everything here panics on failure: a test that cannot find its fixture has failed.

use std::path::{Path, PathBuf};

use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{ModelProto, TensorProto};

mod npy;

pub use npy::Array;

/// The folder of the fixtures that the project itself holds.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

/// The folder of the full fixtures, if the environment variable `CLIPTEXT_FIXTURES` names it.
pub fn full_fixtures() -> Option<PathBuf> {
    std::env::var_os("CLIPTEXT_FIXTURES").map(PathBuf::from)
}

/// A fixture that was made by itself, and goes when it is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty folder.
    pub fn new() -> Self {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("cliptext-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        Scratch(folder)
    }

    /// Writes a file into the folder and says where it is.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a file for the test");
        path
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Names of the exports, without `.onnx`: `sd.*` are of `zoo-sd`, `proj.*` of `zoo-proj`.
pub fn exports() -> Vec<String> {
    let folder = fixtures().join("exports");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let names = entries.filter_map(|entry| {
        let name = entry.expect("a readable folder").file_name().into_string().expect("a plain name");
        name.strip_suffix(".onnx").map(str::to_owned)
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// The export of that name with its token embedding put back.
pub fn export(name: &str) -> ModelProto {
    let mut model = model(&fixtures().join("exports").join(format!("{name}.onnx")));
    let (family, _) = name.split_once('.').expect("a name that begins with its family");
    let table = Array::read(&fixtures().join(format!("zoo-{family}/token_embedding.npy")));
    let dims: Vec<i64> = table.shape.iter().map(|&dim| dim as i64).collect();
    let graph = model.graph.as_mut().expect("a graph");
    let mut filled = 0;
    for tensor in graph.initializer.iter_mut().filter(|tensor| tensor.dims == dims) {
        fill(tensor, table.f32());
        filled += 1;
    }
    assert_eq!(filled, 1, "{name} has one token embedding");
    model
}

fn fill(tensor: &mut TensorProto, values: &[f32]) {
    assert!(tensor.raw_data.is_empty(), "`{}` is empty in the fixture", tensor.name);
    tensor.raw_data = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Ok(DataType::Float16) => values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect(),
        other => panic!("a token embedding of {other:?}"),
    };
}

/// The export of that name as a file in `scratch`.
pub fn export_file(name: &str, scratch: &Scratch) -> PathBuf {
    scratch.write(&format!("{name}.onnx"), &export(name).encode_to_vec())
}

/// Any ONNX file, decoded.
pub fn model(path: &Path) -> ModelProto {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    ModelProto::decode(bytes.as_slice()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A model's goldens for one way of padding: what transformers computed in f32.
#[derive(Debug)]
pub struct Goldens {
    /// One prompt a row.
    pub ids: Vec<Vec<u32>>,
    /// For each prompt, `[tokens, width]`.
    pub last_hidden_state: Vec<Vec<f32>>,
    /// For each prompt, the pooled or projected row.
    pub pooled: Vec<Vec<f32>>,
}

impl Goldens {
    /// Reads `<padding>.*.npy` in a model's `goldens` folder.
    pub fn read(folder: &Path, padding: &str) -> Self {
        let array = |name: &str| Array::read(&folder.join(format!("{padding}.{name}.npy")));
        let rows = |array: &Array| {
            let values = array.f32();
            values.chunks(values.len() / array.shape[0]).map(<[f32]>::to_vec).collect()
        };
        let pooled = ["text_embeds", "pooler_output"]
            .into_iter()
            .find(|name| folder.join(format!("{padding}.{name}.npy")).exists());
        let ids = array("input_ids");
        Goldens {
            ids: ids.u32().chunks(ids.shape[1]).map(<[u32]>::to_vec).collect(),
            last_hidden_state: rows(&array("last_hidden_state")),
            pooled: rows(&array(pooled.expect("goldens of a pooled output"))),
        }
    }
}
