//! The data of a tensor: as much as its dimensions promise, in one place, and afterwards always as little-endian bytes.
//!
//! ONNX keeps the same numbers as raw bytes or in one of five typed fields; tract reads some of those amiss (`uint64` from
//! the field of `int64`) and takes whatever it finds.

use anyhow::{Context, Result, bail, ensure};
use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;

/// Bytes of one element in `raw_data`, for the types that tract knows and a text encoder uses.
pub fn element_size(data_type: DataType) -> Option<usize> {
    Some(match data_type {
        DataType::Bool | DataType::Uint8 | DataType::Int8 => 1,
        DataType::Uint16 | DataType::Int16 | DataType::Float16 | DataType::Bfloat16 => 2,
        DataType::Uint32 | DataType::Int32 | DataType::Float => 4,
        DataType::Uint64 | DataType::Int64 | DataType::Double => 8,
        _ => return None,
    })
}

/// Number of elements that the dimensions promise.
pub fn elements(tensor: &TensorProto) -> Result<usize> {
    tensor
        .dims
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(usize::try_from(dim).ok()?))
        .with_context(|| format!("its dimensions {:?} are impossible; export the model again", tensor.dims))
}

/// Refuses a tensor whose data are not what its type and dimensions promise, and moves them to `raw_data`.
pub fn settle(tensor: &mut TensorProto) -> Result<()> {
    let name = std::mem::take(&mut tensor.name);
    let settled = settle_unnamed(tensor).with_context(|| format!("tensor `{name}`"));
    tensor.name = name;
    settled
}

fn settle_unnamed(tensor: &mut TensorProto) -> Result<()> {
    let data_type = DataType::try_from(tensor.data_type).ok().with_context(|| {
        format!("its element type {} is unknown; export the model in f32 or f16", tensor.data_type)
    })?;
    let promised = elements(tensor)?;
    ensure!(tensor.segment.is_none(), "it is split into segments, which is not supported");
    if tensor.data_type == DataType::String as i32 {
        let held = tensor.string_data.len();
        ensure!(
            held == promised && tensor.raw_data.is_empty(),
            "it promises {promised} strings but holds {held}; export the model again"
        );
        return Ok(());
    }
    let size = element_size(data_type).with_context(|| {
        format!("its element type {data_type:?} is not supported; export the model in f32 or f16")
    })?;
    let fields = [
        ("float_data", tensor.float_data.len()),
        ("double_data", tensor.double_data.len()),
        ("int32_data", tensor.int32_data.len()),
        ("int64_data", tensor.int64_data.len()),
        ("uint64_data", tensor.uint64_data.len()),
        ("string_data", tensor.string_data.len()),
        ("raw_data", tensor.raw_data.len()),
    ];
    let own = match data_type {
        DataType::Float => "float_data",
        DataType::Double => "double_data",
        DataType::Int64 => "int64_data",
        DataType::Uint32 | DataType::Uint64 => "uint64_data",
        _ => "int32_data",
    };
    let mut held = fields.into_iter().filter(|(_, length)| *length > 0);
    let (field, length) = held.next().unwrap_or((own, 0));
    if let Some((other, _)) = held.next() {
        bail!("it holds data in {field} and in {other}; export the model again");
    }
    if field == "raw_data" {
        ensure!(
            promised.checked_mul(size) == Some(length),
            "it promises {promised} values of {size} bytes but holds {length} bytes; copy the file again"
        );
        return Ok(());
    }
    ensure!(field == own, "it holds {data_type:?} values in {field}, not in {own}; export the model again");
    ensure!(length == promised, "it promises {promised} values but holds {length}; copy the file again");
    tensor.raw_data = raw(tensor, data_type)?;
    tensor.float_data = Vec::new();
    tensor.double_data = Vec::new();
    tensor.int32_data = Vec::new();
    tensor.int64_data = Vec::new();
    tensor.uint64_data = Vec::new();
    Ok(())
}

/// The values of the type's own field as little-endian bytes.
fn raw(tensor: &TensorProto, data_type: DataType) -> Result<Vec<u8>> {
    let TensorProto { float_data, double_data, int32_data, int64_data, uint64_data, .. } = tensor;
    fn bytes<T: Copy, const N: usize>(values: &[T], to: impl Fn(T) -> Option<[u8; N]>) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(values.len() * N);
        for &value in values {
            bytes.extend(
                to(value).context("it holds a value beyond its element type; export the model again")?,
            );
        }
        Ok(bytes)
    }
    match data_type {
        DataType::Float => bytes(float_data, |v| Some(v.to_le_bytes())),
        DataType::Double => bytes(double_data, |v| Some(v.to_le_bytes())),
        DataType::Int64 => bytes(int64_data, |v| Some(v.to_le_bytes())),
        DataType::Uint64 => bytes(uint64_data, |v| Some(v.to_le_bytes())),
        DataType::Uint32 => bytes(uint64_data, |v| Some(u32::try_from(v).ok()?.to_le_bytes())),
        DataType::Int32 => bytes(int32_data, |v| Some(v.to_le_bytes())),
        DataType::Int16 => bytes(int32_data, |v| Some(i16::try_from(v).ok()?.to_le_bytes())),
        DataType::Int8 => bytes(int32_data, |v| Some(i8::try_from(v).ok()?.to_le_bytes())),
        DataType::Uint8 => bytes(int32_data, |v| Some(u8::try_from(v).ok()?.to_le_bytes())),
        DataType::Bool => bytes(int32_data, |v| Some([u8::from(v != 0)])),
        // 16-bit floats are kept by their bits.
        _ => bytes(int32_data, |v| Some(u16::try_from(v).ok()?.to_le_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(data_type: DataType, values: TensorProto) -> TensorProto {
        TensorProto { name: "t".into(), dims: vec![2], data_type: data_type as i32, ..values }
    }

    #[test]
    fn every_field_becomes_raw_bytes() {
        let ints = TensorProto { int32_data: vec![1, 0x3c00], ..TensorProto::default() };
        let longs = TensorProto { int64_data: vec![1, -2], ..TensorProto::default() };
        let unsigned = TensorProto { uint64_data: vec![1, 7], ..TensorProto::default() };
        let floats = TensorProto { float_data: vec![1.0, -2.0], ..TensorProto::default() };
        let doubles = TensorProto { double_data: vec![1.0, -2.0], ..TensorProto::default() };
        for (data_type, values, expected) in [
            (DataType::Float16, ints.clone(), vec![1, 0, 0, 0x3c]),
            (DataType::Uint16, ints.clone(), vec![1, 0, 0, 0x3c]),
            (DataType::Bool, ints.clone(), vec![1, 1]),
            (DataType::Int32, ints.clone(), vec![1, 0, 0, 0, 0, 0x3c, 0, 0]),
            (DataType::Int64, longs, [1i64, -2].into_iter().flat_map(i64::to_le_bytes).collect()),
            (DataType::Uint32, unsigned.clone(), vec![1, 0, 0, 0, 7, 0, 0, 0]),
            (DataType::Uint64, unsigned, [1u64, 7].into_iter().flat_map(u64::to_le_bytes).collect()),
            (DataType::Float, floats, [1f32, -2.0].into_iter().flat_map(f32::to_le_bytes).collect()),
            (DataType::Double, doubles, [1f64, -2.0].into_iter().flat_map(f64::to_le_bytes).collect()),
        ] {
            let mut tensor = tensor(data_type, values);
            settle(&mut tensor).expect("a sound tensor");
            assert_eq!(tensor.raw_data, expected, "{data_type:?}");
            settle(&mut tensor).expect("the same once more");
            assert_eq!(tensor.raw_data, expected, "{data_type:?}");
        }
        let beyond = settle(&mut tensor(DataType::Int8, ints)).expect_err("0x3c00 as a byte");
        assert!(format!("{beyond:#}").contains("beyond its element type"));
    }

    #[test]
    fn data_in_two_fields_or_in_the_wrong_one_are_refused() {
        let raw = vec![0; 8];
        for (stray, field) in [
            (TensorProto { int32_data: vec![0], ..TensorProto::default() }, "int32_data"),
            (TensorProto { float_data: vec![0.0; 2], ..TensorProto::default() }, "float_data"),
            (TensorProto { string_data: vec![vec![]], ..TensorProto::default() }, "string_data"),
        ] {
            let both = TensorProto { raw_data: raw.clone(), ..stray };
            let said = format!("{:#}", settle(&mut tensor(DataType::Float, both)).expect_err("two fields"));
            assert!(said.contains("raw_data") && said.contains(field) && said.contains("`t`"), "{said}");
        }
        let wrong = TensorProto { int64_data: vec![1, 2], ..TensorProto::default() };
        let said = format!("{:#}", settle(&mut tensor(DataType::Float, wrong)).expect_err("the wrong field"));
        assert!(said.contains("not in float_data"), "{said}");
    }
}
