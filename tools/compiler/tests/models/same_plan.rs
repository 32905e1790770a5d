//! One model gives one plan, whichever file it came in.

use cliptext_compiler::compile::Job;
use cliptext_compiler::emit::Precision;
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
        for precision in [Precision::Int8, Precision::F32] {
            let plan = |model: &std::path::Path| {
                compiled(&Job { vocabulary: None, precision, ..job(model, &scratch) }).bytes().to_vec()
            };
            let expected = plan(&folder);
            for name in exports().iter().filter(|name| name.starts_with(&format!("{family}."))) {
                // Its weights are other numbers.
                if name.contains("fp16") {
                    continue;
                }
                let file = export_file(name, &scratch);
                if plan(&file) != expected {
                    different.push(format!("{name} {precision:?}"));
                }
            }
        }
    }
    assert!(different.is_empty(), "{different:#?}");
}
