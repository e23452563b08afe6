"""The formats of data sets: one module each, which recognises its format by looking and reads it into `DetectionData`.

A new format is a module with `look(path) -> Layout | None` and `read(layout, split, images) -> DetectionData`, and one
row here. Rows are tried in order; COCO is last, as it takes any JSON file.
"""

FORMATS: dict[str, tuple[str, str]] = {  # name: (module, what it looks for)
    "yolo": ("detection.data.readers.yolo", "data.yaml, or classes.txt with images and .txt files"),
    "voc": ("detection.data.readers.voc", "Annotations/*.xml with JPEGImages/, or .xml beside the images"),
    "coco": (
        "detection.data.readers.coco",
        "a .json file, annotations/instances_*.json, instances.json, */_annotations.coco.json",
    ),
}
