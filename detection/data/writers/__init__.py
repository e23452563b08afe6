"""What data sets are written as: one module a format, each with `write(parts, folder) -> list[str]`.

parts: {split: data}, "" for the one that has no name; all with the same classes, repaired. folder: new; it appears whole. The
lines returned say what the format cannot hold, and how much of it there was.
"""

FORMATS: dict[str, str] = {  # name: module
    "coco": "detection.data.writers.coco",
    "labelstudio": "detection.data.writers.labelstudio",
    "voc": "detection.data.writers.voc",
    "yolo": "detection.data.writers.yolo",
}
