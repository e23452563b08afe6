"""Labels in every layout that tools and platforms export, mutated (`fuzz`): the tree of JSON, the words of XML, CSV and YAML."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

from fuzz import Target
from fuzz_mutators import mutated_tree
from fuzz_of_data import any_bytes, in_text, to_data, tree_in
from test_data_layouts import LAYOUTS

from detection.data.check import check
from detection.data.open import open_data

LABELS = {".json", ".jsonl", ".csv", ".xml", ".txt", ".yaml", ".md", ".data", ".names"}
WORDS = {".xml": r'(?<=>)[^<>]+(?=<)|<[^>]+>|(?<=")[^"<>]*(?=")', ".csv": r"[^,\r\n]+|[,\r\n]"}


def written(layout: Callable[[Path], object]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        layout(folder)
        return folder

    return write


def in_labels(random: Random, path: Path) -> None:
    """One of the files that are no images."""
    file = random.choice(sorted(file for file in path.rglob("*") if file.suffix in LABELS))
    if file.suffix == ".json":
        tree_in(random, file)
    elif file.suffix == ".jsonl" and random.random() < 0.8:
        lines = file.read_text().splitlines()
        at = random.randrange(len(lines))
        lines[at] = json.dumps(mutated_tree(json.loads(lines[at]), random))
        file.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    elif random.random() < 0.2:
        any_bytes(random, file)
    else:
        in_text(random, file, WORDS.get(file.suffix, r"[\w./-]+|\S"))


def to_all(path: Path) -> None:
    """All splits, and then as `to_data` reads one."""
    check(open_data(path, "all"), content=False).text()
    to_data(path)


def _name(title: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in title.lower()).strip("-")


TARGETS = tuple(Target(_name(title), written(layout), in_labels, to_all) for title, (_, layout) in LAYOUTS.items())
