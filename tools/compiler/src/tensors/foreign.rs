//! Files that users give in place of a model, told apart by their first bytes, with what to do about each.

use std::path::Path;

/// The Python program that turns a pickle, its first argument, into safetensors, its second, without running anything that the
/// pickle says. It takes what `torch.save` writes of tensors by name, of checkpoints (`state_dict`) and of A1111's embeddings
/// (`string_to_param`, once a `ParameterDict`), and OpenAI's TorchScript archives.
const PROGRAM: &str = "import sys, zipfile, torch, safetensors.torch as s; p, o = sys.argv[1:]; \
     getattr(torch.serialization, 'add_safe_globals', list)([torch.nn.ParameterDict]); \
     z = zipfile.ZipFile(p).namelist() if zipfile.is_zipfile(p) else []; \
     d = torch.jit.load(p, 'cpu').state_dict() if any(n.endswith('/constants.pkl') for n in z) else \
     torch.load(p, 'cpu', weights_only=True); \
     d = d.get('state_dict', d.get('string_to_param', d)); \
     d = {k: v.detach().contiguous().clone() for k, v in d.items() if torch.is_tensor(v)}; \
     s.save_file(d, o) if d else sys.exit('no tensors in ' + p)";

/// The command that converts the pickle at `path`, and where to.
pub fn conversion(path: &Path) -> String {
    let converted = match path.file_name().and_then(|name| name.to_str()) {
        Some("pytorch_model.bin") => path.with_file_name("model.safetensors"),
        Some("open_clip_pytorch_model.bin") => path.with_file_name("open_clip_model.safetensors"),
        _ => path.with_extension("safetensors"),
    };
    format!("python3 -c \"{PROGRAM}\" {} {}", quoted(path), quoted(&converted))
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// What to do about a pickle.
pub fn convert(path: &Path) -> String {
    format!(
        "reading one can run code; convert it once with Python (pip install torch safetensors numpy): {}",
        conversion(path)
    )
}

/// Says what a file is that is neither safetensors nor ONNX, by its first bytes, and what to do; `None` if it may be one of
/// these.
pub fn identify(bytes: &[u8], path: &Path) -> Option<String> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if bytes.is_empty() {
        return Some("the file is empty; copy or download it again".into());
    }
    // The length of a safetensors header may read as the beginning of something else: 640 is that of a pickle, 80 02.
    if bytes.get(4..9) == Some(b"\0\0\0\0{") {
        return None;
    }
    if starts(b"PK\x03\x04") {
        return Some(format!(
            "a zip, which is how PyTorch saves pickles (.ckpt, .bin, .pt): {}",
            convert(path)
        ));
    }
    // Protocols 2 to 5; what follows the number is an opcode.
    if starts(b"\x80") && bytes.get(1).is_some_and(|protocol| (2..=5).contains(protocol)) {
        return Some(format!("a Python pickle (.ckpt, .bin, .pt): {}", convert(path)));
    }
    if starts(b"GGUF") {
        return Some(
            "a GGUF file, whose weights are quantized in another way already; give the model's safetensors or ONNX file"
                .into(),
        );
    }
    if starts(b"version https://git-lfs") {
        return Some("a Git LFS pointer, not the file itself: run `git lfs pull` in its repository".into());
    }
    if starts(b"cliptext") {
        return Some("a plan, compiled already; give the model that it was made from".into());
    }
    if starts(b"\x89HDF\r\n") {
        return Some("an HDF5 file (TensorFlow's weights); give the model's safetensors or ONNX file".into());
    }
    let text = bytes.trim_ascii_start();
    if text.starts_with(b"<!") || text.starts_with(b"<html") {
        return Some(
            "a web page, not a model: the download went to a page about the file; download the file itself"
                .into(),
        );
    }
    None
}
