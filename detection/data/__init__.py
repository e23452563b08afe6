"""Data sets (COCO, VOC, YOLO) in one form in memory, their check, augmentation and the training loader.

Torch inside the loader's functions, albumentations inside the function that builds
its transforms. Nothing here is needed to run a network.
"""
