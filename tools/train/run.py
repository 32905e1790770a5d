"""What both trainings do alike: how they begin, what decays, what is kept to go on from."""

import csv
import json
import pathlib

import torch

import curve

HERE = pathlib.Path(__file__).parent


def begin(seed, threads):
    """Sets PyTorch up; gives the generator of everything that is drawn."""
    torch.set_num_threads(threads)
    # AdamW's moments of what is trained seldom, as the words of few captions, become denormal numbers, which the CPU is slow at.
    torch.set_flush_denormal(True)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


def sets():
    """The sets of packages.json, and the numbers of those that are trained on."""
    listed = json.loads((HERE / "packages.json").read_text())["sets"]
    return listed, {number for number, entry in enumerate(listed) if entry["role"] == "train"}


def decayed(model, decay):
    """AdamW's groups: weights decay, gains, biases and a temperature do not (CLIP's paper, appendix F)."""
    trained = [p for p in model.parameters() if p.requires_grad]
    weights, others = [p for p in trained if p.ndim >= 2], [p for p in trained if p.ndim < 2]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def keep(out, state, columns):
    """Writes `state.pt`, and of its history, rows that begin with step and loss, `loss.csv` and `loss.svg`."""
    torch.save(state, out / "state.tmp")
    (out / "state.tmp").rename(out / "state.pt")
    with open(out / "loss.csv", "w", newline="") as file:
        csv.writer(file).writerows([columns, *state["history"]])
    curve.write(out / "loss.svg", [row[:2] for row in state["history"]])
