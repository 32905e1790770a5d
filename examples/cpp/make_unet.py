#!/usr/bin/env python3
"""Writes what has a UNet's inputs and output, for a pair in one batch: make_unet.py WIDTH OUT.onnx

Convolution, cross-attention to encoder_hidden_states [2, 77, WIDTH], convolution; random weights.
"""
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS, SIZE, CONTEXT = 16, 8, 77


def main(width, path):
    random = np.random.default_rng(0)
    weights = []

    def weight(name, *shape):
        values = random.normal(size=shape) / np.sqrt(shape[-2] if len(shape) == 2 else shape[1])
        weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def ints(name, *values):
        weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    node = helper.make_node
    nodes = [
        node("Conv", ["sample", weight("conv_in", CHANNELS, 4, 1, 1)], ["convolved"]),
        node("Mul", ["timestep", weight("time", 1, CHANNELS)], ["time_row"]),
        node("Reshape", ["time_row", ints("time_shape", 1, CHANNELS, 1, 1)], ["time_map"]),
        node("Sin", ["time_map"], ["time_wave"]),
        node("Add", ["convolved", "time_wave"], ["features"]),
        node("Reshape", ["features", ints("flat", 2, CHANNELS, SIZE * SIZE)], ["columns"]),
        node("Transpose", ["columns"], ["rows"], perm=[0, 2, 1]),
        node("MatMul", ["rows", weight("to_q", CHANNELS, CHANNELS)], ["q"]),
        node("MatMul", ["encoder_hidden_states", weight("to_k", width, CHANNELS)], ["k"]),
        node("MatMul", ["encoder_hidden_states", weight("to_v", width, CHANNELS)], ["v"]),
        node("Transpose", ["k"], ["k_columns"], perm=[0, 2, 1]),
        node("MatMul", ["q", "k_columns"], ["scores"]),
        node("Softmax", ["scores"], ["probabilities"], axis=-1),
        node("MatMul", ["probabilities", "v"], ["mixed"]),
        node("Add", ["rows", "mixed"], ["residual"]),
        node("Transpose", ["residual"], ["mixed_columns"], perm=[0, 2, 1]),
        node("Reshape", ["mixed_columns", ints("map", 2, CHANNELS, SIZE, SIZE)], ["mixed_map"]),
        node("Conv", ["mixed_map", weight("conv_out", 4, CHANNELS, 1, 1)], ["out_sample"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "unet",
        [
            value("sample", TensorProto.FLOAT, [2, 4, SIZE, SIZE]),
            value("timestep", TensorProto.FLOAT, [1]),
            value("encoder_hidden_states", TensorProto.FLOAT, [2, CONTEXT, width]),
        ],
        [value("out_sample", TensorProto.FLOAT, [2, 4, SIZE, SIZE])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
