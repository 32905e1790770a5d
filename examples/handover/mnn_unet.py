"""Runs a UNet in MNN, as local-dream does, on raw embeddings that cliptext-run wrote: f32 [2, 77, width], the negative first.

    cliptext-run encode PLAN "a running dog" --negative "blurry" --order negative-first -o both.f32
    mnnconvert -f ONNX --modelFile unet.onnx --MNNModel unet.mnn --bizCode example
    python mnn_unet.py unet.mnn both.f32
"""

import sys

import MNN.expr as F
import MNN.nn as nn
import numpy as np

unet, file = sys.argv[1:]
net = nn.load_module_from_file(unet, ["sample", "timestep", "encoder_hidden_states"], ["out_sample"])
latents = np.random.default_rng(0).standard_normal((1, 4, 16, 16), dtype=np.float32)
states = np.fromfile(file, "<f4").reshape(2, 77, -1)


def variable(array, format=F.NCHW):
    return F.convert(F.const(array.flatten().tolist(), list(array.shape), F.NCHW, F.float), format)


timestep = F.const([500], [1], F.NCHW, F.int)
noise = net.forward([variable(np.concatenate([latents, latents])), timestep, variable(states)])
uncond, cond = F.convert(noise[0] if isinstance(noise, list) else noise, F.NCHW).read()
print("predicted noise", (uncond + 7.5 * (cond - uncond)).ravel()[:4])
