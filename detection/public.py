"""The names for people who write Python: what `detection` gives on when they are asked for."""

from detection.boxes.detections import Detections as Detections
from detection.detector import Detector as Detector
from detection.ssd.families import list_architectures as list_architectures
from detection.weights.names import list_models as list_models
from detection.weights.names import load as load
from detection.weights.records import list_weights as list_weights
