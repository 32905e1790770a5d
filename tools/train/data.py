"""Pictures and captions of fetch.py, and the views of them that training takes."""

import json
import random

import numpy as np
import torch
import torch.nn.functional as F

TEMPLATES = ["{}", "a picture of {}", "a picture of a {}", "a photo of a {}", "a photo of {}", "an emoji of {}", "{} emoji", "a drawing of a {}",
             "an icon of a {}", "the {}", "a small picture of a {}", "an illustration of {}"]
# Never trained on.
UNSEEN_TEMPLATE = "this one shows {}"
# Consecutive concepts that come into a batch together; 1 draws freely. Neighbours look alike and are harder to tell apart: with 4 the beginning is slower.
NEIGHBOURS = 1


class Pictures:
    def __init__(self, folder):
        stored = np.load(folder / "pictures.npz")
        self.set, self.concept = stored["set"], stored["concept"]
        self.source = torch.from_numpy(stored["source"])
        self.side = stored["side"]
        self.concepts = json.loads((folder / "concepts.json").read_text())

    def on_white(self, rows):
        """What is looked at when training is over: `[rows, 64, 64, 3]` bytes on white."""
        rgba = self.side[rows].astype(np.uint16)
        alpha = rgba[..., 3:]
        return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


class Batches:
    """Batches of distinct concepts, each with one of its pictures from the sets that are trained on and one caption."""

    def __init__(self, pictures, train_sets, batch, seed):
        self.pictures, self.batch = pictures, batch
        self.random = random.Random(seed)
        self.rows = [[] for _ in pictures.concepts]
        for row, (number, concept) in enumerate(zip(pictures.set, pictures.concept)):
            if number in train_sets:
                self.rows[concept].append(row)

    def concepts(self):
        count = len(self.rows)
        start = self.random.randrange(NEIGHBOURS)
        blocks = [[(start + i + j) % count for j in range(NEIGHBOURS)] for i in range(0, count - NEIGHBOURS + 1, NEIGHBOURS)]
        self.random.shuffle(blocks)
        return [concept for block in blocks for concept in block][: self.batch]

    def caption(self, concept, long):
        tags, names, r = concept["tags"], concept["names"], self.random
        if long:
            words = r.sample(tags, min(len(tags), r.randint(4, 24))) + [concept["name"]]
            r.shuffle(words)
            return ", ".join(words)
        kind = r.random()
        if kind < 0.45 or not tags:
            return r.choice(TEMPLATES).format(concept["name"])
        if kind < 0.65:
            return r.choice(TEMPLATES).format(r.choice(names))
        some = r.sample(tags, min(len(tags), r.randint(1, 4)))
        if kind < 0.85:
            some.insert(r.randrange(len(some) + 1), r.choice(names))
        return r.choice(TEMPLATES).format(r.choice([", ", " ", " and "]).join(some))

    def next(self, long):
        concepts = self.concepts()
        captions = [self.caption(self.pictures.concepts[c], long) for c in concepts]
        rows = [self.random.choice(self.rows[c]) for c in concepts]
        mirror = torch.tensor([self.mirrors(self.pictures.concepts[c]) for c in concepts])
        return self.pictures.source[rows], mirror, captions

    @staticmethod
    def mirrors(concept):
        """Whether the mirrored picture still is what its name says: not letters, clocks or arrows."""
        return concept["group"] not in (8,) and not {"left", "right", "clock", "o"}.intersection(concept["name"].split())


def views(rgba, mirror, side, generator):
    """Pictures as another artist might have drawn them: `[n, 3, side, side]` floats of 0 to 1 from `[n, s, s, 4]` bytes.

    Turned, scaled, sheared, moved, mirrored; on white, on a colour or a gradient; brightness, contrast, saturation and hue changed;
    some with dark outlines, some in fewer colours, some grey.
    """
    n = len(rgba)

    def uniform(low, high, *shape):
        return torch.rand(n, *shape, generator=generator) * (high - low) + low

    def chance(probability):
        return (torch.rand(n, generator=generator) < probability).float()

    x = rgba.permute(0, 3, 1, 2).float() / 255
    x[:, :3] *= x[:, 3:]
    # A quarter stands as it was drawn: that is how it is looked at later.
    moved = chance(0.75)
    angle = (uniform(-0.45, 0.45) * moved).float()
    scale = 1 + (uniform(-0.12, 0.45)) * moved
    wide = 1 + uniform(-0.12, 0.12) * moved
    shear = uniform(-0.2, 0.2) * moved
    flip = 1 - 2 * chance(0.5) * mirror.float()
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack([torch.stack([cos * wide * flip, -sin + shear, uniform(-0.2, 0.2) * moved], 1),
                         torch.stack([sin * flip, cos / wide, uniform(-0.2, 0.2) * moved], 1)], 1)
    x = F.grid_sample(x, F.affine_grid(theta, (n, 4, side, side), align_corners=False), align_corners=False)
    colour, alpha = x[:, :3], x[:, 3:]
    # Dark outlines, around the figure and along its edges within.
    outlined = (chance(0.35) * uniform(0.4, 1.0)).view(n, 1, 1, 1)
    flat = colour + 0.9 * (1 - alpha)
    dx = (flat[..., 1:] - flat[..., :-1]).abs().amax(1, keepdim=True)
    dy = (flat[..., 1:, :] - flat[..., :-1, :]).abs().amax(1, keepdim=True)
    edge = (F.pad(dx, (0, 1)) + F.pad(dy, (0, 0, 0, 1))).clamp(0, 1)
    edge = (F.max_pool2d(edge, 3, 1, 1) * 2.5 - 0.4).clamp(0, 1) * outlined
    grown = torch.maximum(alpha, F.max_pool2d(alpha, 3, 1, 1) * outlined)
    colour = colour * (1 - edge)
    alpha = grown
    # Brightness, contrast, saturation, a turn of the hue by mixing of channels.
    grey = colour.mean(1, keepdim=True)
    saturation = torch.where(chance(0.1).bool(), torch.zeros(n), uniform(0.5, 1.5)).view(n, 1, 1, 1)
    colour = grey + (colour - grey) * saturation
    turned = (chance(0.3) * uniform(0.0, 0.35)).view(n, 1, 1, 1)
    colour = colour * (1 - turned) + colour.roll(1, 1) * turned
    contrast = uniform(0.7, 1.3).view(n, 1, 1, 1)
    middle = 0.5 * alpha
    colour = (middle + (colour - middle) * contrast + uniform(-0.12, 0.12).view(n, 1, 1, 1) * alpha)
    colour = torch.minimum(colour.clamp(min=0), alpha)
    # Half on white, the others on a colour that may run into a second one.
    white = chance(0.55).view(n, 1, 1, 1)
    ramp = torch.linspace(0, 1, side).view(1, 1, side, 1)
    ground = uniform(0, 1, 3, 1, 1) * (1 - ramp) + uniform(0, 1, 3, 1, 1) * ramp
    ground = white + (1 - white) * ground
    x = colour + ground * (1 - alpha)
    levels = torch.where(chance(0.2).bool(), uniform(3, 8).round(), torch.full((n,), 255.0)).view(n, 1, 1, 1)
    x = (x * levels).round() / levels
    return (x + 0.03 * chance(0.3).view(n, 1, 1, 1) * torch.randn(x.shape, generator=generator)).clamp(0, 1)
