//! Half precision becomes f32: exact for every weight, and tract's f32 run is then the reference.

use std::convert::Infallible;

use anyhow::Result;
use half::{bf16, f16};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

use super::proto::{each_node_tensor, each_tensor};

/// Turns every 16-bit float of the model, whose tensors are all raw bytes, and every cast to one, into f32.
pub fn widen(model: &mut ModelProto) -> Result<()> {
    let mut visit = |tensor: &mut TensorProto| -> Result<(), Infallible> {
        widen_tensor(tensor);
        Ok(())
    };
    if let Some(graph) = &mut model.graph {
        each_tensor(graph, &mut visit)?;
    }
    for function in &mut model.functions {
        each_node_tensor(&mut function.node, &mut visit)?;
    }
    if let Some(graph) = &mut model.graph {
        widen_graph(graph);
    }
    model.functions.iter_mut().for_each(|function| widen_nodes(&mut function.node));
    Ok(())
}

fn is_half(data_type: i32) -> bool {
    data_type == DataType::Float16 as i32 || data_type == DataType::Bfloat16 as i32
}

/// Says whether it held 16-bit floats.
fn widen_tensor(tensor: &mut TensorProto) -> bool {
    if !is_half(tensor.data_type) {
        return false;
    }
    let widen = match tensor.data_type == DataType::Float16 as i32 {
        true => |bits| f16::from_bits(bits).to_f32(),
        false => |bits| bf16::from_bits(bits).to_f32(),
    };
    let bits = tensor.raw_data.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    tensor.raw_data = bits.map(widen).flat_map(f32::to_le_bytes).collect();
    tensor.data_type = DataType::Float as i32;
    true
}

fn widen_graph(graph: &mut GraphProto) {
    graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info).for_each(widen_info);
    widen_nodes(&mut graph.node);
}

fn widen_info(info: &mut ValueInfoProto) {
    if let Some(Value::TensorType(tensor)) = info.r#type.as_mut().and_then(|t| t.value.as_mut())
        && is_half(tensor.elem_type)
    {
        tensor.elem_type = DataType::Float as i32;
    }
}

fn widen_nodes(nodes: &mut [NodeProto]) {
    for attribute in nodes.iter_mut().flat_map(|node| &mut node.attribute) {
        if matches!(attribute.name.as_str(), "to" | "dtype" | "stash_type" | "softmax_precision")
            && is_half(attribute.i as i32)
        {
            attribute.i = DataType::Float as i64;
        }
        attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(widen_graph);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_16_bit_float_survives_exactly() {
        for (data_type, one) in [(DataType::Float16, 0x3c00u16), (DataType::Bfloat16, 0x3f80)] {
            let mut tensor =
                TensorProto { data_type: data_type as i32, dims: vec![2], ..TensorProto::default() };
            tensor.raw_data = [one, one | 0x8000].into_iter().flat_map(u16::to_le_bytes).collect();
            assert!(widen_tensor(&mut tensor));
            let expected: Vec<u8> = [1f32, -1.0].into_iter().flat_map(f32::to_le_bytes).collect();
            assert_eq!((tensor.raw_data, tensor.data_type), (expected, DataType::Float as i32));
        }
        let mut wide = TensorProto { data_type: DataType::Float as i32, ..TensorProto::default() };
        assert!(!widen_tensor(&mut wide));
    }
}
