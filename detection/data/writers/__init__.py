"""What data sets are written as: one module a format, each with `write(data, path) -> None`."""

FORMATS: dict[str, str] = {"coco": "detection.data.writers.coco"}  # name: module
