"""Retrieval figures of a model in f32: which of all names is nearest to a picture."""

import numpy as np
import torch
import torch.nn.functional as F

from data import UNSEEN_TEMPLATE


def prompts(concepts):
    """For each wording of the test: [(concept, prompt)].

    `kept`: words that training never had for the concept, alone. `reworded`: they beside two of the tags that it had, without the
    name, under a template that training never had. `renamed`: they and the name under that template.
    """
    wordings = {"reworded": [], "renamed": [], "kept": []}
    for index, concept in enumerate(concepts):
        if concept["kept"]:
            wordings["kept"].append((index, UNSEEN_TEMPLATE.format(", ".join(concept["kept"]))))
            wordings["reworded"].append((index, UNSEEN_TEMPLATE.format(", ".join(concept["kept"] + concept["tags"][:2]))))
            wordings["renamed"].append((index, UNSEEN_TEMPLATE.format(f"{concept['kept'][0]}, {concept['name']}")))
    return wordings


def ranks(similarity, right):
    """How many come before the right one, for each row."""
    own = similarity[torch.arange(len(right)), right].unsqueeze(1)
    return (similarity > own).sum(1)


def figures(similarity, right):
    r = ranks(similarity, torch.as_tensor(right))
    return {f"R@{k}": (r < k).float().mean().item() for k in (1, 5, 10)}


@torch.no_grad()
def recall(model, tokenizer, pictures, sets):
    model.eval()

    def texts(captions):
        ids = tokenizer(captions, padding=True, truncation=True, max_length=77, return_tensors="pt").input_ids
        return F.normalize(torch.cat([model.texts(some) for some in ids.split(512)]), dim=1)

    def images(rows):
        pixels = torch.from_numpy(pictures.on_white(rows)).permute(0, 3, 1, 2).float() / 255
        return F.normalize(torch.cat([model.images(some) for some in pixels.split(512)]), dim=1)

    names = texts([f"a picture of {concept['name']}" for concept in pictures.concepts])
    found, of_set = {}, {}
    for number, entry in enumerate(sets):
        rows = np.flatnonzero(pictures.set == number)
        of_set[entry["set"]] = images(rows), pictures.concept[rows]
        found[f"{entry['set']} ({entry['role']})"] = figures(of_set[entry["set"]][0] @ names.T, pictures.concept[rows])
    trained = [of_set[entry["set"]] for entry in sets if entry["role"] == "train"]
    found["all trained sets"] = figures(torch.cat([e for e, _ in trained]) @ names.T, np.concatenate([c for _, c in trained]))
    # A prompt asks for a concept; its picture is the mean over the sets that were trained on.
    mean = torch.zeros(len(pictures.concepts), names.shape[1])
    for embeddings, concepts in trained:
        mean[torch.as_tensor(concepts)] += embeddings
    mean = F.normalize(mean, dim=1)
    for wording, some in prompts(pictures.concepts).items():
        found[f"prompts, {wording}"] = figures(texts([prompt for _, prompt in some]) @ mean.T, [index for index, _ in some])
    return found
