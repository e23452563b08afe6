"""MediaPipe's ObjectDetector: the model of `tflite_ssd` behind a resize of its own.

MediaPipe makes an image smaller by warpPerspective between corners (mediapipe/calculators/tensor/
image_to_tensor_converter_opencv.cc), so that pixel k is read at k * W / w, where training and all else here read at (k + 0.5) *
W / w - 0.5: a quarter of a pixel of the network beside it, by which one box in ten near the threshold is lost. An input that is
larger than the network is shifted less, and the graph makes it smaller as training did.
"""

from __future__ import annotations

from detection.export.targets.base import IOU, Job, Written
from detection.export.targets.tflite_ssd import MOST, OP, FastNMS, write_model
from detection.runtimes.interfaces import larger


def write(job: Job) -> Written:
    """model.tflite, as `tflite_ssd.write` has it, with a larger input."""
    model = write_model(job, "mediapipe")
    height, width = larger(job.spec.input.size)
    return Written(
        model.name,
        (
            f"Input: uint8 RGB [1, {height}, {width}, 3], made {job.spec.input.size[1]} x {job.spec.input.size[0]} by the graph.",
            f"Outputs: boxes [1, {MOST}, 4] y1, x1, y2, x2 in fractions, classes from 0, scores, count, of {OP}",
            f"(NMS over all classes at IoU {IOU}). Labels and metadata lie in the file.",
            "vision.ObjectDetector.create_from_options(vision.ObjectDetectorOptions(score_threshold=0.4, max_results=100,",
            "base_options=BaseOptions(model_asset_path='model.tflite'))); images of any size.",
        ),
        max_detections=MOST,
        rules=FastNMS.of_file,
    )
