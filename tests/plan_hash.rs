//! The hash of a plan names it: every byte has a part in it, and the front of the file is enough.

mod common;

use cliptext::plan::format::{HEADER, Header, Kind};
use cliptext::{LoadError, Plan, PlanHash};
use common::parts::Parts;
use common::{long, one_tower, two_towers};

/// `hashlib.sha256(front)` of Python, of a front that depends on no model: lengths of the sections and a checksum made up.
#[test]
fn the_hash_is_what_the_specification_says() {
    let header = Header::lay_out(Kind::Text, 100, 96, 300, 1000).unwrap();
    let checksums = 0x1234_5678u32.to_le_bytes();
    let front = [&header.encode(&checksums)[..], &checksums].concat();
    let hash = PlanHash::of_front(&front).unwrap();
    assert_eq!(hash.to_string(), "52148eab63e5830691588666201c2368abf58e2505a2550bb64c5fb051480ae3");
    assert_eq!(hash.to_string().parse(), Ok(hash));
    assert_eq!(PlanHash::from_bytes(*hash.bytes()), hash);
}

#[test]
fn the_front_of_the_file_is_enough() {
    for file in [one_tower(), two_towers(), long()] {
        let bytes = file.bytes();
        let hash = Plan::load(bytes).unwrap().hash();
        let header = Header::read(&bytes[..HEADER]).unwrap();
        let body = header.body() as usize;
        assert_eq!(PlanHash::of_front(bytes), Ok(hash));
        // Bytes that were read to anywhere in memory will do.
        let mut anywhere = vec![0; 1];
        anywhere.extend_from_slice(&bytes[..body]);
        assert_eq!(PlanHash::of_front(&anywhere[1..]), Ok(hash));
        let checksums = HEADER + 4 * header.blocks() as usize;
        for length in 0..checksums {
            assert_eq!(PlanHash::of_front(&bytes[..length]), Err(LoadError::Truncated), "{length}");
        }
        // A front that is damaged has no hash, which could be another plan's.
        for at in 0..checksums {
            let mut damaged = bytes[..body].to_vec();
            damaged[at] ^= 0x10;
            assert!(PlanHash::of_front(&damaged).is_err(), "byte {at}");
        }
    }
}

#[test]
fn every_byte_has_a_part_in_it() {
    let file = one_tower();
    let parts = Parts::of(&file);
    let hash = PlanHash::of_front(file.bytes()).unwrap();
    let mut changed: Vec<Parts> = vec![parts.clone(); 4];
    changed[0].manifest.source = "another";
    changed[1].vocabulary[100] ^= 1;
    changed[2].constants[0] ^= 1;
    *changed[3].constants.last_mut().unwrap() ^= 1;
    let mut hashes: Vec<PlanHash> =
        changed.iter().map(|parts| PlanHash::of_front(&parts.bytes()).unwrap()).collect();
    hashes.push(hash);
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 5);
}
