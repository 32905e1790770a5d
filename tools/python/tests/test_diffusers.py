"""The hand-over to diffusers: the same picture from the arrays as from the files of the board's program."""

import numpy as np
import pytest

from cliptext_encoder import Encoder

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")


def pipeline(width):
    """A small Stable Diffusion pipeline of random weights, without a text encoder."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=8,
    )
    vae = diffusers.AutoencoderKL(block_out_channels=(32,), latent_channels=4)
    pipe = diffusers.StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        scheduler=diffusers.DDIMScheduler(clip_sample=False, steps_offset=1),
        text_encoder=None,
        tokenizer=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)

    def draw(**embeds):
        generator = torch.Generator().manual_seed(1)
        return pipe(**embeds, num_inference_steps=3, height=64, width=64, generator=generator, output_type="np").images[0]

    return draw


def test_a_pipeline_takes_the_arrays(one_tower, cliptext_run, tmp_path):
    draw = pipeline(width=32)
    picture = draw(**Encoder(one_tower).encode("a running dog", negative="blurry").torch())
    file = tmp_path / "both.npy"
    cliptext_run("encode", one_tower, "--prompt", "a running dog", "--negative", "blurry", "-o", file)
    cond, uncond = torch.from_numpy(np.load(file)).split(1)
    assert (picture == draw(prompt_embeds=cond, negative_prompt_embeds=uncond)).all()
    assert (picture != draw(**Encoder(one_tower).encode("a castle", negative="blurry").torch())).any()


def test_a_batch_is_what_diffusers_makes_of_both(one_tower):
    result = Encoder(one_tower).encode("a running dog", negative="blurry", chunks="auto")
    tensors = result.torch()
    both = torch.cat([tensors["negative_prompt_embeds"], tensors["prompt_embeds"]])
    assert (torch.from_numpy(result.batch()) == both).all()
