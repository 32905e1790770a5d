//! Names of steps, for people.

use std::fmt::Write as _;

use cliptext::kernels::Activation;
use cliptext::plan::{Op, Step};

/// A step in a few words: its layer, what it does, the columns that it reads and writes.
pub(crate) fn describe(step: &Step) -> String {
    let layer = match step.role.layer {
        0 => String::new(),
        layer => layer.to_string(),
    };
    let mut out = format!("{}.{layer:<3} {:<17}", step.role.tower + 1, step.name());
    let reads: Vec<String> = step.reads().map(|place| place.columns.to_string()).collect();
    match (step.op, step.input) {
        (Op::Embed(embed), _) => {
            let _ = write!(out, " {} tokens × {}", embed.vocabulary, step.out.columns);
        }
        (_, Some(input)) if input == step.out => {
            let _ = write!(out, " {}", step.out.columns);
        }
        _ => {
            let _ = write!(out, " {} → {}", reads.join(" + "), step.out.columns);
        }
    }
    match step.op {
        Op::Linear { activation, .. } if activation != Activation::Identity => {
            let _ = write!(out, ", {activation:?}");
        }
        Op::Attention { heads, .. } => {
            let _ = write!(out, ", {heads} heads");
        }
        Op::CachedRow { token } => {
            let _ = write!(out, ", token {token}");
        }
        _ => {}
    }
    out
}
