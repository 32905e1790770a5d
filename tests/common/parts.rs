//! Plans taken apart and put together again.

use cliptext::plan::format::{BLOCK, HEADER, Header, Section, crc32c};
use cliptext::plan::{Manifest, Step};
use cliptext::{Plan, PlanFile};

/// A plan in parts, to be put together again with checksums that fit.
#[derive(Clone)]
pub struct Parts {
    pub manifest: Manifest,
    pub steps: Vec<Step>,
    pub vocabulary: Vec<u8>,
    pub constants: Vec<u8>,
}

impl Parts {
    pub fn of(file: &PlanFile) -> Self {
        let plan = Plan::load(file.bytes()).unwrap();
        let place = |section: usize| {
            let at = |at: usize| {
                u64::from_le_bytes(file.bytes()[24 + 16 * section + at..][..8].try_into().unwrap())
            };
            file.bytes()[at(0) as usize..][..at(8) as usize].to_vec()
        };
        Self {
            manifest: plan.manifest().clone(),
            steps: plan.steps().map(|(step, _)| step).collect(),
            vocabulary: place(Section::Vocabulary as usize),
            constants: place(Section::Constants as usize),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut buffer = vec![0; 1 << 16];
        let manifest = postcard::to_slice(&self.manifest, &mut buffer).unwrap().to_vec();
        let mut steps = Vec::new();
        for step in &self.steps {
            steps.extend_from_slice(postcard::to_slice(step, &mut buffer).unwrap());
        }
        put_together(&manifest, &steps, &self.vocabulary, &self.constants)
    }

    pub fn first(&self, kind: impl Fn(&Step) -> bool) -> usize {
        self.steps.iter().position(kind).unwrap()
    }
}

pub fn put_together(manifest: &[u8], steps: &[u8], vocabulary: &[u8], constants: &[u8]) -> Vec<u8> {
    let parts = [manifest, steps, vocabulary, constants];
    let [a, b, c, d] = parts.map(|part| part.len() as u64);
    let header = Header::lay_out(a, b, c, d).unwrap();
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
