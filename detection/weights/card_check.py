"""A card may be anybody's: what it says is looked at here before anything is made of it.

Apart from `Card` itself, which is read while the network is still to be opened: this is done while it compiles.
"""

from __future__ import annotations

from detection.config import check
from detection.errors import BadWeightsError, MobileSSDError
from detection.ssd.spec import SSDSpec
from detection.weights.card import Card


def spec_of(card: Card, name: str = "") -> SSDSpec:
    """The spec in a card whose values are of their types and within their limits. `name`: the file, for errors.

    Raises BadWeightsError, one line.
    """
    name = name or card.name or "card"
    try:
        check(card)
        return SSDSpec.from_dict(card.spec)
    except MobileSSDError as error:
        raise BadWeightsError(f"{name}: its card says what no network is ({error})") from None
