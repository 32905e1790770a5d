"""Pictures of fetch.py as PNG files with their labels, for `cliptext verify --images` and `cliptext-run similarity`.

    python export.py DATA OUT SET...

OUT/SET.tsv has a line for each picture, `FILE<TAB>TEXT`; OUT/names.txt every concept's name, a line each.
"""

import pathlib
import sys

import numpy as np
from PIL import Image

import run
from data import Pictures


def main(data, out, sets):
    listed = [entry["set"] for entry in run.sets()[0]]
    pictures = Pictures(data)
    out.mkdir(parents=True, exist_ok=True)
    (out / "names.txt").write_text("".join(concept["name"] + "\n" for concept in pictures.concepts))
    for name in sets:
        folder = out / name
        folder.mkdir(exist_ok=True)
        rows = np.flatnonzero(pictures.set == listed.index(name))
        lines = []
        for pixels, index in zip(pictures.on_white(rows), pictures.concept[rows]):
            file = f"{pictures.concepts[index]['code']}.png"
            Image.fromarray(pixels).save(folder / file)
            lines.append(f"{file}\ta picture of {pictures.concepts[index]['name']}\n")
        (out / f"{name}.tsv").write_text("".join(lines))
        print(f"{folder}: {len(lines)} pictures")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3:])
