"""Ids of images and categories, as files write them, and lists of them as people keep them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from detection.errors import BadDataError
from detection.files import read_text

Id = int | str  # what data sets use as ids
LONGEST_NUMBER = 1000  # digits; Python turns no more than 4300 into a number


def id_of(value: Any) -> Id:
    """An id as read from JSON: a whole number or a text. Raises TypeError for anything else (null, 1.5, a list)."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise TypeError(f"no id: {value!r}")


def encodable(text: str) -> str:
    """A text of a JSON file as files can be named and written: half of a surrogate pair, which JSON may hold, is spelt out."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "xmlcharrefreplace").decode()  # a backslash would part folders
    return text


def plain(identity: object) -> str:
    """What an id is compared by where it is written in two ways: 7, "7" and "007" are one."""
    text = str(identity).strip()
    number = len(text) < LONGEST_NUMBER and text.isascii() and text.removeprefix("-").isdigit()
    return str(int(text)) if number else text


def plainly(known: Mapping[Any, int]) -> dict[str, int]:
    """`known` by the plain form of its ids, less those that are the same for several."""
    found: dict[str, int] = {}
    several = set()
    for identity, index in known.items():
        if found.setdefault(plain(identity), index) != index:
            several.add(plain(identity))
    return {text: index for text, index in found.items() if text not in several}


def id_array(ids: Iterable[Id] | np.ndarray) -> np.ndarray:
    """int64 where all ids are numbers, else an array of objects."""
    ids = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)  # numpy's own integers are no int
    if all(isinstance(one, int) and -(1 << 63) <= one < 1 << 63 for one in ids):
        return np.array(ids, np.int64)
    array = np.empty(len(ids), object)
    array[:] = ids
    return array


def in_order(ids: Iterable[Id]) -> list[int]:
    """The positions of `ids` sorted: numbers before texts. pycocotools' order, which decides ties of scores."""
    ids = list(ids)
    return sorted(range(len(ids)), key=lambda i: (isinstance(ids[i], str), ids[i]))


def read_ids(path: str | os.PathLike) -> set[str]:
    """The ids that a file names, as text: a JSON list, a JSON object of lists, or ids in lines. Raises BadDataError."""
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise BadDataError(f"{path}: no such file") from None
    except (UnicodeError, OSError):
        raise BadDataError(f"{path}: not a text file of image ids") from None
    if text.lstrip()[:1] in ("[", "{"):
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadDataError(f"{path}: not JSON ({error})") from None
        groups = [group for group in data.values() if isinstance(group, list)] if isinstance(data, dict) else [data]
        return {str(identity) for group in groups for identity in group}
    return set(text.replace(",", " ").split())
