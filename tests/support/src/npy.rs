//! NumPy's `.npy` files: little-endian f32 and integers in C order.

use std::path::Path;

/// An array out of an `.npy` file.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    values: Values,
}

#[derive(Clone, Debug, PartialEq)]
enum Values {
    F32(Vec<f32>),
    Integer(Vec<i64>),
}

impl Array {
    /// Reads a file.
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        parse(&bytes).unwrap_or_else(|| panic!("{} is not an .npy file of f32 or integers", path.display()))
    }

    /// The values, row after row.
    pub fn f32(&self) -> &[f32] {
        match &self.values {
            Values::F32(values) => values,
            Values::Integer(_) => panic!("an array of integers where f32 was expected"),
        }
    }

    /// The values as token ids.
    pub fn u32(&self) -> Vec<u32> {
        match &self.values {
            Values::Integer(values) => {
                values.iter().map(|&v| u32::try_from(v).expect("a token id")).collect()
            }
            Values::F32(_) => panic!("an array of f32 where integers were expected"),
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Array> {
    let version = *bytes.strip_prefix(b"\x93NUMPY")?.first()?;
    let (length, start) = match version {
        1 => (usize::from(u16::from_le_bytes(bytes.get(8..10)?.try_into().ok()?)), 10),
        _ => (u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?) as usize, 12),
    };
    let header = std::str::from_utf8(bytes.get(start..start + length)?).ok()?;
    let data = &bytes[start + length..];
    let after = |key: &str| header.split_once(key).map(|(_, rest)| rest);
    if !after("'fortran_order':")?.trim_start().starts_with("False") {
        return None;
    }
    let shape = after("'shape':")?.split_once('(')?.1.split_once(')')?.0;
    let shape: Option<Vec<usize>> =
        shape.split(',').map(str::trim).filter(|dim| !dim.is_empty()).map(|dim| dim.parse().ok()).collect();
    let shape = shape?;
    let count: usize = shape.iter().product();
    let kind = after("'descr':")?.split('\'').nth(1)?;
    let values = match kind {
        "<f4" => {
            Values::F32(data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
        }
        "<i4" => Values::Integer(
            data.chunks_exact(4).map(|b| i64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
        ),
        "<i8" => Values::Integer(
            data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap_or_default())).collect(),
        ),
        _ => return None,
    };
    let held = match &values {
        Values::F32(values) => values.len(),
        Values::Integer(values) => values.len(),
    };
    (held == count).then_some(Array { shape, values })
}
