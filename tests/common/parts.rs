//! Plans taken apart and put together again.

use cliptext::plan::format::{BLOCK, HEADER, Header, Kind, Section, crc32c};
use cliptext::plan::{Manifest, Op, Step};
use cliptext::{Plan, PlanFile};

/// A plan in parts, to be put together again with checksums that fit.
#[derive(Clone)]
pub struct Parts {
    pub manifest: Manifest<'static>,
    pub steps: Vec<Step>,
    pub vocabulary: Vec<u8>,
    pub constants: Vec<u8>,
}

static KEPT: std::sync::Mutex<Vec<&str>> = std::sync::Mutex::new(Vec::new());

impl Parts {
    pub fn of(file: &PlanFile) -> Self {
        let plan = Plan::load(file.bytes()).unwrap();
        let header = Header::read(file.bytes()).unwrap();
        let section = |section| {
            let (offset, length) = header.place(section);
            file.bytes()[offset as usize..][..length as usize].to_vec()
        };
        // A few bytes for as long as the tests run; what finds leaks finds them in the list.
        let kept = |text: &str| {
            let text: &'static str = text.to_owned().leak();
            KEPT.lock().unwrap().push(text);
            text
        };
        let manifest = plan.manifest();
        Self {
            manifest: Manifest {
                producer: kept(manifest.producer),
                source: kept(manifest.source),
                ..*manifest
            },
            steps: plan.steps().collect(),
            vocabulary: section(Section::Vocabulary),
            constants: section(Section::Constants),
        }
    }

    /// The plan, each step's constants behind those of the one before.
    pub fn bytes(&self) -> Vec<u8> {
        let mut linked = self.clone();
        let mut constants = 0u64;
        for step in &mut linked.steps {
            step.constants = constants;
            constants = constants.saturating_add(step.constant_bytes().unwrap_or(0));
        }
        linked.bytes_as_they_are()
    }

    pub fn bytes_as_they_are(&self) -> Vec<u8> {
        put_together(
            &self.manifest.section().expect("a manifest"),
            &records(&self.steps),
            &self.vocabulary,
            &self.constants,
        )
    }

    /// The first step whose operation is `kind`.
    pub fn first(&self, kind: impl Fn(Op) -> bool) -> usize {
        self.steps.iter().position(|step| kind(step.op)).unwrap()
    }

    /// Where the constants of step `index` are.
    pub fn constants_of(&self, index: usize) -> std::ops::Range<usize> {
        let step = &self.steps[index];
        let start = step.constants as usize;
        start..start + step.constant_bytes().unwrap() as usize
    }

    /// Takes step `index` out, with its constants.
    pub fn remove(&mut self, index: usize) {
        let range = self.constants_of(index);
        self.constants.drain(range.clone());
        self.steps.remove(index);
        for step in &mut self.steps[index..] {
            step.constants -= range.len() as u64;
        }
    }
}

pub fn records(steps: &[Step]) -> Vec<u8> {
    steps.iter().flat_map(Step::record).flat_map(u32::to_le_bytes).collect()
}

pub fn put_together(manifest: &[u8], steps: &[u8], vocabulary: &[u8], constants: &[u8]) -> Vec<u8> {
    put_together_as(Kind::Text, manifest, steps, vocabulary, constants)
}

pub fn put_together_as(
    kind: Kind,
    manifest: &[u8],
    steps: &[u8],
    vocabulary: &[u8],
    constants: &[u8],
) -> Vec<u8> {
    let parts = [manifest, steps, vocabulary, constants];
    let [a, b, c, d] = parts.map(|part| part.len() as u64);
    let header = Header::lay_out(kind, a, b, c, d).unwrap();
    let mut bytes = vec![0; header.file_bytes() as usize];
    let sections = [Section::Manifest, Section::Steps, Section::Vocabulary, Section::Constants];
    for (section, part) in sections.into_iter().zip(parts) {
        bytes[header.place(section).0 as usize..][..part.len()].copy_from_slice(part);
    }
    let sums: Vec<u8> =
        bytes[header.body() as usize..].chunks(BLOCK).flat_map(|block| crc32c(block).to_le_bytes()).collect();
    bytes[HEADER..][..sums.len()].copy_from_slice(&sums);
    let head = header.encode(&sums);
    bytes[..HEADER].copy_from_slice(&head);
    bytes
}
