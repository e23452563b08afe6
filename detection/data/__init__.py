"""Data sets (COCO, VOC, YOLO) in one form in memory: read, checked, repaired, split, joined and converted."""
