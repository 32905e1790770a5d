"""Draws with diffusers from embeddings that cliptext-run wrote, and compares the picture with the pipeline's own.

    cliptext-run encode PLAN "a running dog" --negative "blurry" -o cond.npy
    python diffusers_picture.py FOLDER cond.npy
"""

import sys

import numpy as np
import torch
from diffusers import StableDiffusionPipeline


def picture(pipe, **prompts):
    generator = torch.Generator().manual_seed(0)
    shown = pipe(**prompts, num_inference_steps=10, guidance_scale=7.5, generator=generator, output_type="np")
    return shown.images[0]


folder, file = sys.argv[1:]
pipe = StableDiffusionPipeline.from_pretrained(folder)
pipe.set_progress_bar_config(disable=True)
own = picture(pipe, prompt="a running dog", negative_prompt="blurry")
other = picture(pipe, prompt="a boat on the sea", negative_prompt="blurry")

# The hand-over: the pipeline needs no text encoder.
pipe = StableDiffusionPipeline.from_pretrained(folder, text_encoder=None, tokenizer=None)
pipe.set_progress_bar_config(disable=True)
cond, uncond = torch.from_numpy(np.load(file)).split(1)
ours = picture(pipe, prompt_embeds=cond, negative_prompt_embeds=uncond)


def psnr(a, b):
    return 10 * np.log10(1 / np.mean((a - b) ** 2))


print(f"picture against the pipeline's own text encoder: PSNR {psnr(own, ours):.1f} dB")
print(f"two prompts by the pipeline's own, for scale:    PSNR {psnr(own, other):.1f} dB")
