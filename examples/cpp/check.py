#!/usr/bin/env python3
"""Whether unet.cpp computed what ONNX Runtime computes from Python: check.py UNET.onnx STATES.npy GUIDED.f32

STATES.npy is what `cliptext-run encode PLAN PROMPT NEGATIVE -o STATES.npy` wrote.
"""
import sys

import numpy as np
import onnxruntime

unet, states, guided = sys.argv[1:]
session = onnxruntime.InferenceSession(unet, providers=["CPUExecutionProvider"])
prompt, negative = np.load(states)
shape = session.get_inputs()[0].shape
half = int(np.prod(shape[1:]))
index = np.arange(half, dtype=np.uint64)
row = ((index * 2654435761) % 2**32).astype(np.float32) / np.float32(2**31) - np.float32(1)
sample = np.stack([row, row]).reshape(shape)


def guide(first, second):
    feeds = {"sample": sample, "timestep": np.array([500], np.float32), "encoder_hidden_states": np.stack([first, second])}
    uncond, cond = session.run(None, feeds)[0]
    return (uncond + np.float32(7.5) * (cond - uncond)).ravel()


expected, swapped = guide(negative, prompt), guide(prompt, negative)
found = np.fromfile(guided, np.float32)
apart = np.abs(found - expected).max() / np.abs(expected).max()
other = np.abs(swapped - expected).max() / np.abs(expected).max()
print(f"{found.size} values, apart by {apart:.1e} of the largest; the prompts swapped: {other:.1e}")
assert found.size == half and apart < 1e-5, "the program's result is another"
assert other > 1e-2, "the UNet does not answer to the embeddings: this check could not fail"
