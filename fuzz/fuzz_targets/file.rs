//! What the compiler's targets share: an input as files in a folder of its own, and the small model that they change.

use std::path::{Path, PathBuf};

use cliptext_compiler::compile::load::Spec;
use cliptext_compiler::edit::Edits;
use cliptext_compiler::ir::TextModel;
use cliptext_compiler::preset::Choice;
use cliptext_compiler::progress::Progress;

/// The parts of an input, which a byte divides that no UTF-8 has; behind the last they are empty.
pub fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut parts = data.splitn(N, |&byte| byte == 0xff);
    [(); N].map(|()| parts.next().unwrap_or_default())
}

/// A folder that goes when the fuzzer ends.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).expect("a file in it");
        path
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A safetensors file of that header, with so many bytes behind it.
pub fn safetensors(header: &[u8], data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header);
    file.extend((0..data).map(|at| (at % 61) as u8));
    file
}

/// A model and what is asked of it.
pub fn spec(path: PathBuf) -> Spec {
    Spec { path, name: "fuzz".into(), tower: None, choice: Choice::default(), edits: Edits::default() }
}

/// The text tower of a small CLIP.
#[allow(dead_code)] // not every target changes one
pub fn small_model() -> TextModel {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/images/clip");
    let mut loaded = spec(path).load(&Progress::new(true)).expect("a small CLIP");
    loaded.towers.remove(0).model
}
