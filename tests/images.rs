//! Plans that encode images.

mod common;

use cliptext::plan::format::{Header, Kind, Section};
use cliptext::plan::{Format, Grid, ImageManifest, Mask, Op, Part, Place, Role, Step};
use cliptext::threads::{Solo, Threads};
use cliptext::{
    AlignedBytes, Encoder, EncoderError, ImageEncoder, ImagePlan, Kernels, LoadError, MAX_SEQUENCES,
    PassError, Plan, PlanFile, Sink,
};
use common::parts::{put_together_as, records};
use common::{hash, image, one_tower};

/// The hash of the hidden states and embeddings of [`pixels`]' images, whatever the machine and the packing.
const GOLDEN: u32 = 0xa75a_887a;

/// Packings of the same plan.
const TARGETS: [&str; 3] = ["generic", "neon", "i8mm"];

/// Three images of the plans' size.
fn pixels() -> Vec<Vec<u8>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/images/pixels.rgb");
    std::fs::read(path).unwrap().chunks_exact(16 * 16 * 3).map(<[u8]>::to_vec).collect()
}

fn kernels_for(plan: &ImagePlan<'_>) -> impl Iterator<Item = Kernels> {
    let packing = plan.manifest().packing;
    Kernels::available().filter(move |kernels| kernels.reads(packing))
}

#[test]
fn the_plan_tells_what_it_takes() {
    let file = image("generic");
    let plan = ImagePlan::load(file.bytes()).unwrap();
    let grid = plan.grid();
    assert_eq!(grid, Grid { side: 16, patch: 4 });
    assert_eq!((grid.tokens(), grid.bytes(), grid.columns()), (17, 768, 48));
    assert_eq!(
        (plan.width(), plan.is_projected(), plan.manifest().logit_scale.map(f32::round)),
        (32, true, Some(50.0))
    );
    let masks = plan.steps().filter_map(|step| match step.op {
        Op::Attention { mask, .. } => Some(mask),
        _ => None,
    });
    assert!(masks.eq([Mask::None; 2]));
}

#[test]
fn every_kernel_team_and_packing_gives_the_golden_bits() {
    for target in TARGETS {
        let file = image(target);
        let plan = ImagePlan::load(file.bytes()).unwrap();
        for kernels in kernels_for(&plan) {
            for threads in [1, 2, 4] {
                let team = Threads::start(threads).unwrap();
                let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
                arena.fill(0xa5);
                let mut encoder = ImageEncoder::with(&plan, &mut arena, kernels, &team).unwrap();
                let mut hashes = Vec::new();
                for image in pixels() {
                    let found = encoder.encode(&image).unwrap();
                    hashes.extend([hash(found.hidden()), hash(found.pooled().unwrap())]);
                }
                let all: Vec<u8> = hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect();
                let found = cliptext::plan::format::crc32c(&all);
                assert_eq!(found, GOLDEN, "{target}, {}, {threads} threads: {found:#x}", kernels.name());
            }
        }
    }
}

/// Keeps what a pass gives.
#[derive(Default)]
struct Kept {
    hidden: Vec<(usize, Vec<f32>)>,
    pooled: Vec<(usize, Vec<f32>)>,
}

impl Sink for Kept {
    fn hidden(&mut self, sequence: usize, rows: &[f32]) {
        self.hidden.push((sequence, rows.to_vec()));
    }
    fn pooled(&mut self, sequence: usize, row: &[f32]) {
        self.pooled.push((sequence, row.to_vec()));
    }
}

#[test]
fn images_in_one_pass_give_what_each_gives_alone() {
    let images = pixels();
    let file = image("generic");
    let plan = ImagePlan::load(file.bytes()).unwrap();
    let mut alone = Vec::new();
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(MAX_SEQUENCES));
    for kernels in kernels_for(&plan) {
        let mut encoder = ImageEncoder::with(&plan, &mut arena, kernels, Solo).unwrap();
        alone = images
            .iter()
            .map(|image| {
                let found = encoder.encode(image).unwrap();
                (found.hidden().to_vec(), found.pooled().unwrap().to_vec())
            })
            .collect();
        for count in [1, 2, 3, MAX_SEQUENCES] {
            let given: Vec<&[u8]> = (0..count).map(|index| &images[index % 3][..]).collect();
            let mut kept = Kept::default();
            encoder.pass(&given, &mut kept).unwrap();
            for (index, ((number, hidden), (_, pooled))) in kept.hidden.iter().zip(&kept.pooled).enumerate() {
                assert_eq!((*number, hidden, pooled), (index, &alone[index % 3].0, &alone[index % 3].1));
            }
            assert_eq!(kept.hidden.len(), count);
        }
    }
    assert_ne!(alone[0], alone[1]);
}

#[test]
fn images_of_another_size_and_arenas_that_are_too_small_are_refused() {
    let images = pixels();
    let file = image("generic");
    let plan = ImagePlan::load(file.bytes()).unwrap();
    let needed = plan.arena_bytes(1);
    let mut arena = AlignedBytes::zeroed(needed);
    assert_eq!(
        ImageEncoder::new(&plan, &mut arena[..needed - 64]).err(),
        Some(EncoderError::ArenaTooSmall { needed, given: needed - 64 })
    );
    let mut encoder = ImageEncoder::new(&plan, &mut arena).unwrap();
    for bytes in [0, 767, 769] {
        let error = encoder.encode(&vec![0; bytes]).err();
        assert_eq!(error, Some(PassError::Pixels { given: bytes, needed: 768 }));
    }
    assert_eq!(encoder.pass(&[], &mut ()), Err(PassError::Inputs { given: 0 }));
    let many = [&images[0][..]; MAX_SEQUENCES + 1];
    assert_eq!(encoder.pass(&many, &mut ()), Err(PassError::Inputs { given: MAX_SEQUENCES + 1 }));
    let error = encoder.pass(&[&images[0], &images[1]], &mut ());
    let needed = plan.arena_bytes(2);
    assert_eq!(
        error,
        Err(PassError::Arena(EncoderError::ArenaTooSmall { needed, given: plan.arena_bytes(1) }))
    );
}

#[test]
fn each_kind_of_plan_is_refused_where_the_other_is_wanted() {
    let (text, image) = (one_tower(), image("generic"));
    assert_eq!(Plan::load(image.bytes()).err(), Some(LoadError::EncodesImages));
    assert_eq!(ImagePlan::load(text.bytes()).err(), Some(LoadError::EncodesTexts));
    assert_eq!(Header::read(image.bytes()).map(|header| header.kind()), Ok(Kind::Image));
    for end in 0..256 {
        assert!(ImagePlan::load(&AlignedBytes::copy_of(&image.bytes()[..end])).is_err());
    }
}

#[test]
fn one_file_may_hold_both_plans() {
    let (text, image) = (one_tower(), image("generic"));
    let both = AlignedBytes::copy_of(&[text.bytes(), image.bytes()].concat());
    let plan = Plan::load(&both).unwrap();
    assert_eq!(plan.hash(), Plan::load(text.bytes()).unwrap().hash());
    let image_plan = ImagePlan::load(&both).unwrap();
    assert_eq!(image_plan.hash(), ImagePlan::load(image.bytes()).unwrap().hash());
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1).max(image_plan.arena_bytes(1)));
    assert!(Encoder::new(&plan, &mut arena).unwrap().encode("a running dog").pooled().is_some());
    assert!(ImageEncoder::new(&image_plan, &mut arena).unwrap().encode(&pixels()[0]).is_ok());
    // In this order only, one of each, and nothing between or behind.
    let load = |parts: &[&[u8]]| {
        let bytes = AlignedBytes::copy_of(&parts.concat());
        (Plan::load(&bytes).map(drop), ImagePlan::load(&bytes).map(drop))
    };
    let (text, image) = (text.bytes(), image.bytes());
    assert_eq!(load(&[image, text]), (Err(LoadError::EncodesImages), Err(LoadError::TooLong)));
    assert_eq!(load(&[text, text]), (Err(LoadError::TooLong), Err(LoadError::EncodesTexts)));
    assert_eq!(load(&[text, image, image]), (Ok(()), Err(LoadError::TooLong)));
    assert_eq!(load(&[text, &[0; 64], image]), (Err(LoadError::TooLong), Err(LoadError::EncodesTexts)));
    assert_eq!(load(&[text, &image[..image.len() - 1]]), (Ok(()), Err(LoadError::Truncated)));
}

/// An image plan in parts.
#[derive(Clone)]
struct Parts<'p> {
    manifest: ImageManifest<'p>,
    steps: Vec<Step>,
    constants: Vec<u8>,
}

impl<'p> Parts<'p> {
    fn of(file: &'p PlanFile) -> Self {
        let plan = ImagePlan::load(file.bytes()).unwrap();
        let Grid { side, patch } = plan.grid();
        let manifest = ImageManifest { plan: *plan.manifest(), side, patch };
        let (offset, length) = Header::read(file.bytes()).unwrap().place(Section::Constants);
        let constants = file.bytes()[offset as usize..][..length as usize].to_vec();
        Self { manifest, steps: plan.steps().collect(), constants }
    }

    fn load(&self) -> Result<(), LoadError> {
        let manifest = self.manifest.section().unwrap();
        let bytes = put_together_as(Kind::Image, &manifest, &records(&self.steps), &[], &self.constants);
        let bytes = AlignedBytes::copy_of(&bytes);
        // What loads runs, whatever it computes.
        let plan = ImagePlan::load(&bytes)?;
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(2));
        let image = vec![200; plan.grid().bytes()];
        for kernels in kernels_for(&plan) {
            let mut encoder = ImageEncoder::with(&plan, &mut arena, kernels, Solo).unwrap();
            encoder.pass(&[&image, &image], &mut ()).unwrap();
        }
        Ok(())
    }
}

#[test]
fn steps_and_manifests_that_contradict_each_other_are_refused() {
    let file = image("generic");
    let whole = Parts::of(&file);
    assert_eq!(whole.load(), Ok(()));
    let first = |kind: fn(Op) -> bool| whole.steps.iter().position(|step| kind(step.op)).unwrap();
    let patches = first(|op| matches!(op, Op::Patches(_)));
    let positions = first(|op| matches!(op, Op::Positions));
    let step = |index: usize, change: &dyn Fn(&mut Step)| {
        let mut parts = whole.clone();
        change(&mut parts.steps[index]);
        parts.load()
    };
    let manifest = |change: &dyn Fn(&mut ImageManifest<'_>)| {
        let mut parts = whole.clone();
        change(&mut parts.manifest);
        parts.load()
    };
    for grid in
        [(0, 4), (16, 0), (16, 5), (12, 4), (20, 4), (16, 16), (16, 17), (u16::MAX, 1), (u16::MAX, u16::MAX)]
    {
        let changed = manifest(&|manifest| (manifest.side, manifest.patch) = grid);
        assert_eq!(changed, Err(LoadError::Grid), "{grid:?}");
    }
    assert_eq!(manifest(&|manifest| manifest.plan.context = 18), Err(LoadError::Grid));
    // Another grid of as many patches, in the manifest alone and in the step alone.
    assert!(matches!(
        manifest(&|manifest| (manifest.side, manifest.patch) = (8, 2)),
        Err(LoadError::Step { .. })
    ));
    let smaller = Grid { side: 8, patch: 2 };
    let refused =
        |result: Result<(), LoadError>| assert!(matches!(result, Err(LoadError::Step { .. })), "{result:?}");
    refused(step(patches, &|step| step.op = Op::Patches(smaller)));
    refused(step(patches, &|step| step.out.rows = 16));
    refused(step(patches, &|step| step.out.columns = 47));
    refused(step(patches, &|step| step.out.format = Format::F32));
    refused(step(patches, &|step| step.op = Op::Positions));
    refused(step(patches, &|step| step.input = Some(whole.steps[patches].out)));
    refused(step(positions, &|step| step.out.rows = 18));
    refused(step(positions, &|step| step.op = Op::Patches(whole_grid())));
    refused(step(positions, &|step| step.out = Place { offset: !63, ..step.out }));
    refused(step(positions, &|step| step.role = Role { part: Part::Mlp, ..step.role }));
    // Nothing of a text's.
    refused(step(positions, &|step| step.op = Op::CachedRow { token: 0 }));
    let text = one_tower();
    let plan = Plan::load(text.bytes()).unwrap();
    let embed = plan.steps().next().unwrap();
    refused(step(patches, &|step| *step = embed));
    // And nothing of an image's in a text's plan.
    let mut parts = common::parts::Parts::of(&text);
    parts.steps[0].op = Op::Positions;
    assert!(matches!(
        Plan::load(&AlignedBytes::copy_of(&parts.bytes())),
        Err(LoadError::Step { index: 0, .. })
    ));
    // A vocabulary, which nothing reads.
    let bytes = put_together_as(
        Kind::Image,
        &whole.manifest.section().unwrap(),
        &records(&whole.steps),
        &[0; 64],
        &whole.constants,
    );
    assert_eq!(ImagePlan::load(&AlignedBytes::copy_of(&bytes)).err(), Some(LoadError::Header));
    assert!(Encoder::new(&plan, &mut AlignedBytes::zeroed(plan.arena_bytes(1))).is_ok());
}

fn whole_grid() -> Grid {
    Grid { side: 16, patch: 4 }
}

/// Single words of the steps and the manifest, changed: refused, or run within bounds.
#[test]
fn damaged_plans_with_fitting_checksums_are_refused_or_run() {
    let file = image("generic");
    let whole = Parts::of(&file);
    let words = records(&whole.steps);
    let manifest = whole.manifest.section().unwrap();
    let mut state = 7u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let (mut refused, mut run) = (0, 0);
    for _ in 0..if cfg!(miri) { 20 } else { 3000 } {
        let (mut words, mut manifest) = (words.clone(), manifest.to_vec());
        match random(8) {
            0 => {
                let at = random(manifest.len());
                manifest[at] ^= 1 << random(8);
            }
            _ => {
                let at = random(words.len());
                words[at] = [0, 1, 0xff, words[at] ^ 1 << random(8), random(256) as u8][random(5)];
            }
        }
        let bytes =
            AlignedBytes::copy_of(&put_together_as(Kind::Image, &manifest, &words, &[], &whole.constants));
        let Ok(plan) = ImagePlan::load(&bytes) else {
            refused += 1;
            continue;
        };
        // An arena that a changed manifest asks for may be large.
        if plan.arena_bytes(1) > 1 << 24 {
            continue;
        }
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
        for kernels in kernels_for(&plan) {
            let mut encoder = ImageEncoder::with(&plan, &mut arena, kernels, Solo).unwrap();
            encoder.encode(&vec![100; plan.grid().bytes()]).unwrap();
        }
        run += 1;
    }
    assert!(refused > 10 && (run > 10 || cfg!(miri)), "{refused} {run}");
}
