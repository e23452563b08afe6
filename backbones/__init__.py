"""The backbones. MobileNet V1, V2, V3 and VGG-16, their blocks, their taps, and a counter of what they cost."""

from .blocks import ConvNormAct, DepthwiseSeparable, InvertedResidual, Norm, SqueezeExcite, make_divisible
from .build import available_taps, build_backbone, list_backbones, usual_taps
from .classifier import Classifier, VGGClassifier, build_classifier
from .counting import Cost, Layer, count
from .initialise import initialise
from .taps import Backbone, Tap

__all__ = [
    "Backbone",
    "Classifier",
    "ConvNormAct",
    "Cost",
    "DepthwiseSeparable",
    "InvertedResidual",
    "Layer",
    "Norm",
    "SqueezeExcite",
    "Tap",
    "VGGClassifier",
    "available_taps",
    "build_backbone",
    "build_classifier",
    "count",
    "initialise",
    "list_backbones",
    "make_divisible",
    "usual_taps",
]
