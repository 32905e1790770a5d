"""Trains a small CLIP on emoji: DATA of fetch.py to a Hugging Face folder OUT.

    python train.py DATA OUT [--steps 2700] [--threads 2] [--resume]

OUT has the model, its tokenizer and preprocessing, `loss.csv`, `loss.svg`, and `state.pt` to go on from.
"""

import argparse
import json
import math
import pathlib
import time

import torch

import run
import vocabulary
from data import Batches, Pictures, views
from evaluate import recall
from model import DEVIATION, MEAN, SIDE, Clip, config, word_vectors


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=2700)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1e-3, help="AdamW's learning rate at its highest")
    parser.add_argument("--warm-up", type=int, default=200, help="steps until then")
    parser.add_argument("--whole", type=float, default=0.12, help="share of the steps, the last ones, that see all patches")
    parser.add_argument("--kept", type=float, default=0.75, help="share of the patches that the steps before see")
    parser.add_argument("--text", type=int, nargs=3, default=(64, 4, 4), metavar=("WIDTH", "LAYERS", "HEADS"))
    parser.add_argument("--image", type=int, nargs=3, default=(128, 6, 4), metavar=("WIDTH", "LAYERS", "HEADS"))
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="go on from OUT/state.pt")
    parser.add_argument("--stop-at", type=int, help="stop after this step, to go on later")
    return parser.parse_args()


def main():
    args = arguments()
    generator = run.begin(args.seed, args.threads)
    listed, trained = run.sets()
    pictures = Pictures(args.data)
    batches = Batches(pictures, trained, args.batch, args.seed)
    tokenizer = vocabulary.write(args.out)
    model = Clip(config(args.text, args.image, args.text[0]), word_vectors(args.data / "vectors.npz", tokenizer.get_vocab()), generator)
    optimizer = torch.optim.AdamW(run.decayed(model, 0.1), lr=args.rate, betas=(0.9, 0.98), eps=1e-6)
    step, spent, history = 0, 0.0, []
    if args.resume:
        state = torch.load(args.out / "state.pt", weights_only=False)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent, history = state["step"], state["spent"], state["history"]
        generator.set_state(state["generator"])
        batches.random.setstate(state["random"])
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(f"{len(pictures.concepts)} concepts, {sum(s in trained for s in pictures.set)} pictures, {parameters / 1e6:.2f} M parameters, from step {step}")

    def rate(step):
        """Warm-up, then half a cosine to zero."""
        warm = min(1.0, (step + 1) / args.warm_up)
        return args.rate * warm * 0.5 * (1 + math.cos(math.pi * step / args.steps))

    def keep():
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "spent": spent, "history": history,
                 "generator": generator.get_state(), "random": batches.random.getstate()}
        run.keep(args.out, state, ("step", "loss", "temperature", "seconds"))
        model.save(args.out)

    preprocessing = {"image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": {"shortest_edge": SIDE}, "resample": 3, "do_center_crop": True,
                     "crop_size": {"height": SIDE, "width": SIDE}, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True,
                     "image_mean": MEAN, "image_std": DEVIATION}
    (args.out / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2))
    last = min(args.stop_at or args.steps, args.steps)
    total, since = 0.0, time.monotonic()
    while step < last:
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        rgba, mirror, captions = batches.next(long=step % 16 == 15)
        ids = tokenizer(captions, padding=True, truncation=True, max_length=77, return_tensors="pt").input_ids
        pixels = views(rgba, mirror, SIDE, generator)
        kept = args.kept if step < (1 - args.whole) * args.steps else 1.0
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.loss(pixels, ids, kept)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.clip.logit_scale.clamp_(0, math.log(100))
        step += 1
        total += loss.item()
        if step % 20 == 0 or step == last:
            now = time.monotonic()
            spent, since = spent + now - since, now
            count = (step - 1) % 20 + 1
            history.append((step, round(total / count, 4), round(model.clip.logit_scale.exp().item(), 2), round(spent, 1)))
            print(f"step {step} of {args.steps}: loss {total / count:.3f}, temperature {history[-1][2]}, {spent / 60:.1f} minutes", flush=True)
            total = 0.0
        if step % 500 == 0 or step == last:
            keep()
            for name, figures in recall(model, tokenizer, pictures, listed).items():
                print(f"  {name}: " + ", ".join(f"{key} {value:.3f}" for key, value in figures.items()), flush=True)
            since = time.monotonic()


if __name__ == "__main__":
    main()
