//! NumPy's `.npy` files: little-endian numbers in C order.

use std::fmt;

use half::f16;

use crate::floats::Float;

/// An array out of an `.npy` file.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// The values, the last axis running fastest.
    pub values: Values,
}

/// The values of an [`Array`].
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Of `float32` or `float16`.
    F32(Vec<f32>),
    /// Of `int32` or `int64`.
    Integer(Vec<i64>),
}

/// Why bytes are not an array that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NpyError {
    /// They do not begin as `.npy` files do.
    Magic,
    /// The header can't be read.
    Header,
    /// The values are of a type that is not read; its name as NumPy writes it.
    Type(String),
    /// The values are in column-major order.
    FortranOrder,
    /// The values take another number of bytes than the header says.
    Length {
        /// By the header.
        expected: usize,
        /// In the file.
        found: usize,
    },
}

impl fmt::Display for NpyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NpyError::Magic => f.write_str("not an .npy file"),
            NpyError::Header => {
                f.write_str("the header of the .npy file can't be read: write it again with numpy.save")
            }
            NpyError::Type(name) => write!(
                f,
                "values of type {name} instead of little-endian float32 or float16: save x.astype(\"<f4\")"
            ),
            NpyError::FortranOrder => f.write_str("values in Fortran order: save numpy.ascontiguousarray(x)"),
            NpyError::Length { expected, found } if found < expected => {
                write!(f, "cut short: {found} bytes of values where the header says {expected}")
            }
            NpyError::Length { expected, found } => {
                write!(f, "{found} bytes of values where the header says {expected}")
            }
        }
    }
}

impl std::error::Error for NpyError {}

const MAGIC: &[u8] = b"\x93NUMPY";

/// Whether bytes begin as `.npy` files do.
pub fn is_npy(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Reads the bytes of a file.
///
/// # Errors
/// [`NpyError`] says what is wrong, or not supported.
pub fn parse(bytes: &[u8]) -> Result<Array, NpyError> {
    let version = bytes.strip_prefix(MAGIC).ok_or(NpyError::Magic)?;
    let (header, data) = header_and_data(version).ok_or(NpyError::Header)?;
    let descr = entry(header, "descr").ok_or(NpyError::Header)?;
    let kind = descr.strip_prefix('\'').and_then(|rest| rest.split('\'').next());
    // A structured type is a list.
    let kind = kind.ok_or_else(|| NpyError::Type(descr.split('}').next().unwrap_or(descr).to_owned()))?;
    let order = entry(header, "fortran_order").ok_or(NpyError::Header)?;
    let shape = shape(header).ok_or(NpyError::Header)?;
    let size = match kind {
        "<f2" => 2,
        "<f4" | "<i4" => 4,
        "<i8" => 8,
        other => return Err(NpyError::Type(other.to_owned())),
    };
    if !order.starts_with("False") {
        return Err(NpyError::FortranOrder);
    }
    let expected = shape.iter().try_fold(size, |bytes: usize, &axis| bytes.checked_mul(axis));
    let expected = expected.ok_or(NpyError::Header)?;
    if data.len() != expected {
        return Err(NpyError::Length { expected, found: data.len() });
    }
    let values = match kind {
        "<f2" => Values::F32(numbers(data).map(|bytes| f16::from_le_bytes(bytes).to_f32()).collect()),
        "<f4" => Values::F32(numbers(data).map(f32::from_le_bytes).collect()),
        "<i4" => Values::Integer(numbers(data).map(|bytes| i32::from_le_bytes(bytes).into()).collect()),
        _ => Values::Integer(numbers(data).map(i64::from_le_bytes).collect()),
    };
    Ok(Array { shape, values })
}

/// The header's dictionary and the bytes behind it, from the bytes after the magic number.
fn header_and_data(version: &[u8]) -> Option<(&str, &[u8])> {
    let (version, rest) = version.split_first_chunk::<2>()?;
    let (length, rest) = match version[0] {
        1 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        _ => return None,
    };
    let (header, data) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(header).ok()?, data))
}

/// The header from the value of the dictionary's `key` on.
fn entry<'h>(header: &'h str, key: &str) -> Option<&'h str> {
    let (_, rest) = header.split_once(&format!("'{key}':"))?;
    Some(rest.trim_start())
}

fn shape(header: &str) -> Option<Vec<usize>> {
    let (sizes, _) = entry(header, "shape")?.strip_prefix('(')?.split_once(')')?;
    sizes.split(',').map(str::trim).filter(|size| !size.is_empty()).map(|size| size.parse().ok()).collect()
}

fn numbers<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> {
    data.as_chunks::<N>().0.iter().copied()
}

/// What a header takes at least: room for every shape of three axes, so that it can be written again with another length.
const HEADER: usize = 128;

/// The header of a file of values of `shape`: format 1.0, padded so that the values start at a multiple of 64. With up to
/// three axes it always takes the same number of bytes.
pub fn header(float: Float, shape: &[usize]) -> Vec<u8> {
    let kind = match float {
        Float::F32 => "<f4",
        Float::F16 => "<f2",
    };
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    let mut text =
        format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({},), }}", sizes.join(", "));
    let length = 10 + text.len() + 1;
    text.push_str(&" ".repeat(length.next_multiple_of(64).max(HEADER) - length));
    text.push('\n');
    let mut out = [MAGIC, &[1, 0]].concat();
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with this dictionary.
    fn file(dictionary: &str, data: &[u8]) -> Vec<u8> {
        let mut out = b"\x93NUMPY\x01\x00".to_vec();
        out.extend((dictionary.len() as u16).to_le_bytes());
        out.extend(dictionary.as_bytes());
        out.extend(data);
        out
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = header(Float::F32, &[2, 3]);
        let values = [1.0f32, -2.5, 0.0, 1e-40, 3e38, 7.0];
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        assert_eq!(parse(&bytes), Ok(Array { shape: vec![2, 3], values: Values::F32(values.to_vec()) }));
        let mut bytes = header(Float::F16, &[1]);
        bytes.extend([0x00, 0x3c]);
        assert_eq!(parse(&bytes), Ok(Array { shape: vec![1], values: Values::F32(vec![1.0]) }));
        // A header can be written again, whatever the count.
        for shape in [&[usize::MAX, 9999, 99_999][..], &[0], &[1, 77, 768], &[usize::MAX, 99_999]] {
            assert_eq!(header(Float::F32, shape).len(), HEADER, "{shape:?}");
        }
    }

    #[test]
    fn types_shapes_and_versions_are_read() {
        let dictionary = "{'descr': '<f2', 'fortran_order': False, 'shape': (2,), }\n";
        let data = [0x00, 0x3c, 0x00, 0xc0];
        let want = Ok(Array { shape: vec![2], values: Values::F32(vec![1.0, -2.0]) });
        assert_eq!(parse(&file(dictionary, &data)), want);
        let mut second = b"\x93NUMPY\x02\x00".to_vec();
        second.extend((dictionary.len() as u32).to_le_bytes());
        second.extend(dictionary.as_bytes());
        second.extend(data);
        assert_eq!(parse(&second), want);
        let integers =
            file("{'descr': '<i8', 'fortran_order': False, 'shape': (), }", &(-5i64).to_le_bytes());
        assert_eq!(parse(&integers), Ok(Array { shape: vec![], values: Values::Integer(vec![-5]) }));
    }

    #[test]
    fn other_files_are_refused_by_what_is_wrong() {
        let parse_with = |dictionary: &str| parse(&file(dictionary, &[0; 8])).unwrap_err();
        for kind in [">f4", "<f8", "|O", "<U3"] {
            let error =
                parse_with(&format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': (2,), }}"));
            assert_eq!(error, NpyError::Type(kind.into()));
        }
        let structured = "{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (2,), }";
        assert!(matches!(parse_with(structured), NpyError::Type(_)));
        let fortran = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 1), }";
        assert_eq!(parse_with(fortran), NpyError::FortranOrder);
        for shape in ["(-1,)", "(2", "2", "(18446744073709551615, 2)", "(99999999999999999999,)"] {
            let error =
                parse_with(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"));
            assert_eq!(error, NpyError::Header, "{shape}");
        }
        for (shape, expected) in [("(3,)", 12), ("(1,)", 4)] {
            let error =
                parse_with(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"));
            assert_eq!(error, NpyError::Length { expected, found: 8 });
        }
        assert_eq!(parse(b"PK\x03\x04"), Err(NpyError::Magic));
        assert_eq!(parse_with("{}"), NpyError::Header);
    }

    #[test]
    fn files_cut_short_anywhere_are_refused() {
        let mut bytes = header(Float::F32, &[2]);
        bytes.extend([0; 8]);
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).is_err(), "{length}");
        }
        assert!(parse(&bytes).is_ok());
    }
}
