"""Runs a UNet in ONNX Runtime on embeddings that cliptext-run wrote: one step with classifier-free guidance.

    cliptext-run encode PLAN "a running dog" --negative "blurry" --order negative-first -o both.npy
    python onnxruntime_unet.py unet.onnx both.npy
"""

import sys

import numpy as np
import onnxruntime

unet, file = sys.argv[1:]
session = onnxruntime.InferenceSession(unet)
latents = np.random.default_rng(0).standard_normal((1, 4, 16, 16), dtype=np.float32)
noise = session.run(None, {
    "sample": np.concatenate([latents, latents]),
    "timestep": np.array([500]),
    "encoder_hidden_states": np.load(file),  # [2, 77, width], the negative first
})[0]
uncond, cond = noise
print("predicted noise", (uncond + 7.5 * (cond - uncond)).ravel()[:4])
