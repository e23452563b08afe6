"""What data sets are written as: one module a format, each with `write(data, path) -> Faults` (what it could not write)."""

FORMATS: dict[str, str] = {"coco": "detection.data.writers.coco"}  # name: module
