//! One model gives one plan, whichever file it came in.

use std::path::Path;

use cliptext_compiler::backend::emit::Precision;
use cliptext_compiler::compile::Job;
use cliptext_synthetic::{Activation, Options, generate};
use cliptext_test_support::{Scratch, export_file, exports};

use super::common::*;

fn zoo(family: &str) -> Options {
    let sizes = Options { width: 16, layers: 2, heads: 2, mlp: 64, ..Options::default() };
    match family {
        "sd" => Options { seed: 13, ..sizes },
        _ => Options { seed: 14, activation: Activation::Gelu, projection: Some(8), ..sizes },
    }
}

#[test]
fn an_export_and_its_safetensors_give_the_same_plan() {
    let scratch = Scratch::new();
    let mut different = Vec::new();
    for family in ["sd", "proj"] {
        let folder = write_component(&scratch.path().join(family), &generate(&zoo(family)));
        let plan = |model: &Path, precision| {
            compiled(&Job { vocabulary: None, precision, ..job(model, &scratch) }).bytes().to_vec()
        };
        let [int8, f32] = [Precision::Int8, Precision::F32].map(|precision| plan(&folder, precision));
        let mut names = exports();
        // The weights of the other are other numbers.
        names.retain(|name| name.starts_with(&format!("{family}.")) && !name.contains("fp16"));
        assert!(names.len() >= 6);
        for (index, name) in names.iter().enumerate() {
            let file = export_file(name, &scratch);
            // Where every f32 weight is the same, so is what is made of it.
            let same =
                plan(&file, Precision::F32) == f32 && (index > 0 || plan(&file, Precision::Int8) == int8);
            if !same {
                different.push(name.clone());
            }
        }
    }
    assert!(different.is_empty(), "{different:#?}");
}
