"""The formats of data sets: one module each, which recognises its format by looking and reads it into `DetectionData`.

A new format is a module with `look(path) -> Layout | None` and `read(layout, split, images) -> DetectionData`, and one
row here. Rows are tried in order: COCO is last, as it takes any JSON file; Darknet's obj.data has a class list beside it
that YOLO would take, and CVAT's XML stands where VOC's may.
"""

FORMATS: dict[str, tuple[str, str]] = {  # name: (module, what it looks for)
    "darknet": ("detection.data.readers.darknet", "obj.data"),
    "yolo": ("detection.data.readers.yolo", "data.yaml, or classes.txt"),
    "cvat": ("detection.data.readers.cvat", "annotations.xml"),
    "voc": ("detection.data.readers.voc", "Annotations/*.xml, .xml beside images"),
    "imagefolder": ("detection.data.readers.imagefolder", "metadata.jsonl"),
    "openimages": ("detection.data.readers.open_images", "*-annotations-bbox.csv"),
    "csv": ("detection.data.readers.roboflow_csv", "a .csv of filename, class, xmin"),
    "labelstudio": ("detection.data.readers.labelstudio", "a .json of tasks"),
    "createml": ("detection.data.readers.createml", "_annotations.createml.json"),
    "labelme": ("detection.data.readers.labelme", ".json with shapes"),
    "coco": ("detection.data.readers.coco", "a .json, annotations/*.json"),
}
