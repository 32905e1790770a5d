"""Prompt packs: the embeddings that the board's program put into them, without a plan."""

import pickle
import re

import numpy as np
import pytest

from cliptext_encoder import Encoder, Pack, PackEntry, PackError, Plan, PromptTruncated

LONG = "dog " * 80 + "the end"


@pytest.fixture(scope="module")
def pack_file(one_tower, cliptext_run, tmp_path_factory):
    def make(*options):
        folder = tmp_path_factory.mktemp("packs")
        prompts = folder / "prompts.txt"
        prompts.write_text(f"dog\ta running dog\nbad\tblurry\n猫\ta cat\nlong\t{LONG}\n", encoding="utf-8")
        cliptext_run("pack", one_tower, "--prompts", prompts, "-o", folder / "x.pack", *options)
        return folder / "x.pack"

    return make


def test_entries_are_what_the_encoder_gives(pack_file, one_tower, encoder):
    file = pack_file()
    for pack in (Pack(file), Pack(file, read=True), Pack.from_bytes(file.read_bytes())):
        assert list(pack) == ["bad", "dog", "long", "猫"] and len(pack) == 4
        assert (pack.width, pack.pooled_width, pack.plan_hash) == (32, 32, Plan(one_tower).hash)
        assert pack.source == encoder.plan.source and pack.producer.startswith("cliptext ")
        want = encoder.encode("a running dog", negative="blurry").arrays(pooled=True)
        given = pack.embeddings("dog", negative="bad").arrays(pooled=True)
        assert list(given) == list(want)
        for name, array in given.items():
            assert array.tobytes() == want[name].tobytes() and array.shape == want[name].shape and array.flags.writeable
        assert (pack["dog"].prompt_embeds == want["prompt_embeds"]).all() and pack["dog"].negative_prompt_embeds is None
        assert "dog" in pack and "cat" not in pack and 7 not in pack and dict(pack).keys() == set(pack)


def test_what_an_entry_is_of(pack_file, encoder):
    pack = Pack(pack_file("--no-pad"))
    assert pack.entry("dog") == PackEntry("dog", "a running dog", pack.entry("dog").options, encoder.tokenize("a running dog"), None)
    with pytest.warns(PromptTruncated):
        want = encoder.tokenize(LONG)
    long = pack.entry("long")
    assert long.ids == want and long.dropped == "dog dog dog dog dog the end"
    assert pack["dog"].prompt_embeds.shape == (1, 5, 32)


def test_half_precision_comes_out_as_it_is_stored(pack_file, encoder):
    half = Pack(pack_file("--dtype", "f16"))["dog"].prompt_embeds
    want = encoder.encode("a running dog").prompt_embeds.astype(np.float16)
    assert half.dtype == np.float32 and (half == want.astype(np.float32)).all()


def test_errors(pack_file, one_tower, tmp_path):
    file = pack_file()
    pack = Pack(file)
    for work in (lambda: pack["cat"], lambda: pack.entry("cat"), lambda: pack.embeddings("dog", negative="cat")):
        with pytest.raises(KeyError, match="cat"):
            work()
    with pytest.raises(TypeError, match="^a Pack can't be pickled: give the other process its path"):
        pickle.dumps(pack)
    path = tmp_path / "x.pack"
    good = file.read_bytes()
    for data in (b"", good[:-1], good + b"\n", good[:8] + b"\x63" + good[9:], one_tower.read_bytes()):
        path.write_bytes(data)
        for read in (False, True):
            with pytest.raises(PackError, match=f"^{re.escape(str(path))}: .*pack"):
                Pack(path, read=read)
    with pytest.raises(PackError, match="^the pack's bytes: .*damaged"):
        Pack.from_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ValueError, match="plan"):
        Encoder(file)
