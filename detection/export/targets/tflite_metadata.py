"""TFLite Model Metadata (metadata_schema.fbs, "M001"), by which MediaPipe and the Task Library know what a detector takes and
gives. Written field by field: the package that holds its generated code cannot be imported with today's TensorFlow Lite.
"""

from __future__ import annotations

from typing import Any

from detection.runtimes.interfaces import CENTRE


# Tables are tuples of their fields, in the order of the schema; None: left out. Strings, lists of strings and lists of
# tables stand for themselves; numbers say of which type they are.
class Byte(list[int]):
    """One int8."""


class Int(list[int]):
    """One int32."""


class UInts(list[int]):
    """A vector of uint32."""


class Floats(list[float]):
    """A vector of float32."""


RGB, RATIO, BOUNDARIES, VALUE_LABELS = 1, 0, 1, 3  # of its enums
FEATURE, IMAGE, BOUNDING_BOX = 1, 2, 3  # of the union of contents
NORMALISATION = 1  # of the union of process units
PARSER = "1.2.0"  # the oldest that knows groups of tensors


def detector_metadata(name: str, licence: str, labels: str) -> bytes:
    """Of a detector that takes uint8 RGB and ends in TFLite_Detection_PostProcess. labels: the file, in the zip at the
    model's end, that names its classes."""
    pixels = (Byte([IMAGE]), (Byte([RGB]), None))
    normalisation = (Byte([NORMALISATION]), (Floats([CENTRE]), Floats([CENTRE])))
    image = ("image", None, None, pixels, [normalisation], (Floats([255.0]), Floats([0.0])))
    pairs = (Int([2]), Int([2]))
    corners = (UInts([1, 0, 3, 2]), Byte([BOUNDARIES]), Byte([RATIO]))  # of left, top, right, bottom
    label_file = (labels, "one class a line, the first is 0", Byte([VALUE_LABELS]))
    outputs = [
        ("location", None, None, (Byte([BOUNDING_BOX]), corners, pairs)),
        ("category", None, None, (Byte([FEATURE]), (), pairs), None, None, [label_file]),
        ("score", None, None, (Byte([FEATURE]), (), pairs)),
        ("number of detections",),
    ]
    group = ("detection_result", ["location", "category", "score"])
    graph = (None, None, [image], outputs, None, None, None, None, [group])
    return _finished((name, "Object detector", None, [graph], None, licence or None, None, PARSER))


def _finished(table: tuple) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(_table(builder, table), file_identifier=b"M001")
    return bytes(builder.Output())


def _table(builder: Any, fields: tuple) -> int:
    """Writes a table, behind all that it refers to; its place."""
    places = [_place(builder, field) for field in fields]
    builder.StartObject(len(fields))
    for slot, (field, place) in enumerate(zip(fields, places)):
        if isinstance(field, Byte):
            builder.PrependInt8Slot(slot, field[0], 0)
        elif isinstance(field, Int):
            builder.PrependInt32Slot(slot, field[0], 0)
        elif place is not None:
            builder.PrependUOffsetTRelativeSlot(slot, place, 0)
    return builder.EndObject()


def _place(builder: Any, field: Any) -> int | None:
    """Writes what a field refers to; None for one that holds its value itself, or nothing."""
    if field is None or isinstance(field, (Byte, Int)):
        return None
    if isinstance(field, str):
        return builder.CreateString(field)
    if isinstance(field, tuple):
        return _table(builder, field)
    parts: list = field
    if isinstance(field, Floats):
        put = builder.PrependFloat32
    elif isinstance(field, UInts):
        put = builder.PrependUint32
    else:
        put, parts = builder.PrependUOffsetTRelative, [_place(builder, part) for part in field]
    builder.StartVector(4, len(parts), 4)
    for part in reversed(parts):
        put(part)
    return builder.EndVector()
