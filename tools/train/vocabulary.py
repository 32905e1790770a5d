"""CLIP's tokenizer, from the merge list in models/vocabulary."""

import json
import pathlib

from transformers import CLIPTokenizerFast

MERGES = pathlib.Path(__file__).parents[2] / "models/vocabulary/merges.txt"


def tokens(merges):
    """CLIP's 49 408 tokens in the order of their ids: bytes, bytes that end a word, merges, the two markers (`simple_tokenizer.py`)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    bytes_ = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
    return bytes_ + [c + "</w>" for c in bytes_] + ["".join(pair.split()) for pair in merges] + ["<|startoftext|>", "<|endoftext|>"]


def write(folder):
    """`vocab.json` and `merges.txt`, as transformers reads them; gives the tokenizer."""
    lines = [line for line in MERGES.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#version")]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n", encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps({token: id for id, token in enumerate(tokens(lines))}, ensure_ascii=False), encoding="utf-8")
    return CLIPTokenizerFast.from_pretrained(folder)
