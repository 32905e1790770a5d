//! What pictures become beside what transformers and PIL make of them: `fixtures/make.py` has the details.

use std::io::Write as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use cliptext_pictures::{PictureError, read};

const SIDE: NonZero<u16> = NonZero::new(32).unwrap();

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The largest difference from PIL's, and how many values differ by more than one level.
fn distance(name: &str) -> (u8, usize) {
    let found = read(&fixture(name), SIDE).unwrap();
    let wanted = std::fs::read(fixture(&format!("{name}.rgb"))).unwrap();
    assert_eq!(found.len(), wanted.len(), "{name}");
    let differences = found.iter().zip(&wanted).map(|(a, b)| a.abs_diff(*b));
    (differences.clone().max().unwrap(), differences.filter(|&d| d > 1).count())
}

#[test]
fn every_kind_of_picture_comes_out_as_pil_has_it() {
    for name in [
        "wide.png",
        "tall.png",
        "smaller.png",
        "same.png",
        "grey.png",
        "alpha.png",
        "palette.png",
        "picture.webp",
    ] {
        assert_eq!(distance(name).0, 0, "{name}");
    }
}

/// Where neighbours differ as much as here decoders do too: of photographs, scaled to 224 pixels, 2 values in 100 000 are beyond.
#[test]
fn jpegs_differ_by_their_decoders_rounding_only() {
    for name in ["photo.jpg", "grey.jpg", "turned.jpg"] {
        let (most, beyond) = distance(name);
        assert!(
            most <= 3 && beyond * 20 <= 32 * 32 * 3,
            "{name}: {most}, {beyond} values by more than one level"
        );
    }
}

#[test]
fn what_is_no_picture_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    assert!(matches!(read(&folder.path().join("none.png"), SIDE), Err(PictureError::Io(_))));
    assert!(matches!(read(&write("text.png", b"no picture"), SIDE), Err(PictureError::Format)));
    assert!(matches!(read(&write("empty.png", b""), SIDE), Err(PictureError::Format)));
    assert!(matches!(read(&write("a.bmp", b"BM______________"), SIDE), Err(PictureError::Format)));
    let whole = std::fs::read(fixture("wide.png")).unwrap();
    for end in [20, whole.len() / 2, whole.len() - 20] {
        assert!(read(&write("cut.png", &whole[..end]), SIDE).is_err(), "{end}");
    }
    // A header that asks for four gigapixels.
    let mut huge = whole.clone();
    huge[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let error = read(&write("huge.png", &huge), SIDE).unwrap_err().to_string();
    assert!(error.contains("larger than is read") || error.contains("CRC"), "{error}");
}

/// A PNG of so many pixels, all black, of one bit each or eight.
fn bomb(side: u32, bits: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(if bits == 1 { png::BitDepth::One } else { png::BitDepth::Eight });
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().unwrap();
    let mut stream = writer.stream_writer().unwrap();
    let row = vec![0; side.div_ceil(8) as usize * usize::from(bits)];
    (0..side).for_each(|_| stream.write_all(&row).unwrap());
    stream.finish().unwrap();
    drop(writer);
    bytes
}

#[test]
fn pictures_that_decode_to_more_than_is_held_are_refused_before_they_are_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.png");
    let refused = |side, bits| {
        std::fs::write(&path, bomb(side, bits)).unwrap();
        let start = std::time::Instant::now();
        let error = read(&path, SIDE).expect_err("a bomb").to_string();
        assert!(error.contains("512 MB decoded"), "{error}");
        assert!(start.elapsed() < std::time::Duration::from_secs(2), "it was decoded");
    };
    // Bits become bytes, and grey becomes three colours: 192 million pixels are 576 MB.
    refused(32_768, 1);
    refused(14_000, 8);
    std::fs::write(&path, bomb(4096, 1)).unwrap();
    assert_eq!(read(&path, SIDE).unwrap(), vec![0; 32 * 32 * 3]);
}
