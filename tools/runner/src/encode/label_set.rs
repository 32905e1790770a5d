//! A label set instead of prompts: a row for each label.

use std::path::{Path, PathBuf};

use cliptext::AlignedBytes;

use super::arguments::EncodeArgs;
use super::progress::Progress;
use crate::failure::{Failure, Outcome};
use crate::output::{About, Encoded, Outputs, Target};
use crate::packed::{self, Packed, projected_columns};
use crate::plan::{Access, Source};
use crate::reading::Reading;
use crate::setup::{kernels, team};

/// Encodes the label set in the file `labels` to `targets`.
pub(super) fn label_set(args: &EncodeArgs, labels: &Path, targets: Vec<Target>, access: Access) -> Outcome {
    if targets.is_empty() {
        return Err(Failure::Usage("--labels: give -o FILE.npy for the rows".into()));
    }
    let path = args.prompts.plan("--labels")?;
    if path.as_deref().is_some_and(cliptext_files::is_stdin) && cliptext_files::is_stdin(labels) {
        return Err(Failure::Usage("standard input can't give both the plan and the labels".into()));
    }
    let inputs: Vec<PathBuf> = [path.as_deref(), Some(labels), args.labels.templates.as_deref()]
        .into_iter()
        .flatten()
        .filter(|path| !cliptext_files::is_stdin(path))
        .map(Path::to_owned)
        .collect();
    let source = Source::open(path.as_deref(), access)?;
    let plan = source.load()?;
    projected_columns(&plan, "--labels")?;
    let kernels = kernels(&plan, args.run.kernel.as_deref())?;
    let set = args.labels.read(labels)?;
    let about = About { plan: plan.hash(), options: args.told(&Reading::plain()) };
    let mut outputs = Outputs::create(targets, about, args.order(), inputs, Some(set.len()))?;
    let mut memory = AlignedBytes::zeroed(packed::arena_bytes(&plan));
    let team = team(args.run.threads.map(usize::from))?;
    let mut packed = Packed::new(&plan, &mut memory, kernels, &team)?;
    let mut progress = Progress::new("labels", Some(set.len()), true);
    let mut write = |label: &str, row: &[f32]| {
        let none = Encoded {
            text: label,
            is_negative: false,
            ids: &[],
            hidden: &[],
            width: 1,
            pooled: None,
            dropped: None,
        };
        progress.step();
        outputs.write(&Encoded { pooled: Some(row), ..none }, None)
    };
    let done = packed.each(set.texts(), set.rows(&plan, &mut write));
    progress.clear();
    done.and_then(|()| outputs.finish(None)).map_err(|failure| outputs.missing(failure))
}
