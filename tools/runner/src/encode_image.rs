//! `encode-image`: pictures to embeddings.

use std::path::PathBuf;

use clap::Args;

use crate::arguments::RunArgs;
use crate::failure::{Failure, Outcome};
use crate::output::{ArrayFile, Format, FormatArgs, Name};
use crate::pictures;
use crate::plan::{Access, Source};

#[derive(Args)]
pub(crate) struct EncodeImageArgs {
    /// An image encoder's plan: made by `cliptext compile --image`
    plan: PathBuf,
    /// Pictures: PNG, JPEG or WebP
    #[arg(required = true)]
    pictures: Vec<PathBuf>,
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
    let inputs = || std::iter::once(&args.plan).chain(&args.pictures);
    if let Some(same) = inputs().find(|input| cliptext_files::same_file(input, &args.output)) {
        return Err(Failure::Usage(format!("{}: the output is one of the inputs", same.display())));
    }
    let source = Source::open(Some(&args.plan), access)?;
    let plan = source.load_image()?;
    let mut file = ArrayFile::create(&args.output, is_npy, float, Some(args.pictures.len()))?;
    pictures::encode(&plan, &args.pictures, &args.run, |index, row| {
        file.write(&args.pictures[index].display().to_string(), &[row.len()], row)
    })?;
    file.complete()?;
    file.finish()
}
