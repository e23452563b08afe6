"""Reads the card out of an exported file. Imports only the library of that file's kind."""

from __future__ import annotations

from pathlib import Path

from detection.core.card import Card
from detection.core.errors import BadWeightsError


def card_of(path: Path) -> Card:
    """The card of an OpenVINO `.xml` or an `.onnx` file; raises BadWeightsError, one line, where there is none."""
    if not path.exists():
        raise BadWeightsError(f"{path}: no such file")
    text = _openvino_card(path) if path.suffix == ".xml" else _onnx_card(path)
    if not text:
        raise BadWeightsError(f"{path}: carries no mobilessd card; export it with mobilessd export")
    return Card.from_json(text, str(path))


def _openvino_card(path: Path) -> str | None:
    import xml.etree.ElementTree as ElementTree

    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise BadWeightsError(f"{path}: not a whole OpenVINO file ({error})") from None
    found = root.find("rt_info/mobilessd/card")
    return None if found is None else found.get("value")


def _onnx_card(path: Path) -> str | None:
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own errors have no common base
        raise BadWeightsError(f"{path}: not a whole ONNX file ({type(error).__name__})") from None
    return {p.key: p.value for p in model.metadata_props}.get("mobilessd_card")
