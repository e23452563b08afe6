"""Changes to good files that whoever means harm, or a disk, would make. All of them follow a `random.Random` alone."""

from __future__ import annotations

import copy
import math
from random import Random
from typing import Any

NUMBERS = (
    0,
    1,
    2,
    127,
    128,
    255,
    256,
    32767,
    65535,
    1 << 24,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 62,
    (1 << 64) - 1,
)
# What stands in JSON and YAML where something else was expected.
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        7,
        2.5,
        1e308,
        -1e-308,
        math.inf,
        -math.inf,
        math.nan,
        10**6,
        1 << 31,
        1 << 63,
        10**30,
    ),
    *("", "x", "2", "NaN", "9" * 400, "\x1b[31mred\x07", "\ud800", "a\nb", "../../outside", "/dev/zero", "\0"),
    *([], {}, [None], [[]], [1, "2", None], {"x": 1}, [[1.5] * 3] * 3, ["a"] * 5000, list(range(3000)), [{}] * 3000),
)


def mutated(data: bytes, random: Random) -> bytes:
    """Bytes with one to eight changes, more of them near both ends, where headers are."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        if not out:
            return bytes(out)
        at = _place(len(out), random)
        match random.randrange(9):
            case 0 | 1:
                out[at] ^= 1 << random.randrange(8)
            case 2:
                out[at] = random.choice((0, 1, 10, 32, 127, 128, 255, random.randrange(256)))
            case 3 | 4:
                size, order = random.choice((1, 2, 4, 8)), random.choice(("little", "big"))
                number = random.choice(NUMBERS) & ((1 << 8 * size) - 1)
                out[at : at + size] = number.to_bytes(size, order)  # type: ignore[arg-type]
            case 5:
                del out[at:]
            case 6:
                del out[at : at + random.choice((1, 2, 4, 16, 100))]
            case 7:
                length = random.choice((1, 4, 16, 100))
                out[at:at] = out[at : at + length] * random.choice((1, 2, 50))
            case 8:
                out[at:at] = random.randbytes(random.choice((1, 4, 16)))
    return bytes(out)


def _place(length: int, random: Random) -> int:
    """Half of them in the first or last 400 bytes."""
    near = random.randrange(min(length, 400))
    return random.choice((near, length - 1 - near, random.randrange(length), random.randrange(length)))


def mutated_tree(tree: Any, random: Random) -> Any:
    """JSON-like data with one to three values replaced, left out, doubled, renamed, or laid one into the other deeply."""
    tree = copy.deepcopy(tree)
    for _ in range(random.choice((1, 1, 2, 3))):
        holders = [holder for holder in _holders(tree) if holder]
        if not holders:
            return random.choice(VALUES)
        holder = random.choice(holders)
        key = random.choice(list(holder)) if isinstance(holder, dict) else random.randrange(len(holder))
        match random.randrange(9):
            case 0:
                del holder[key]
            case 1:
                if isinstance(holder, dict):
                    holder[random.choice(("", "x", key + "s" if isinstance(key, str) else "y"))] = holder.pop(key)
                else:
                    holder.extend(holder[:] * random.choice((1, 1, 100)))
            case 2:
                for _ in range(random.choice((1, 1, 300))):
                    holder[key] = random.choice(([holder[key]], {"x": holder[key]}))
            case 3 if isinstance(holder[key], (int, float)):
                holder[key] = holder[key] * random.choice((-1, 10, 1000, 10**6, 0.5)) + random.choice((0, 1, -1))
            case _:
                holder[key] = copy.deepcopy(random.choice(VALUES))
    return tree


def _holders(tree: Any) -> list[Any]:
    """All dictionaries and lists of a tree; the lists' own items are looked at only where there are few."""
    found, rest = [], [tree]
    while rest and len(found) < 5000:
        one = rest.pop()
        if isinstance(one, (dict, list)):
            found.append(one)
            rest += list(one.values() if isinstance(one, dict) else one)[:500]
    return found
