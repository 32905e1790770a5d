//! `pack`: named prompts to a prompt pack.

use std::path::{Path, PathBuf};

use clap::Args;
use cliptext::pack::{NewEntry, PackManifest, PackWriteError, PackWriter, TEXT};
use cliptext_files::Output;

use super::names::{Named, named};
use crate::arguments::{PadArgs, RunArgs};
use crate::encode::{How, Progress};
use crate::failure::{Failure, Outcome, work};
use crate::output::Dtype;
use crate::plan::{Access, Source};
use crate::prompts::{name_of, shown, warn_of_dropped};
use crate::reading::ReadingArgs;
use crate::setup::kernels;

#[derive(Args)]
pub(crate) struct PackArgs {
    /// The plan
    plan: PathBuf,
    /// The prompts, one a line or a JSON array of strings: a name, a tab and the prompt, or a prompt that is its own name; - is
    /// standard input
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// The pack, a file that ends in .pack
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The type of the numbers; f16 is rounded to the nearest, and takes half the bytes [default: f32]
    #[arg(long, value_name = "TYPE")]
    dtype: Option<Dtype>,
    #[command(flatten)]
    pad: PadArgs,
    #[command(flatten)]
    reading: ReadingArgs,
    #[command(flatten)]
    run: RunArgs,
}

/// Encodes named prompts to a pack.
pub(crate) fn pack(args: &PackArgs, access: Access) -> Outcome {
    check(args)?;
    let mut reading = args.reading.with_padding(&args.pad)?;
    let texts = cliptext_files::prompts::read(&args.prompts);
    let prompts = texts.map_err(|error| error.to_string()).and_then(|texts| named(&texts));
    let prompts = prompts.map_err(|error| work(name_of(&args.prompts), error))?;
    let source = Source::open(Some(&args.plan), access)?;
    let loaded = source.to_encode()?;
    let plan = loaded.program;
    let kernels = kernels(&plan, args.run.kernel.as_deref())?;
    reading.count(&plan, prompts.iter().map(|named| named.prompt.as_str()), None)?;
    let how =
        How { plan: &loaded, kernels, threads: args.run.threads, no_pad: args.pad.no_pad, reading: &reading };
    let options = reading.told(&args.pad).to_string();
    let entries = entries(&how, &prompts, &options)?;
    let source = plan.manifest().source;
    let manifest = PackManifest {
        producer: concat!("cliptext ", env!("CARGO_PKG_VERSION")),
        source: &source[..source.floor_char_boundary(TEXT)],
        plan: *plan.hash().bytes(),
        width: plan.width() as u32,
        pooled: plan.manifest().pooled.map_or(0, |rows| rows.columns),
        dtype: match args.dtype {
            Some(Dtype::F16) => cliptext::pack::Dtype::F16,
            _ => cliptext::pack::Dtype::F32,
        },
    };
    let mut progress = Progress::new("prompts", Some(entries.len()), true);
    let written = write(&args.output, &how, manifest, &entries, &mut progress);
    progress.clear();
    written.map_err(|error| match error {
        Failure::Work(message) => {
            Failure::Work(format!("{message}; {} is not written", args.output.display()))
        }
        other => other,
    })
}

/// Whether the names of files can be obeyed.
fn check(args: &PackArgs) -> Outcome {
    let output = args.output.display();
    if !args.output.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("pack")) {
        return Err(Failure::Usage(format!("{output}: the name of a prompt pack ends in .pack")));
    }
    if [&args.plan, &args.prompts].into_iter().any(|input| cliptext_files::same_file(input, &args.output)) {
        return Err(Failure::Usage(format!("{output}: it is read, and the output too: name another")));
    }
    Ok(())
}

/// What the pack will hold: all is known before anything is encoded. What does not fit is told.
fn entries<'e>(how: &How<'_>, prompts: &'e [Named], options: &'e str) -> Outcome<Vec<NewEntry<'e>>> {
    let entry = |Named { name, prompt }: &'e Named| {
        if let Some(note) = how.reading.note(prompt) {
            cliptext_files::to_stderr!("{note}");
        }
        let (tokens, dropped) = how.extent(prompt)?;
        warn_of_dropped(prompt, dropped, tokens);
        let dropped = dropped.map(|(from, to)| from..to);
        Ok(NewEntry { name, prompt, options, tokens: tokens as u32, dropped })
    };
    prompts.iter().map(entry).collect()
}

/// Encodes the entries one by one to the pack.
fn write(
    path: &Path,
    how: &How<'_>,
    manifest: PackManifest<'_>,
    entries: &[NewEntry<'_>],
    progress: &mut Progress,
) -> Outcome {
    let failed = |error: &dyn std::fmt::Display| work(path.display(), error);
    let output = Output::create(path).map_err(|error| failed(&error))?;
    if !output.is_regular() {
        return Err(failed(&"a pipe or a device, and a pack's beginning is written last: name a file"));
    }
    let mut writer = PackWriter::new(output, manifest, entries).map_err(|error| failed(&error))?;
    how.with_engine(false, |engine| {
        for entry in entries {
            engine.encode(&[entry.prompt], &mut |all| {
                for encoded in all {
                    writer.write(encoded.ids, encoded.hidden, encoded.pooled).map_err(
                        |error| match error {
                            PackWriteError::NoHalf { .. } => {
                                failed(&format_args!("{}: {error} (--dtype f32)", shown(entry.prompt)))
                            }
                            error => failed(&error),
                        },
                    )?;
                }
                Ok(())
            })?;
            progress.step();
        }
        Ok(())
    })?;
    writer.finish().map_err(|error| failed(&error))?.finish().map_err(|error| failed(&error))
}
