//! CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) of a buffer, block by block.
//!
//! A CRC waits for itself at every step; several blocks side by side do not wait for one another. So the plan keeps a
//! checksum per block, and the instructions that most CPUs have for this very code run at the speed of memory.

/// Bytes that share one checksum.
pub const BLOCK: usize = 64 * 1024;

/// Blocks that go side by side.
const STREAMS: usize = 4;

/// Words of a block.
const WORDS: usize = BLOCK / 8;

/// The words in `bytes`, which are little-endian as all here, and what is before and behind them. Words that may lie anywhere would be
/// read byte by byte on targets without a system.
fn words(bytes: &[u8]) -> (&[u8], &[u64], &[u8]) {
    bytemuck::pod_align_to(bytes)
}

/// Whether each [`BLOCK`] of `bytes` (the last may be shorter) has the checksum in `sums`; `Err` names the first block
/// that has not. `sums` has one for each block.
pub(crate) fn verify(bytes: &[u8], sums: &[u32]) -> Result<(), usize> {
    let hardware = hardware();
    let check = |first: usize, got: &[u32]| {
        let want = sums.get(first..first + got.len()).unwrap_or(&[]);
        match got.iter().zip(want).position(|(got, want)| got != want) {
            Some(index) => Err(first + index),
            None => Ok(()),
        }
    };
    let mut blocks = bytes.chunks(STREAMS * BLOCK);
    let mut first = 0;
    for blocks in &mut blocks {
        if let (Some(hardware), Some(whole)) = (hardware, words(blocks).1.as_array()) {
            // SAFETY: `hardware` gives the functions only where the CPU has the instructions.
            check(first, &unsafe { (hardware.streams)(whole) })?;
        } else {
            for (index, block) in blocks.chunks(BLOCK).enumerate() {
                check(first + index, &[crc32c(block)])?;
            }
        }
        first += STREAMS;
    }
    Ok(())
}

/// CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    !extend(!0, bytes)
}

/// The register behind `bytes`, from what it was before them: `!0` at the start. Its complement is the CRC.
#[inline(never)]
pub(crate) fn extend(crc: u32, bytes: &[u8]) -> u32 {
    match hardware() {
        // SAFETY: `hardware` gives the functions only where the CPU has the instructions.
        Some(hardware) => unsafe { (hardware.extend)(crc, bytes) },
        None => by_table(crc, bytes),
    }
}

/// [`extend`] by a table.
fn by_table(mut crc: u32, bytes: &[u8]) -> u32 {
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        let low = crc ^ u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        crc = table(7, low)
            ^ table(6, low >> 8)
            ^ table(5, low >> 16)
            ^ table(4, low >> 24)
            ^ table(3, word[4].into())
            ^ table(2, word[5].into())
            ^ table(1, word[6].into())
            ^ table(0, word[7].into());
    }
    for &byte in tail {
        crc = crc >> 8 ^ table(0, crc ^ u32::from(byte));
    }
    crc
}

#[inline(always)]
fn table(slice: usize, byte: u32) -> u32 {
    TABLES[slice][(byte & 0xff) as usize]
}

/// `TABLES[n][b]`: what byte `b` becomes with `n` zero bytes behind it.
static TABLES: [[u32; 256]; 8] = {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut slice = 1;
    while slice < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before: u32 = tables[slice - 1][byte];
            tables[slice][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        slice += 1;
    }
    tables
};

/// What the CPU's own CRC instructions do.
#[derive(Clone, Copy)]
struct Hardware {
    /// The CRCs of blocks side by side.
    streams: unsafe fn(&[u64; STREAMS * WORDS]) -> [u32; STREAMS],
    /// [`extend`].
    extend: unsafe fn(u32, &[u8]) -> u32,
}

/// The functions by the CPU's own CRC instructions, where it has them.
fn hardware() -> Option<Hardware> {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if super::cpu::has_crc32() {
        return Some(Hardware { streams, extend: by_instructions });
    }
    None
}

/// Eight bytes into a CRC.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse4.2")]
fn step(crc: u32, word: u64) -> u32 {
    core::arch::x86_64::_mm_crc32_u64(crc.into(), word) as u32
}

/// A byte into a CRC.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse4.2")]
fn step_byte(crc: u32, byte: u8) -> u32 {
    core::arch::x86_64::_mm_crc32_u8(crc, byte)
}

/// Eight bytes into a CRC.
#[cfg(target_arch = "aarch64")]
#[inline]
#[target_feature(enable = "crc")]
fn step(crc: u32, word: u64) -> u32 {
    core::arch::aarch64::__crc32cd(crc, word)
}

/// A byte into a CRC.
#[cfg(target_arch = "aarch64")]
#[inline]
#[target_feature(enable = "crc")]
fn step_byte(crc: u32, byte: u8) -> u32 {
    core::arch::aarch64::__crc32cb(crc, byte)
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "sse4.2"))]
#[cfg_attr(target_arch = "aarch64", target_feature(enable = "crc"))]
fn streams(words: &[u64; STREAMS * WORDS]) -> [u32; STREAMS] {
    let mut crcs = [!0u32; STREAMS];
    for index in 0..WORDS {
        for stream in 0..STREAMS {
            crcs[stream] = step(crcs[stream], words[stream * WORDS + index]);
        }
    }
    crcs.map(|crc| !crc)
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "sse4.2"))]
#[cfg_attr(target_arch = "aarch64", target_feature(enable = "crc"))]
fn by_instructions(mut crc: u32, bytes: &[u8]) -> u32 {
    let (head, words, tail) = words(bytes);
    for byte in head {
        crc = step_byte(crc, *byte);
    }
    for word in words {
        crc = step(crc, *word);
    }
    for byte in tail {
        crc = step_byte(crc, *byte);
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn known_values() {
        // The check value of the code's definition, and RFC 3720's 32 zeros.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn any_number_of_bytes_agrees_with_the_table() {
        let bytes: Vec<u8> = (0..1000).map(|i| ((i * i) >> 3) as u8).collect();
        for end in 0..bytes.len() {
            assert_eq!(crc32c(&bytes[..end]), !by_table(!0, &bytes[..end]), "{end} bytes");
        }
    }

    #[test]
    fn blocks_side_by_side_agree_with_the_table() {
        let bytes: Vec<u8> = (0..9 * BLOCK + 17).map(|i| ((i * i) >> 5) as u8).collect();
        let sums: Vec<u32> = bytes.chunks(BLOCK).map(|block| !by_table(!0, block)).collect();
        assert_eq!(verify(&bytes, &sums), Ok(()));
        for at in [0, BLOCK - 1, BLOCK, 7 * BLOCK + 5, bytes.len() - 1] {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert_eq!(verify(&bad, &sums), Err(at / BLOCK));
        }
    }
}
