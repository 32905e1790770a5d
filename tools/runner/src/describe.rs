//! Names of steps, for people.

use std::fmt::Write as _;

use cliptext::kernels::Activation;
use cliptext::plan::{Op, Step};

/// A step in a few words: its tower and layer, and its kind.
pub(crate) fn describe(step: &Step) -> String {
    let layer = match step.role.layer {
        0 => String::new(),
        layer => layer.to_string(),
    };
    format!("{}.{layer:<3} {}", step.role.tower + 1, what(step))
}

/// The kind of a step, which is the same in every layer: its tower, and what it does.
pub(crate) fn kind(step: &Step) -> String {
    format!("{}.    {}", step.role.tower + 1, what(step))
}

/// What belongs together, in the order in which each first came.
pub(crate) fn grouped<T>(all: impl IntoIterator<Item = (String, T)>) -> Vec<(String, Vec<T>)> {
    let mut groups: Vec<(String, Vec<T>)> = Vec::new();
    for (name, one) in all {
        match groups.iter_mut().find(|group| group.0 == name) {
            Some(group) => group.1.push(one),
            None => groups.push((name, vec![one])),
        }
    }
    groups
}

/// What a step does, and the columns that it reads and writes.
fn what(step: &Step) -> String {
    let mut out = format!("{:<17}", step.name());
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
