"""Floor 3: data sets (COCO, VOC, YOLO) in one form in memory, their check, augmentation and the training loader.

May import `detection.core` only; torch inside the loader's functions, albumentations inside the function that builds
its transforms. Nothing here is needed to run a network.
"""
