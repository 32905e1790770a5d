//! What the runtime's tests share.
#![allow(dead_code)] // each test takes what it needs

pub mod parts;

use std::io::Cursor;
use std::path::PathBuf;

use cliptext::pack::{Dtype, NewEntry, PackManifest, PackWriter};
use cliptext::plan::format::crc32c;
use cliptext::threads::Solo;
use cliptext::{AlignedBytes, Encoder, Kernels, Plan, PlanFile};

/// A plan of one text tower, 32 columns, with the whole vocabulary.
pub fn one_tower() -> PlanFile {
    open("tests/fixtures/one-tower.plan")
}

/// A plan of two text towers, 16 and 24 columns, as Stable Diffusion XL has two; 600 ids, the end token is 599.
pub fn two_towers() -> PlanFile {
    open("tests/fixtures/two-towers.plan")
}

/// A plan of two text towers, 16 and 24 columns, whose rows stay in the arena from one text to the next, with the same 600 ids.
pub fn typing() -> PlanFile {
    open("tests/fixtures/typing.plan")
}

/// A plan of 248 tokens and 16 columns, with the same 600 ids.
pub fn long() -> PlanFile {
    open("tests/fixtures/long.plan")
}

/// A plan of an image encoder of 17 rows and 32 columns, packed for `target`.
pub fn image(target: &str) -> PlanFile {
    open(&format!("tests/fixtures/image-{target}.plan"))
}

fn open(name: &str) -> PlanFile {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
    PlanFile::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The kernels of this CPU that read the plan's weights.
pub fn kernels_for(plan: &Plan<'_>) -> impl Iterator<Item = Kernels> {
    let packing = plan.manifest().packing;
    Kernels::available().filter(move |kernels| kernels.reads(packing))
}

/// A pack of one entry, `dog`, in half precision.
pub fn pack(file: &PlanFile) -> AlignedBytes {
    let plan = Plan::load(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
    let embedding = encoder.encode("a running dog");
    let manifest = PackManifest {
        producer: "a test",
        source: plan.manifest().source,
        plan: *plan.hash().bytes(),
        width: plan.width() as u32,
        pooled: plan.manifest().pooled.map_or(0, |place| place.columns),
        dtype: Dtype::F16,
    };
    let tokens = plan.context() as u32;
    let entry = NewEntry { name: "dog", prompt: "a running dog", options: "", tokens, dropped: None };
    let mut writer = PackWriter::new(Cursor::new(vec![]), manifest, &[entry]).unwrap();
    writer.write(embedding.ids(), embedding.hidden(), embedding.pooled()).unwrap();
    AlignedBytes::copy_of(writer.finish().unwrap().get_ref())
}

/// A hash of values by their bits.
pub fn hash(values: &[f32]) -> u32 {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    crc32c(&bytes)
}

/// Without its padding a prompt gives the first rows, bit for bit, and the same pooled row.
pub fn unpadded_rows_are_the_first_of_the_padded(file: &PlanFile) {
    let plan = Plan::load(file.bytes()).unwrap();
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    for kernels in kernels_for(&plan) {
        let (mut one, mut other) =
            (AlignedBytes::zeroed(plan.arena_bytes(1)), AlignedBytes::zeroed(plan.arena_bytes(1)));
        let mut padded = Encoder::with(&plan, &mut one, kernels, Solo).unwrap();
        let mut unpadded = Encoder::with(&plan, &mut other, kernels, Solo).unwrap();
        for prompt in PROMPTS {
            let (whole, part) = (padded.encode(prompt), unpadded.encode_unpadded(prompt));
            assert_eq!(part.hidden().len(), part.tokens() * part.width());
            assert_eq!(part.ids(), &whole.ids()[..part.tokens()]);
            assert_eq!(bits(part.hidden()), bits(&whole.hidden()[..part.hidden().len()]), "{prompt:?}");
            assert_eq!(bits(part.pooled().unwrap()), bits(whole.pooled().unwrap()), "{prompt:?}");
        }
    }
}

pub const PROMPTS: [&str; 6] = [
    "",
    "a running dog",
    "Watercolor painting: a fox, in the forest!!",
    "naïve café in Zürich, 東京 tower at dusk 🌆",
    "literal <|endoftext|> inside",
    "masterpiece, masterpiece, masterpiece, masterpiece, masterpiece, masterpiece, masterpiece, masterpiece, \
     masterpiece, masterpiece, masterpiece, masterpiece, masterpiece, masterpiece, masterpiece, masterpiece, \
     masterpiece, masterpiece, masterpiece, masterpiece, masterpiece, masterpiece, masterpiece, masterpiece, \
     masterpiece, masterpiece, masterpiece, masterpiece, masterpiece, masterpiece, masterpiece, masterpiece, \
     masterpiece, masterpiece, masterpiece, masterpiece, masterpiece, masterpiece, masterpiece, masterpiece",
];
