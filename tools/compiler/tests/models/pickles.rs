//! The command that is printed for a pickle, run for real where Python has torch.

use std::path::{Path, PathBuf};
use std::process::Command;

use cliptext_compiler::tensors::Tensors;
use cliptext_test_support::Scratch;

use super::common::*;

/// What people have, as the programs that wrote it do: its name, and what makes it of the tensor `t`.
const PICKLES: [(&str, &str); 7] = [
    ("pytorch_model.bin", "torch.save({'a.weight': t, 'b': t.half()[:, :2], 'epoch': 3}, f)"),
    ("sd v1.ckpt", "torch.save({'epoch': 1, 'state_dict': {'a.weight': t}}, f)"),
    ("legacy.ckpt", "torch.save({'a.weight': t}, f, _use_new_zipfile_serialization=False)"),
    (
        "a1111.pt",
        "torch.save({'string_to_token': {'*': 265}, 'string_to_param': {'*': torch.nn.Parameter(t)}, 'name': 'art', 'step': 9}, f)",
    ),
    (
        "original.pt",
        "torch.save({'string_to_token': {'*': torch.tensor(265)}, \
         'string_to_param': torch.nn.ParameterDict({'*': torch.nn.Parameter(t)})}, f)",
    ),
    ("learned_embeds.bin", "torch.save({'<cat-toy>': t}, f)"),
    (
        "ViT-L-14.pt",
        "torch.jit.trace_module(type('M', (torch.nn.Module,), {'__init__': lambda s: (torch.nn.Module.__init__(s), \
         setattr(s, 'w', torch.nn.Parameter(t)))[0], 'forward': lambda s, x: x @ s.w})(), \
         {'forward': torch.ones(2, 3)}).save(f)",
    ),
];

/// Python with torch and safetensors: `CLIPTEXT_PYTHON`, else `python3`; `None` where it has not both.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("CLIPTEXT_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let found = Command::new(&python).args(["-c", "import torch, safetensors.torch, numpy"]).output();
    found.is_ok_and(|output| output.status.success()).then_some(python)
}

/// The command in an error, as a shell in `folder` runs it.
fn run_printed(error: &str, python: &Path, folder: &Path) -> std::process::Output {
    let command = &error[error.find("python3 -c").expect("a command")..];
    let command = command.replacen("python3", &format!("'{}'", python.display()), 1);
    Command::new("sh").args(["-c", command.trim_end()]).current_dir(folder).output().unwrap()
}

#[test]
fn printed_commands_convert_what_they_are_printed_for() {
    let Some(python) = python() else {
        eprintln!("skipped: no python3 with torch, safetensors and numpy (CLIPTEXT_PYTHON names one)");
        return;
    };
    let scratch = Scratch::new();
    let folder = scratch.path().join("it's here");
    std::fs::create_dir(&folder).unwrap();
    let made: Vec<String> = PICKLES.iter().map(|(name, code)| format!("f = {name:?}; {code}")).collect();
    let script = format!(
        "import torch\nt = torch.arange(12.0).reshape(3, 4)\n{}\ntorch.save({{'x': 1}}, 'nothing.pt')\n",
        made.join("\n")
    );
    let done = Command::new(&python).args(["-c", &script]).current_dir(&folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    for (name, _) in PICKLES {
        let error = refused(&job(&folder.join(name), &scratch));
        let done = run_printed(&error, &python, &folder);
        assert!(done.status.success(), "{name}: {error}: {}", String::from_utf8_lossy(&done.stderr));
        let converted = match name {
            "pytorch_model.bin" => folder.join("model.safetensors"),
            _ => folder.join(name).with_extension("safetensors"),
        };
        let tensors = Tensors::open(&converted).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let first = tensors.names().next().expect("a tensor").to_owned();
        let expected: Vec<f32> = (0..12).map(|value| value as f32).collect();
        assert_eq!(tensors.floats(&first).unwrap(), expected, "{name}");
    }
    // The folder's message names the same file.
    let model = scratch.path().join("model");
    std::fs::create_dir(&model).unwrap();
    std::fs::rename(folder.join("pytorch_model.bin"), model.join("pytorch_model.bin")).unwrap();
    assert!(run_printed(&refused(&job(&model, &scratch)), &python, &model).status.success());
    assert!(model.join("model.safetensors").is_file());
    // Nothing to convert is an error, and writes nothing.
    let done = run_printed(&refused(&job(&folder.join("nothing.pt"), &scratch)), &python, &folder);
    assert!(!done.status.success() && String::from_utf8_lossy(&done.stderr).contains("no tensors in"));
    assert!(!folder.join("nothing.safetensors").exists());
}
