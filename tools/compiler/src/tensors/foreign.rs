//! Files that users give in place of a model, told apart by their first bytes, with what to do about each.

/// How to turn a pickle into a file that can be read without running it.
pub const CONVERT: &str = "convert it once with Python: `from safetensors.torch import save_file; import torch; \
     d = torch.load(FILE, weights_only=True); d = d.get('state_dict', d); \
     save_file({k: v.contiguous() for k, v in d.items() if torch.is_tensor(v)}, 'model.safetensors')`";

/// Says what a file is that is neither safetensors nor ONNX, and what to do; `None` if it may be one of these.
pub fn identify(bytes: &[u8]) -> Option<String> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if bytes.is_empty() {
        return Some("the file is empty; copy or download it again".into());
    }
    if starts(b"PK\x03\x04") {
        return Some(format!(
            "a zip, which is how PyTorch saves pickles (.ckpt, .bin, .pt): reading one can run code; {CONVERT}"
        ));
    }
    // Protocols 2 to 5; what follows the number is an opcode.
    if starts(b"\x80") && bytes.get(1).is_some_and(|protocol| (2..=5).contains(protocol)) {
        return Some(format!("a Python pickle (.ckpt, .bin, .pt): reading one can run code; {CONVERT}"));
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
