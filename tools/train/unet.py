"""Trains a small UNet that draws emoji of a text: DATA of fetch.py and the CLIP of train.py to OUT/unet.onnx.

    python unet.py DATA CLIP OUT [--steps 20000] [--threads 2] [--resume]

CLIP is a Hugging Face folder with a CLIP or its text model; its last hidden states behind the final norm are what the UNet reads, as in
Stable Diffusion 1. OUT gets `unet.onnx`, `loss.csv`, `loss.svg`, and `state.pt` to go on from.
"""

import argparse
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPTextModel

import run
import vocabulary
from data import TEMPLATES, Batches, Pictures
from unet_model import RECIPE, SIDE, TIMESTEPS, TOKENS, UNet, difference, export

# Unicode's groups of emoji: faces, animals and plants, food, places, activities, objects. Left out: people and hands (1), skin tones (2), signs (8).
GROUPS = {0, 3, 4, 5, 6, 7}
# Captions of a concept, at the most: their hidden states are kept, 10 KB each.
PER_CONCEPT = 6


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("clip", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3, help="AdamW's learning rate at its highest")
    parser.add_argument("--warm-up", type=int, default=200, help="steps until then")
    parser.add_argument("--cool-down", type=float, default=0.2, help="share of the steps, the last ones, in which the rate falls to zero")
    parser.add_argument("--decay", type=float, default=0.999, help="of the moving average of the weights that is exported")
    parser.add_argument("--dropped", type=float, default=0.1, help="share of the pictures that are drawn of the empty prompt, for guidance")
    parser.add_argument("--concepts", type=int, help="only the first so many, to try things")
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="go on from OUT/state.pt")
    parser.add_argument("--stop-at", type=int, help="stop after this step, to go on later")
    return parser.parse_args()


def plain(pictures, trained):
    """Concepts that a small UNet learns first: things, beings and faces with a name of one word, drawn by all artists but two at the most.

    A name of one word ("dog", "pizza") says what is drawn; longer ones say variants of it ("dog face", "service dog"), which differ
    by less than two artists' drawings of one do. Faces have long names all ("grinning face"): of those up to two words.
    """
    drawn = {}
    for number, concept in zip(pictures.set, pictures.concept):
        if number in trained:
            drawn.setdefault(int(concept), set()).add(int(number))
    def is_plain(index, concept):
        words = len(concept["name"].split())
        return concept["group"] in GROUPS and words <= (2 if concept["group"] == 0 else 1) and len(drawn.get(index, ())) >= len(trained) - 2
    return [index for index, concept in enumerate(pictures.concepts) if is_plain(index, concept)]


def captions(concept):
    """The ways to ask for a concept: its name and other names bare and in templates, with a tag or two."""
    names = [concept["name"], *(name for name in concept["names"] if name != concept["name"])]
    asked = [concept["name"], *(template.format(concept["name"]) for template in TEMPLATES[1:4])]
    asked += [*names[1:3], *(f"{concept['name']}, {tag}" for tag in concept["tags"][:2])]
    return list(dict.fromkeys(asked))[:PER_CONCEPT]


def small(pictures, rows):
    """`[rows, 3, 32, 32]` of -1 to 1, on white: the mean of each two by two of the 64 pixels that are looked at."""
    white = torch.from_numpy(pictures.on_white(rows)).permute(0, 3, 1, 2).float()
    return F.avg_pool2d(white, 64 // SIDE) / 127.5 - 1


@torch.no_grad()
def states(folder, tokenizer, texts):
    """`[texts, 77, width]`, in bf16: all are computed once."""
    model = CLIPTextModel.from_pretrained(folder).eval()
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt").input_ids
    found = [model(some).last_hidden_state.bfloat16() for some in ids.split(64)]
    return torch.cat(found)


def main():
    args = arguments()
    generator = run.begin(args.seed, args.threads)
    _, trained = run.sets()
    pictures = Pictures(args.data)
    chosen = plain(pictures, trained)[: args.concepts]
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = vocabulary.write(args.out / "tokenizer")
    # Each concept's captions stand together; the empty prompt is the last.
    texts, first = [], []
    for concept in chosen:
        first.append(len(texts))
        texts += captions(pictures.concepts[concept])
    texts_of = torch.tensor(np.diff([*first, len(texts)]))
    first = torch.tensor(first)
    text = states(args.clip, tokenizer, [*texts, ""])
    place = {concept: at for at, concept in enumerate(chosen)}
    rows = [row for row, (number, concept) in enumerate(zip(pictures.set, pictures.concept)) if number in trained and int(concept) in place]
    concept_of = torch.tensor([place[int(pictures.concept[row])] for row in rows])
    mirrors = torch.tensor([Batches.mirrors(pictures.concepts[concept]) for concept in chosen])
    images = small(pictures, rows)
    del pictures

    width = text.shape[2]
    unet = UNet(width).to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(unet, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(args.decay))
    optimizer = torch.optim.AdamW(run.decayed(unet, 0.01), lr=args.rate, betas=(0.9, 0.99))
    step, spent, history = 0, 0.0, []
    if args.resume:
        state = torch.load(args.out / "state.pt", weights_only=False)
        unet.load_state_dict(state["unet"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent, history = state["step"], state["spent"], state["history"]
        generator.set_state(state["generator"])
    parameters = sum(p.numel() for p in unet.parameters())
    print(f"{len(chosen)} concepts, {len(rows)} pictures, {len(texts)} captions, {parameters / 1e6:.2f} M parameters, from step {step}", flush=True)

    def rate(step):
        """Warm-up, then as high as it may be, and to zero in the end: training can be stopped earlier or later than was planned."""
        falling = args.cool_down * args.steps
        return args.rate * min(1.0, (step + 1) / args.warm_up, (args.steps - step) / max(falling, 1.0))

    def loss_of(count):
        """Flow matching (arXiv:2210.02747, 2209.03003): the way from picture to noise is straight, and its direction is learnt.

        Against v-prediction with min-SNR weights (arXiv:2303.09556): at a noise of 1 nothing of the picture is left, which white
        grounds need (arXiv:2305.08891 mends what other schedules do there), straight ways take few steps, and no weights are to be
        chosen: noises are drawn from a logit-normal distribution, the best of those compared for Stable Diffusion 3
        (arXiv:2403.03206, table 1).
        """
        picked = torch.randint(len(images), (count,), generator=generator)
        concept, x = concept_of[picked], images[picked]
        flipped = mirrors[concept] & (torch.rand(count, generator=generator) < 0.5)
        x = torch.where(flipped[:, None, None, None], x.flip(3), x)
        caption = first[concept] + (torch.rand(count, generator=generator) * texts_of[concept]).long()
        caption[torch.rand(count, generator=generator) < args.dropped] = len(texts)
        noise, share = torch.randn(x.shape, generator=generator), torch.randn(count, generator=generator).sigmoid()
        mixed = torch.lerp(x, noise, share[:, None, None, None]).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            found = unet(mixed, share * TIMESTEPS, text[caption])
        return F.mse_loss(found.float(), noise - x)

    def keep():
        state = {"unet": unet.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "spent": spent,
                 "history": history, "generator": generator.get_state()}
        run.keep(args.out, state, ("step", "loss", "seconds"))

    last = min(args.stop_at or args.steps, args.steps)
    total, counted, since = 0.0, 0, time.monotonic()
    unet.train()
    while step < last:
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        loss = loss_of(args.batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(unet)
        step += 1
        total, counted = total + loss.item(), counted + 1
        if step % 50 == 0 or step == last:
            now = time.monotonic()
            spent, since = spent + now - since, now
            history.append((step, round(total / counted, 4), round(spent, 1)))
            print(f"step {step} of {args.steps}: loss {total / counted:.4f}, {spent / step:.2f} s a step, {spent / 60:.1f} minutes", flush=True)
            total, counted = 0.0, 0
        if step % 500 == 0 or step == last:
            keep()
            since = time.monotonic()
    file = args.out / "unet.onnx"
    # A copy in the usual layout: the trained one stays as it is.
    exported = UNet(width)
    exported.load_state_dict(average.module.state_dict())
    export(exported, width, RECIPE, file)
    print(f"{file}: {file.stat().st_size / 1e6:.2f} MB; ONNX Runtime's output within {difference(exported, width, file):.1e} of PyTorch's, weights in f16")


if __name__ == "__main__":
    main()
