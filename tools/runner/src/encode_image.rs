//! `encode-image`: pictures to embeddings.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::arguments::RunArgs;
use crate::failure::{Failure, Outcome, work};
use crate::output::{ArrayFile, Format, FormatArgs, Name};
use crate::pictures;
use crate::plan::{Access, Source};

#[derive(Args)]
pub(crate) struct EncodeImageArgs {
    /// An image encoder's plan, made by `cliptext compile --image` (without it, the built-in plan is used), then pictures: PNG, JPEG or WebP
    #[arg(required = true, value_names = ["PLAN", "PICTURE"], num_args = 1..)]
    files: Vec<PathBuf>,
    /// Write the embeddings to FILE: .npy [pictures, columns], .f32 or .f16 (the same values raw). - is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    formats: FormatArgs,
    #[command(flatten)]
    run: RunArgs,
}

/// Encodes and writes.
pub(crate) fn encode_image(args: &EncodeImageArgs, access: Access) -> Outcome {
    let name = Name::parse(&args.output)?;
    let (is_npy, float) = match (&name, &args.formats.formats(&[&name])?[..]) {
        (Name::One(_), [Format::Npy(float)]) => (true, *float),
        (Name::One(_), [Format::Raw(float)]) => (false, *float),
        _ => {
            return Err(Failure::Usage(format!(
                "{}: embeddings of pictures are one array: name an .npy, .f32 or .f16",
                name.shown()
            )));
        }
    };
    if let Some(same) = args.files.iter().find(|input| cliptext_files::same_file(input, &args.output)) {
        return Err(Failure::Usage(format!("{}: the output is one of the inputs", same.display())));
    }
    let (plan, pictures) = plan_and_pictures(&args.files)?;
    let source = Source::open(plan, access)?;
    let plan = source.load_image()?;
    let mut file = ArrayFile::create(&args.output, is_npy, float, Some(pictures.len()))?;
    pictures::encode(&plan, pictures, &args.run, |index, row| {
        file.write(&pictures[index].display().to_string(), &[row.len()], row)
    })?;
    file.complete()?;
    file.finish()
}

/// The plan, where the first file is no picture, and the pictures.
fn plan_and_pictures(files: &[PathBuf]) -> Outcome<(Option<&Path>, &[PathBuf])> {
    match files {
        [first, ..]
            if cliptext_pictures::is_picture(first).map_err(|error| work(first.display(), error))? =>
        {
            Ok((None, files))
        }
        [plan] => Err(Failure::Usage(format!("{}: no picture follows, and it is none", plan.display()))),
        [plan, pictures @ ..] => Ok((Some(plan), pictures)),
        [] => Ok((None, files)),
    }
}
