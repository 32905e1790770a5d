"""Weights, chunks, and prompts that are too long."""

import re
import warnings

import numpy as np
import pytest

from cliptext_encoder import Plan, PromptTruncated

LONG = " ".join(["dog"] * 80)


def raises(error, message):
    return pytest.raises(error, match="^" + re.escape(message) + "$")


@pytest.fixture(autouse=True)
def nothing_unsaid():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_what_does_not_fit_is_told(encoder):
    with pytest.warns(PromptTruncated) as told:
        result = encoder.encode(LONG + " the last words")
    assert [str(warning.message) for warning in told] == [
        "prompt: cut to 77 tokens, chunks=\"auto\" takes all of it: without 'dog dog dog dog dog the last words'"
    ]
    assert told[0].filename == __file__
    assert result.prompt_embeds.shape == (1, 77, 32)
    with pytest.warns(PromptTruncated) as told:
        encoder.encode(["a", LONG], negative=[LONG, "b"])
    assert [str(warning.message).split(":")[0] for warning in told] == ["prompt[1]", "negative[0]"]
    with pytest.warns(PromptTruncated, match="^prompt: cut to 2 chunks of 77 tokens: without 'dog dog"):
        encoder.encode(f"{LONG} {LONG}", chunks=2)
    with pytest.warns(PromptTruncated, match="^text: cut to 77 tokens") as told:
        assert len(encoder.tokenize(LONG)) == 77
    assert told[0].filename == __file__
    with pytest.warns(PromptTruncated, match="^prompt: cut to 77 tokens, .*: without '.{200}…'$"):
        encoder.encode("dog " * 500)


def test_chunks_are_encoded_by_themselves_and_joined(encoder):
    result = encoder.encode("a dog BREAK a cat", negative="blurry", chunks="auto")
    parts = encoder.encode(["a dog", "a cat"])
    assert result.prompt_embeds.shape == result.negative_prompt_embeds.shape == (1, 154, 32)
    assert (result.prompt_embeds[0] == np.concatenate(parts.prompt_embeds)).all()
    negatives = encoder.encode(["blurry", ""])
    assert (result.negative_prompt_embeds[0] == np.concatenate(negatives.prompt_embeds)).all()
    assert (result.pooled_prompt_embeds[0] == parts.pooled_prompt_embeds[0]).all()
    long = encoder.encode([LONG, "a cat"], chunks="auto").prompt_embeds
    assert long.shape == (2, 154, 32)
    assert (long[0, :77] == encoder.encode(" ".join(["dog"] * 75)).prompt_embeds[0]).all()
    assert (long[0, 77:] == encoder.encode(" ".join(["dog"] * 5)).prompt_embeds[0]).all()
    assert encoder.encode("a dog", chunks=3).prompt_embeds.shape == (1, 231, 32)
    assert (encoder.encode("a dog", chunks=1).prompt_embeds == encoder.encode("a dog").prompt_embeds).all()


@pytest.mark.parametrize("weights", ["none", "a1111", "comfy"])
def test_the_bytes_are_those_of_the_board_program(encoder, one_tower, cliptext_run, tmp_path, weights):
    prompt, negative = f"a (dog:1.3) and ((cat)), {LONG}, (bird:0.7)", "[blurry] (low quality:1.4)"
    file = tmp_path / "both.npy"
    options = ["--weights", weights, "--chunks", "auto"]
    cliptext_run("encode", one_tower, "--prompt", prompt, "--negative", negative, "-o", file, *options)
    result = encoder.encode(prompt, negative=negative, weights=weights, chunks="auto")
    assert result.batch(prompt_first=True).shape == (2, 154, 32)
    assert result.batch(prompt_first=True).tobytes() == np.load(file).tobytes()


def test_how_a_prompt_is_read(one_tower):
    plan = Plan(one_tower)
    ids = plan.tokenize("a dog")[1:-1]
    assert plan.chunks("a dog BREAK a dog") == [(ids, [1, 1])] * 2
    assert [len(ids) for ids, _ in plan.chunks(LONG)] == [75, 5]
    with_comma = " ".join(["dog"] * 70) + ", " + " ".join(["cat"] * 10)
    assert [len(ids) for ids, _ in plan.chunks(with_comma)] == [75, 6]
    assert [len(ids) for ids, _ in plan.chunks(with_comma, comma_backtrack=20)] == [71, 10]
    text = plan.tokenize("(dog:1.5)")[1:-1]
    assert plan.chunks("(dog:1.5)") == [(text, [1] * len(text))]


def test_a1111_restores_the_mean(encoder):
    plain = encoder.encode("a dog").prompt_embeds[0].astype(np.float64)
    weights = np.ones((77, 1))
    weights[2] = 1.5  # start, a, dog
    want = plain * weights
    want *= plain.mean() / want.mean()
    result = encoder.encode("a (dog:1.5)", weights="a1111")
    assert np.abs(result.prompt_embeds[0] - want).max() < 1e-4
    assert encoder.plan.chunks("a (dog:1.5)", weights="a1111") == [(encoder.tokenize("a dog")[1:-1], [1, 1.5])]


def test_comfy_goes_from_the_empty_prompt(encoder):
    plain, empty = encoder.encode(["a dog", ""]).prompt_embeds.astype(np.float64)
    weights = np.ones((77, 1))
    weights[2] = 1.5
    want = (plain - empty) * weights + empty
    for _ in range(2):
        result = encoder.encode("a (dog:1.5)", negative="(dog:0.5)", weights="comfy")
        assert np.abs(result.prompt_embeds[0] - want).max() < 1e-4


def test_options_that_do_not_do(encoder):
    with pytest.raises(ValueError, match="^weights=sdxl: expected `none`, `a1111` or `comfy`$"):
        encoder.encode("a", weights="sdxl")
    with raises(ValueError, "chunks=0: expected `auto` or a number of chunks from 1"):
        encoder.encode("a", chunks=0)
    with raises(ValueError, "chunks=many: expected `auto` or a number of chunks from 1"):
        encoder.encode("a", chunks="many")
    with raises(ValueError, "prompt: 9 chunks were asked for, a prompt has 1 to 8"):
        encoder.encode("a", chunks=9)
    with raises(ValueError, f"prompt: the prompt takes more than 8 chunks, the most: there is no room from byte {600 * 4} on"):
        encoder.encode("dog " * 700, chunks="auto")
    with raises(TypeError, 'chunks must be an int, "auto" or None, not float'):
        encoder.encode("a", chunks=2.0)
    with raises(TypeError, "weights must be a str, not NoneType"):
        encoder.encode("a", weights=None)
    with raises(ValueError, "comma_backtrack is a number of tokens, 0 to 255, not -1"):
        encoder.encode("a", chunks=2, comma_backtrack=-1)
    with raises(ValueError, 'comma_backtrack has an effect on chunks, and weights="a1111", only'):
        encoder.encode("a", comma_backtrack=20)
    with raises(ValueError, "pad=False: prompts with weights or in chunks are always padded"):
        encoder.encode("a", pad=False, chunks=2)


def test_texts_that_do_not_do(encoder):
    with raises(
        ValueError,
        "prompt[1]: the weight of the text at byte 2000 is infinite or no number: give it one that is finite",
    ):
        encoder.encode(["a", "(" * 2000 + "dog" + ")" * 2000], weights="a1111")
    with raises(
        ValueError,
        "negative: the weight at byte 3 is no number: write one such as 1.3, or \\( for a bracket that is text",
    ):
        encoder.encode("a", negative="(a:1.2.3)", weights="a1111")
    with raises(ValueError, "text: 9 chunks were asked for, a prompt has 1 to 8"):
        encoder.plan.chunks("a", chunks=9)
