"""The card inside a weights file, by format: a safetensors file's metadata, ONNX's metadata_props, the rt_info of an
OpenVINO .xml, the zip at the end of a TensorFlow Lite file. No runtime has to be there, or started, for it."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from detection.errors import BadWeightsError
from detection.files import open_regular
from detection.weights.card import LARGEST
from detection.weights.guard import read_whole
from detection.weights.zips import open_zip

CARD = "mobilessd_card"  # the key in ONNX's metadata_props
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
LARGEST_HEADER = 1 << 25  # bytes of a safetensors file's, card included
LARGEST_XML = 1 << 27
HEAD = 9  # bytes that tell a pickle from a safetensors file


def is_pickle(start: bytes) -> bool:
    """Whether a file that begins with `start`, `HEAD` bytes of it, is a pickle. A safetensors file begins with the length
    of its header, eight bytes that may well look like one, and then with the brace of the header."""
    plausible = int.from_bytes(start[:8], "little") < 1 << 32 and start[8:9] == b"{"
    return start.startswith(PICKLES) and not plausible


def safetensors_card(path: Path) -> str | None:
    """Out of the metadata in the header."""
    return safetensors_metadata(path).get("card")


def safetensors_metadata(path: Path) -> dict[str, str]:
    """What the header says beside the tensors; BadWeightsError, one line, for whatever is no whole safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with open_regular(path) as file:
            start = file.read(HEAD)
        if is_pickle(start):
            raise BadWeightsError(
                f"{path}: a pickle (torch.save), which can run code when it is opened, so it is refused; "
                "load it yourself with torch.load(weights_only=True) and save its tensors with safetensors"
            )
        if start[8:9] == b"{" and (length := int.from_bytes(start[:8], "little")) > LARGEST_HEADER:
            raise BadWeightsError(f"{path}: a header of {length:,} bytes, more than any ({LARGEST_HEADER:,})")
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except OSError as error:
        raise BadWeightsError(f"{path}: cannot be read ({error.strerror or error})") from None
    except SafetensorError as error:
        raise BadWeightsError(f"{path}: not a whole safetensors file ({error}); fetch or write it again") from None


def onnx_card(path: Path) -> str | None:
    """Out of the metadata_props."""
    return onnx_metadata(path).get(CARD)


def tflite_card(path: Path) -> str | None:
    """Out of the zip at the end of the file, where TensorFlow Lite keeps what belongs to a model."""
    import zipfile

    try:
        with open_zip(path) as archive:
            size = archive.getinfo(f"{CARD}.json").file_size  # no more than that is ever unfolded
            if size > LARGEST:
                raise BadWeightsError(f"{path}: its card unfolds to {size:,} bytes, more than any ({LARGEST:,})")
            return archive.read(f"{CARD}.json").decode("utf-8")
    except (zipfile.BadZipFile, KeyError, OSError, UnicodeDecodeError):
        return None


def add_tflite_card(path: Path, text: str) -> None:
    """Appends the zip with the card."""
    import zipfile

    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{CARD}.json", text)


def openvino_card(path: Path) -> str | None:
    """Out of the last lines, where OpenVINO writes what is said about the whole model: the rest may be long."""
    import xml.etree.ElementTree as ElementTree

    data = read_whole(path, LARGEST_XML, "an OpenVINO description")
    if not data.lstrip().startswith(b"<?xml") or not data.rstrip().endswith(b"</net>"):
        raise BadWeightsError(f"{path}: not a whole OpenVINO file; export it again")
    begin, end = data.rfind(b"<mobilessd>"), data.rfind(b"</mobilessd>")
    if begin < 0 or end < begin:
        return None
    try:
        found = ElementTree.fromstring(data[begin : end + len(b"</mobilessd>")]).find("card")
    except ElementTree.ParseError as error:
        raise BadWeightsError(f"{path}: its card cannot be read ({error}); export it again") from None
    if found is not None and not path.with_suffix(".bin").is_file():
        raise BadWeightsError(f"{path}: its weights are missing: {path.with_suffix('.bin').name} belongs beside it")
    return None if found is None else found.get("value")


def onnx_metadata(path: Path) -> dict[str, str]:
    """The metadata_props of an ONNX file; raises BadWeightsError, one line, for a file cut short or of another kind.

    Walks the outermost level of the protobuf message (ModelProto of onnx.proto: 7 graph, 14 metadata_props), so that it
    costs nothing where the file is large, and needs neither the onnx package nor a session.
    """
    if os.path.getsize(path) == 0:
        raise BadWeightsError(f"{path}: an empty file, not ONNX; export it again")
    found: dict[str, str] = {}
    graph = False
    with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            for field, start, end in protobuf_fields(data, 0, len(data)):
                graph = graph or (field == 7 and end > start)
                if field == 14:
                    entry = {k: data[a:b].decode() for k, a, b in protobuf_fields(data, start, end)}
                    found[entry.get(1, "")] = entry.get(2, "")
        except (ValueError, IndexError, UnicodeDecodeError):
            raise BadWeightsError(f"{path}: not a whole ONNX file (cut short?); export it again") from None
    if not graph:
        raise BadWeightsError(f"{path}: not an ONNX file (it holds no graph)")
    return found


def protobuf_fields(data: mmap.mmap | bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields (field number, start, end) of each field of a protobuf message that lies at data[at:end]."""
    while at < end:
        tag, at = protobuf_varint(data, at)
        kind = tag & 7
        if kind == 0:
            start, at = at, protobuf_varint(data, at)[1]
        elif kind == 2:
            length, start = protobuf_varint(data, at)
            at = start + length
        elif kind in (1, 5):
            start, at = at, at + (8 if kind == 1 else 4)
        else:
            raise ValueError(f"no such wire type: {kind}")
        if at > end or tag < 8:
            raise ValueError("a field that reaches beyond the end")
        yield tag >> 3, start, at


def protobuf_varint(data: mmap.mmap | bytes, at: int) -> tuple[int, int]:
    """A protobuf integer and the place behind it."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
    raise ValueError("an integer of more than ten bytes")
