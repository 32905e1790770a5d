//! Pictures as CLIP's image encoders read them: decoded, scaled until the shortest edge fits, cropped at the centre. What comes out of
//! pixels is, bit for bit, what transformers' `CLIPImageProcessor` makes of them with PIL before it normalises; JPEGs are decoded
//! by other rules of rounding, one to three levels apart.
//!
//! Colours: grey becomes three equal ones, transparency is dropped, values of 16 bits are scaled to 8. The orientation that a camera
//! noted (EXIF) is applied, as `transformers.image_utils.load_image` does.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::num::NonZero;
use std::path::{Path, PathBuf};

mod scale;

use scale::COLOURS;

use image::error::{LimitError, LimitErrorKind};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder as _, ImageError, ImageReader, Limits};

/// Pixels of a side of a picture that is read, at the most.
const MOST_PIXELS: u32 = 32_768;

/// Bytes that a decoded picture takes, at the most: as it is stored, and as red, green and blue. Both are in memory for a while.
const MOST_BYTES: u64 = 512 << 20;

/// Longest side of the scaled picture, in shortest sides: of what is longer nearly nothing is looked at.
const MOST_RATIO: u32 = 200;

/// Why a picture can't be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum PictureError {
    /// The file can't be read.
    Io(std::io::Error),
    /// It is no PNG, JPEG or WebP.
    Format,
    /// It is damaged, larger than is read, or of a variant that is not known.
    Decode(ImageError),
    /// It is so long and narrow that cropping it leaves nearly nothing.
    Narrow {
        /// Its pixels across.
        width: u32,
        /// And down.
        height: u32,
    },
}

impl fmt::Display for PictureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PictureError::Io(error) => error.fmt(f),
            PictureError::Format => f.write_str("no picture that can be read: PNG, JPEG and WebP are"),
            PictureError::Decode(ImageError::Limits(_)) => write!(
                f,
                "a picture larger than is read: {MOST_PIXELS} pixels across or down, or {} MB decoded",
                MOST_BYTES >> 20
            ),
            PictureError::Decode(error) => error.fmt(f),
            PictureError::Narrow { width, height } => write!(
                f,
                "a picture of {width} by {height} pixels: more than {MOST_RATIO} times as long as it is wide, of which cropping leaves \
                 nearly nothing"
            ),
        }
    }
}

impl std::error::Error for PictureError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PictureError::Io(error) => Some(error),
            PictureError::Decode(error) => Some(error),
            _ => None,
        }
    }
}

/// How names of pictures end.
pub const ENDINGS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// The files of the folder at `path` that are pictures by the ends of their names, in the order of these. Folders in it are not looked into.
///
/// # Errors
/// What the operating system says where the folder can't be read; and where no picture is in it.
pub fn in_folder(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let is_picture = |path: &PathBuf| {
        let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known))
    };
    let mut files =
        std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(is_picture);
    files.sort();
    if files.is_empty() {
        let names = ENDINGS.join(", ");
        return Err(std::io::Error::other(format!("no picture in this folder ({names})")));
    }
    Ok(files)
}

/// Whether the file at `path` begins as a picture that [`read`] knows. A pipe is none: looking would take its bytes.
///
/// # Errors
/// When the file can't be read.
pub fn is_picture(path: &Path) -> std::io::Result<bool> {
    if !path.metadata()?.is_file() {
        return Ok(false);
    }
    let reader = ImageReader::new(BufReader::new(File::open(path)?)).with_guessed_format()?;
    Ok(reader.format().is_some())
}

/// The picture in the file at `path` as `[side, side, 3]` bytes: red, green and blue of each pixel, from the top left.
///
/// # Errors
/// [`PictureError`] where the file is none that can be read.
pub fn read(path: &Path, side: NonZero<u16>) -> Result<Vec<u8>, PictureError> {
    decode(BufReader::new(File::open(path).map_err(PictureError::Io)?), side)
}

/// The same, of a file's bytes.
///
/// # Errors
/// As [`read`].
pub fn decode(bytes: impl BufRead + Seek, side: NonZero<u16>) -> Result<Vec<u8>, PictureError> {
    let mut reader = ImageReader::new(bytes).with_guessed_format().map_err(PictureError::Io)?;
    if reader.format().is_none() {
        return Err(PictureError::Format);
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MOST_PIXELS);
    limits.max_image_height = Some(MOST_PIXELS);
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let told = |error| match error {
        ImageError::IoError(error) => PictureError::Io(error),
        ImageError::Unsupported(_) => PictureError::Format,
        error => PictureError::Decode(error),
    };
    let mut decoder = reader.into_decoder().map_err(told)?;
    // The decoder counts what it takes besides, and not what it decodes to.
    let (width, height) = decoder.dimensions();
    let bytes =
        (u64::from(width) * u64::from(height)).saturating_mul(COLOURS as u64).max(decoder.total_bytes());
    if bytes > MOST_BYTES {
        return Err(PictureError::Decode(ImageError::Limits(LimitError::from_kind(
            LimitErrorKind::InsufficientMemory,
        ))));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(told)?;
    picture.apply_orientation(orientation);
    let picture = picture.into_rgb8();
    let (width, height) = picture.dimensions();
    fit(picture.as_raw(), (width, height), side)
}

/// Scales and crops the pixels of a picture of that size.
///
/// # Errors
/// [`PictureError::Narrow`].
pub fn fit(pixels: &[u8], (width, height): (u32, u32), side: NonZero<u16>) -> Result<Vec<u8>, PictureError> {
    let narrow = || PictureError::Narrow { width, height };
    let (short, long) = (width.min(height), width.max(height));
    if short == 0 || long / short > MOST_RATIO {
        return Err(narrow());
    }
    let edge = u32::from(side.get());
    // Rounded down, as `get_resize_output_image_size` does.
    let scaled = u32::try_from(u64::from(edge) * u64::from(long) / u64::from(short)).map_err(|_| narrow())?;
    let (across, down) = if width <= height { (edge, scaled) } else { (scaled, edge) };
    let size = |(width, height): (u32, u32)| (width as usize, height as usize);
    let scaled = scale::scale(pixels, size((width, height)), size((across, down)));
    // Rounded down, as `center_crop` does.
    let (left, top) = ((across - edge) as usize / 2, (down - edge) as usize / 2);
    let (edge, across) = (edge as usize, across as usize);
    let mut out = Vec::with_capacity(edge * edge * COLOURS);
    for row in top..top + edge {
        let start = (row * across + left) * COLOURS;
        out.extend_from_slice(&scaled[start..start + edge * COLOURS]);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: NonZero<u16> = NonZero::new(4).unwrap();

    #[test]
    fn pictures_of_the_size_stay_as_they_are_and_others_are_cropped_at_the_centre() {
        let pixels: Vec<u8> = (0..4 * 6 * 3).collect();
        // Six rows of four pixels: the first and the last go.
        assert_eq!(fit(&pixels, (4, 6), SIDE).unwrap(), pixels[12..60]);
        // Four rows of six: the first and the last pixel of each.
        let cropped: Vec<u8> = pixels.chunks(18).flat_map(|row| row[3..15].to_vec()).collect();
        assert_eq!(fit(&pixels, (6, 4), SIDE).unwrap(), cropped);
        let grey = vec![77; 9 * 5 * 3];
        assert_eq!(fit(&grey, (9, 5), SIDE).unwrap(), [77; 4 * 4 * 3]);
    }

    #[test]
    fn slivers_are_refused() {
        assert!(matches!(fit(&[0; 3 * 201], (1, 201), SIDE), Err(PictureError::Narrow { .. })));
        assert!(matches!(fit(&[], (0, 0), SIDE), Err(PictureError::Narrow { .. })));
        assert!(fit(&[9; 3 * 200], (1, 200), SIDE).is_ok());
    }
}
