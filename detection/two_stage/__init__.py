"""Faster R-CNN on our backbones, the two-stage detector of the V1 paper's table 13: torchvision's, counted and trainable."""
