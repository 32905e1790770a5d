"""Embeddings: the bytes of the board's program, in the shapes that pipelines take."""

import gc
import os
import warnings

import numpy as np
import pytest

from cliptext_encoder import Embeddings, Encoder, Plan

PROMPTS = ["a running dog", "", "Watercolor painting: a fox, in the forest!!", "ä 猫 🐈"]


def test_the_bytes_are_those_of_the_board_program(one_tower, two_towers, cliptext_run, tmp_path):
    for plan in (one_tower, two_towers):
        for options, pad in (([], True), (["--no-pad"], False)):
            for prompt in PROMPTS:
                hidden, pooled = tmp_path / "hidden.npy", tmp_path / "pooled.npy"
                cliptext_run("encode", plan, "--prompt", prompt, "-o", hidden, "--pooled", pooled, *options)
                result = Encoder(plan).encode(prompt, pad=pad)
                assert result.prompt_embeds.tobytes() == np.load(hidden).tobytes(), prompt
                assert result.prompt_embeds.shape == np.load(hidden).shape
                assert result.pooled_prompt_embeds.tobytes() == np.load(pooled).tobytes()


def test_kernels_threads_and_passes_change_nothing(one_tower):
    want = Encoder(one_tower, threads=1).encode(PROMPTS).prompt_embeds
    for threads in (1, 2, 5):
        for kernel in (None, "scalar"):
            encoder = Encoder(one_tower, threads=threads, kernel=kernel)
            assert encoder.threads == threads and kernel in (None, encoder.kernel)
            for row, prompt in zip(want, PROMPTS):
                assert (encoder.encode(prompt).prompt_embeds[0] == row).all()
            assert (encoder.encode(PROMPTS, negative=PROMPTS).negative_prompt_embeds == want).all()


def test_many_short_prompts_share_a_pass_without_padding(encoder):
    prompts = [f"photo {digit}" for digit in range(10)] * 5
    together = encoder.encode(prompts, pad=False).prompt_embeds
    assert together.shape == (50, 4, encoder.width)
    for row, prompt in zip(together, prompts):
        assert (encoder.encode(prompt, pad=False).prompt_embeds[0] == row).all()
        assert (encoder.encode(prompt).prompt_embeds[0, :4] == row).all()


@pytest.mark.skipif("CLIPTEXT_PREFIX_PLAN" not in os.environ, reason="no plan with --prefix-cache was given")
def test_rows_that_are_kept_change_nothing():
    plan = Plan(os.environ["CLIPTEXT_PREFIX_PLAN"])
    typed = Encoder(plan)
    words = "a watercolor painting of a fox".split()
    for end in range(len(words) + 1):
        text = " ".join(words[:end])
        for options in ({}, {"pad": False}, {"negative": "blurry"}, {"weights": "comfy", "chunks": "auto"}):
            want = Encoder(plan).encode(text, **options).arrays(pooled=True)
            for name, array in typed.encode(text, **options).arrays(pooled=True).items():
                assert (array == want[name]).all(), f"{text}, {options}"


def test_shapes_and_names(encoder):
    alone = encoder.encode("a dog")
    assert alone.prompt_embeds.shape == (1, 77, 32) and alone.prompt_embeds.dtype == np.float32
    assert alone.negative_prompt_embeds is None and alone.negative_pooled_prompt_embeds is None
    assert list(alone.arrays()) == ["prompt_embeds"]
    both = encoder.encode(["a dog", "a cat"], negative="blurry")
    assert list(both.arrays()) == ["prompt_embeds", "negative_prompt_embeds"]
    assert list(both.arrays(pooled=True)) == [
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    ]
    assert {array.shape for array in both.arrays(pooled=True).values()} == {(2, 77, 32), (2, 32)}
    assert (both.negative_prompt_embeds[0] == both.negative_prompt_embeds[1]).all()
    assert (both.batch() == np.concatenate([both.negative_prompt_embeds, both.prompt_embeds])).all()
    assert (both.batch(prompt_first=True) == np.concatenate([both.prompt_embeds, both.negative_prompt_embeds])).all()
    each = encoder.encode(["a dog", "a cat"], negative=["blurry", ""])
    assert (each.negative_prompt_embeds[1] == encoder.encode("").prompt_embeds[0]).all()
    assert repr(alone) == "<cliptext_encoder.Embeddings: prompt_embeds [1, 77, 32], pooled_prompt_embeds [1, 32]>"


def test_embeddings_that_are_not_there_are_told(encoder):
    with pytest.raises(ValueError, match='a batch needs a negative prompt: encode\\(..., negative=""\\)'):
        encoder.encode("a dog").batch()
    with pytest.raises(ValueError, match=r"prompts \[1, 4, 32\] and negative prompts \[1, 2, 32\] don't fit one array"):
        encoder.encode("a dog", negative="", pad=False).batch()
    with pytest.raises(ValueError, match="the plan has no pooled output"):
        Embeddings(np.zeros((1, 77, 32), np.float32)).arrays(pooled=True)


def test_results_own_their_memory_and_can_be_written(one_tower):
    encoder = Encoder(one_tower)
    result = encoder.encode("a dog", negative="blurry")
    copies = {name: array.copy() for name, array in result.arrays(pooled=True).items()}
    encoder.encode("something else", negative="entirely")
    del encoder
    gc.collect()
    for name, array in result.arrays(pooled=True).items():
        assert (array == copies[name]).all() and array.flags.writeable and array.flags.aligned
        array += 1


def test_tokens(encoder):
    assert encoder.tokenize("a running dog") == [49406, 320, 2761, 1929, 49407]
    padded = encoder.tokenize("a running dog", pad=True)
    assert len(padded) == encoder.context == 77 and padded[4:] == [49407] * 73
    assert encoder.plan.tokenize("a running dog", pad=True) == padded


def test_a_plan_tells_what_it_is(one_tower, two_towers):
    plan = Plan(one_tower)
    assert (plan.context, plan.width, plan.pooled_width, plan.projected, plan.logit_scale) == (77, 32, 32, False, None)
    assert plan.file_bytes == one_tower.stat().st_size and plan.source == "synthetic tower, seed 77"
    assert plan.producer.startswith("cliptext ") and len(plan.hash) == 64 and plan.arena_bytes(2) > plan.arena_bytes()
    assert Encoder(plan).plan_hash == plan.hash == Plan(one_tower, read=True).hash == Plan.from_bytes(one_tower.read_bytes()).hash
    assert Plan(two_towers).projected and Plan(two_towers).logit_scale == 100 and Plan(two_towers).hash != plan.hash
    assert str(one_tower) in repr(Encoder(plan))


def test_mapped_read_and_copied_plans_are_the_same(one_tower):
    want = Encoder(one_tower).encode("a dog").prompt_embeds
    for plan in (Plan(one_tower, read=True), Plan.from_bytes(memoryview(one_tower.read_bytes()))):
        assert (Encoder(plan).encode("a dog").prompt_embeds == want).all()


def test_torch_has_the_same_memory(encoder):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    result = encoder.encode("a dog", negative="")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensors = result.torch(pooled=True)
    assert list(tensors) == list(result.arrays(pooled=True))
    assert tensors["prompt_embeds"].data_ptr() == result.prompt_embeds.ctypes.data
    assert result.torch(dtype=torch.float16)["prompt_embeds"].dtype == torch.float16
