"""Training on pictures of plain colours: `pytest tools/train`. Needs requirements.txt's packages, not the emoji."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))

import vocabulary  # noqa: E402
from data import Batches, Pictures, views  # noqa: E402
from evaluate import figures, prompts  # noqa: E402
from model import Clip, config, word_vectors  # noqa: E402

COLOURS = {"red": (255, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 255), "yellow": (240, 220, 0), "black": (0, 0, 0), "white": (255, 255, 255),
           "pink": (255, 150, 190), "grey": (128, 128, 128)}
TINY = ["--batch", "8", "--text", "16", "2", "2", "--image", "16", "2", "2", "--threads", "1", "--warm-up", "2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder as fetch.py makes it: discs of eight colours by two artists and one for the test."""
    folder = tmp_path_factory.mktemp("data")
    pictures = {"set": [], "concept": [], "source": [], "side": []}
    for number in (0, 1, 7):
        for index, colour in enumerate(COLOURS.values()):
            for name, side in (("source", 80), ("side", 64)):
                y, x = np.mgrid[:side, :side] / side - 0.5
                alpha = ((x**2 + y**2 < (0.2 + 0.02 * number)) * 255).astype(np.uint8)
                pictures[name].append(np.dstack([np.full((side, side), c, np.uint8) for c in colour] + [alpha]))
            pictures["set"].append(number)
            pictures["concept"].append(index)
    np.savez(folder / "pictures.npz", **{name: np.array(values) for name, values in pictures.items()})
    concepts = [{"name": name, "names": [name], "tags": ["colour", "disc"], "kept": ["hue"], "group": 0, "code": name} for name in COLOURS]
    (folder / "concepts.json").write_text(json.dumps(concepts))
    np.savez(folder / "vectors.npz", words=np.array(list(COLOURS)), vectors=np.eye(8, 100, dtype=np.float32))
    return folder


def train(data, out, *options):
    subprocess.run([sys.executable, HERE / "train.py", data, out, *TINY, *options], check=True, stdout=subprocess.DEVNULL)


def clip(data, folder):
    vectors = word_vectors(data / "vectors.npz", vocabulary.write(folder).get_vocab())
    torch.manual_seed(0)
    return Clip(config((16, 2, 2), (16, 2, 2), 16), vectors, torch.Generator().manual_seed(0))


def test_every_weight_moves(data, tmp_path):
    tokenizer = vocabulary.write(tmp_path)
    model = clip(data, tmp_path)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2, weight_decay=0.0)
    batches, generator = Batches(Pictures(data), {0, 1}, 8, 1), torch.Generator().manual_seed(1)
    for _ in range(2):
        rgba, mirror, captions = batches.next(long=False)
        ids = tokenizer(captions, padding=True, return_tensors="pt").input_ids
        optimizer.zero_grad()
        model.loss(views(rgba, mirror, 64, generator), ids, 1.0).backward()
        optimizer.step()
    assert len(before) > 60
    still = [name for name, p in model.named_parameters() if p.requires_grad and torch.equal(p, before[name])]
    assert not still


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(data, tmp_path):
    train(data, tmp_path / "whole", "--steps", "6")
    train(data, tmp_path / "parts", "--steps", "6", "--stop-at", "3")
    train(data, tmp_path / "parts", "--steps", "6", "--resume")
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (tmp_path / "parts/model.safetensors").read_bytes()


def test_transformers_reads_what_was_trained(data, tmp_path):
    from transformers import CLIPModel

    tokenizer = vocabulary.write(tmp_path)
    model = clip(data, tmp_path).eval()
    model.save(tmp_path)
    theirs = CLIPModel.from_pretrained(tmp_path).eval()
    encoded = tokenizer(["a running dog", "red"], padding=True, return_tensors="pt")
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        out = theirs(**encoded, pixel_values=(pixels - model.mean) / model.deviation)
        texts = torch.nn.functional.normalize(model.texts(encoded.input_ids), dim=1)
        images = torch.nn.functional.normalize(model.images(pixels), dim=1)
    assert (out.text_embeds - texts).abs().max() < 1e-5 and (out.image_embeds - images).abs().max() < 1e-5
    assert abs(out.logits_per_image[0, 0] - (model.clip.logit_scale.exp() * images[0] @ texts[0])) < 1e-4


def test_the_loss_is_the_paper_s():
    """Figure 3 of arXiv:2103.00020, written out."""
    generator = torch.Generator().manual_seed(3)
    images, texts = (torch.randn(5, 16, generator=generator) for _ in range(2))

    class Fixed(Clip):
        def __init__(self):
            torch.nn.Module.__init__(self)
            self.clip = torch.nn.Module()
            self.clip.logit_scale = torch.nn.Parameter(torch.tensor(1.3))

        def images(self, *_):
            return images

        def texts(self, *_):
            return texts

    i, t = (x / x.norm(dim=1, keepdim=True) for x in (images, texts))
    logits = (i @ t.T * np.exp(1.3)).numpy()
    def entropy(rows):
        return np.mean([np.log(np.exp(row).sum()) - row[n] for n, row in enumerate(rows)])
    want = (entropy(logits) + entropy(logits.T)) / 2
    assert abs(Fixed().loss(None, list(range(5)), 1.0).item() - want) < 1e-5


def test_words_that_were_kept_back_are_in_no_caption():
    concept = {"name": "dog face", "names": ["dog", "dog face"], "tags": ["animal", "pet", "snout"], "kept": ["puppy"], "group": 3}
    batches = Batches.__new__(Batches)
    import random
    batches.random = random.Random(5)
    captions = [batches.caption(concept, long) for long in (False, True) for _ in range(300)]
    assert not any("puppy" in caption for caption in captions) and any("snout" in caption for caption in captions)
    wordings = prompts([concept])
    assert all("puppy" in text for some in wordings.values() for _, text in some)
    assert not {text for some in wordings.values() for _, text in some}.intersection(captions)


def test_recall_counts_what_comes_before():
    similarity = torch.tensor([[0.1, 0.9, 0.3], [0.5, 0.2, 0.4], [0.0, 0.0, 0.1]])
    found = figures(similarity, [1, 1, 2])
    assert abs(found["R@1"] - 2 / 3) < 1e-6 and found["R@5"] == 1.0
