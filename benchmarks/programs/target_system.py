"""One of the systems that `mobilessd export --target` writes folders for, on images: its own code, or its rules in a few lines.

    python target_system.py SYSTEM FOLDER IMAGES.json OUT.json [CALIBRATION]

Runs under the Python that has the system's packages, without ours. IMAGES.json: a list of files. OUT.json: for each image a
list of (class from 0, score, x1, y1, x2, y2 in its pixels) above the score threshold, and the milliseconds it took.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np

SCORE = 0.4
SURE = SCORE - 1e-4  # what rounding may take


def stretched(rgb, size, interpolation=cv2.INTER_LINEAR):
    """To (height, width)."""
    return cv2.resize(rgb, size[::-1], interpolation=interpolation)


def in_pixels(rows, rgb):
    """(class, score, x1, y1, x2, y2 in fractions), as the image's pixels."""
    height, width = rgb.shape[:2]
    return [
        (int(kind), float(score), *(float(v) for v in np.array([x1, y1, x2, y2]) * [width, height, width, height]))
        for kind, score, x1, y1, x2, y2 in rows
    ]


def frigate_openvino(folder):
    """frigate/detectors/plugins/openvino.py, model_type ssd: one output, at most 20 rows, read until the first weak one."""
    import openvino

    core = openvino.Core()
    model = core.read_model(folder / "model.xml")
    if len(model.outputs) != 1 or list(model.outputs[0].get_shape()) != [1, 1, 20, 7]:
        raise SystemExit("SSD models must only have 1 output, of 20 rows")
    request = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    size = tuple(model.inputs[0].get_shape()[1:3])

    def call(rgb):
        request.infer([stretched(rgb, size)[None]])
        rows = []
        for _, kind, score, *box in request.get_output_tensor(0).data[0, 0]:
            if score < SURE or len(rows) == 20:
                break
            rows.append((kind, score, *box))
        return in_pixels(rows, rgb)

    return call


def frigate_onnx(folder):
    """frigate/detectors/plugins/onnx.py, model_type yolonas: flat rows until the first class below 0, pixels; 20 of them."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    height, width = given.shape[1:3]

    def call(rgb):
        (table,) = session.run(None, {given.name: stretched(rgb, (height, width))[None]})
        rows = []
        for _, x1, y1, x2, y2, score, kind in table[:20]:
            if kind < 0 or score < SURE:
                break
            rows.append((kind, score, x1 / width, y1 / height, x2 / width, y2 / height))
        return in_pixels(rows, rgb)

    return call


def frigate_cpu(folder):
    """frigate/detectors/detector_utils.py, tflite_detect_raw: outputs boxes, classes, scores, count by their places; 20 rows."""
    from ai_edge_litert.interpreter import Interpreter

    net = Interpreter(str(folder / "model.tflite"), num_threads=2)
    net.allocate_tensors()
    (given,), outputs = net.get_input_details(), net.get_output_details()
    size = tuple(int(side) for side in given["shape"][1:3])

    def call(rgb):
        net.set_tensor(given["index"], stretched(rgb, size)[None])
        net.invoke()
        boxes, kinds, scores, count = (net.get_tensor(one["index"])[0] for one in outputs)
        rows = []
        for k in range(int(count)):
            if scores[k] < SURE or k == 20:
                break
            y1, x1, y2, x2 = boxes[k]
            rows.append((kinds[k], scores[k], x1, y1, x2, y2))
        return in_pixels(rows, rgb)

    return call


def mediapipe(folder):
    """MediaPipe's own ObjectDetector, with its own resize."""
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    base = BaseOptions(model_asset_path=str(folder / "model.tflite"))
    options = vision.ObjectDetectorOptions(base_options=base, score_threshold=SCORE, max_results=100)
    detector, names = vision.ObjectDetector.create_from_options(options), labels(folder)

    def call(rgb):
        found = detector.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(rgb))).detections
        return [tasks_row(one, names) for one in found]

    return call


def mediapipe_stretched(folder):
    """The same, given images that were stretched to the network's size before."""
    whole = mediapipe(folder)
    config = (folder / "config.yml").read_text(encoding="utf-8").split()
    size = tuple(int(config[config.index(name) + 1]) for name in ("height:", "width:"))

    def call(rgb):
        rows = [
            (kind, score, *np.array(box) / ([size[1], size[0]] * 2))
            for kind, score, *box in whole(stretched(rgb, size))
        ]
        return in_pixels(rows, rgb)

    return call


def mediapipe_resize(folder):
    """Our own post-processing behind MediaPipe's resize alone (mediapipe/calculators/tensor/image_to_tensor_converter_opencv.cc):
    warpPerspective between the corners of image and input, which reads pixel k at k * W / w."""
    detector = own_script(folder).Detector(folder, score=SURE)
    size = detector.size

    def call(rgb):
        corners = [
            np.float32([[0, 0], [width, 0], [0, height], [width, height]]) for height, width in (rgb.shape[:2], size)
        ]
        matrix = cv2.getPerspectiveTransform(*corners)
        small = cv2.warpPerspective(rgb, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        found = [(detector.names.index(name), score, *box) for name, score, box in detector(small[..., ::-1])]
        return in_pixels(
            [(kind, score, *(np.array(box) / ([size[1], size[0]] * 2))) for kind, score, *box in found], rgb
        )

    return call


def task_library(folder):
    """The TFLite Task Library's own ObjectDetector (tflite-support), as Android's samples use it."""
    from tflite_support.task import core, processor, vision

    options = vision.ObjectDetectorOptions(
        base_options=core.BaseOptions(file_name=str(folder / "model.tflite")),
        detection_options=processor.DetectionOptions(score_threshold=SCORE, max_results=100),
    )
    detector, names = vision.ObjectDetector.create_from_options(options), labels(folder)

    def call(rgb):
        found = detector.detect(vision.TensorImage.create_from_array(np.ascontiguousarray(rgb))).detections
        return [tasks_row(one, names) for one in found]

    return call


def tasks_row(one, names):
    """Of a detection as MediaPipe and the Task Library give it."""
    box, best = one.bounding_box, one.categories[0]
    corners = (box.origin_x, box.origin_y, box.origin_x + box.width, box.origin_y + box.height)
    return (names.index(best.category_name), float(best.score), *map(float, corners))


def labels(folder):
    return (folder / "labels.txt").read_text(encoding="utf-8").splitlines()


def jetson(folder, interpolation=cv2.INTER_LINEAR):
    """c/detectNet.cpp: postProcessSSD_ONNX (the best class of each anchor, column 0 left out) and clusterDetections (a box
    that overlaps a kept one by more than 0.75 of the larger area is merged into it)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    size = tuple(given.shape[2:])

    def call(rgb):
        seen = stretched(rgb, size, interpolation).astype(np.float32)
        fed = ((seen / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None]
        scores, boxes = (output[0] for output in session.run(["scores", "boxes"], {"input_0": fed}))
        kept = []
        for anchor in np.flatnonzero(scores[:, 1:].max(1) >= SURE):
            kind, box = int(scores[anchor, 1:].argmax()), boxes[anchor].copy()
            cluster(kept, box, kind, scores[anchor, 1 + kind])
        return in_pixels([(kind, score, *box) for box, kind, score in kept], rgb)

    return call


def cluster(kept, box, kind, score):
    """Adds a box to the kept ones [box, class, score], or merges it into the first that it overlaps enough."""
    for other in kept:
        area = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other[0])]
        sides = np.minimum(box[2:], other[0][2:]) - np.maximum(box[:2], other[0][:2])
        if (sides > 0).all() and sides.prod() / max(area) > 0.75:
            if kind == other[1]:
                other[0] = np.r_[np.minimum(box[:2], other[0][:2]), np.maximum(box[2:], other[0][2:])]
                other[2] = max(score, other[2])
            elif score > other[2]:
                other[:] = [box, kind, score]
            return
    kept.append([box, kind, score])


def jetson_nearest(folder):
    """With its own resize, to the nearest pixel."""
    return jetson(folder, cv2.INTER_NEAREST)


def own_script(folder, name="detect"):
    """A script of a folder, as a module."""
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def script(folder):
    """The folder's own detect.py: OpenCV's DNN module, or ncnn where pnnx made its files."""
    return by_script(own_script(folder).Detector(folder, score=SURE))


def by_script(detector):
    """A detector of detect.py, called with RGB."""

    def call(rgb):
        found = detector(rgb[..., ::-1])
        return [(detector.names.index(name), float(score), *map(float, box)) for name, score, box in found]

    return call


def rknn(folder, images=None):
    """rknn-toolkit2's simulator of what the folder's own convert.py builds, behind the opencv folder's post-processing: float16,
    or with a folder of images int8."""
    toolkit = own_script(folder, "convert").built("rk3588", images)
    if toolkit.init_runtime():
        raise SystemExit("rknn-toolkit2 does not run it")
    detector = own_script(folder.parent / "opencv").Detector(folder.parent / "opencv", score=SURE)

    def network(image):
        encodings, logits = toolkit.inference(inputs=[image[None]], data_format=["nhwc"])
        return encodings.reshape(-1, 4), logits.reshape(len(encodings.reshape(-1, 4)), -1)

    detector.network = network
    return by_script(detector)


SYSTEMS = {
    "frigate-openvino": frigate_openvino,
    "frigate-onnx": frigate_onnx,
    "frigate-cpu": frigate_cpu,
    "mediapipe": mediapipe,
    "mediapipe-stretched": mediapipe_stretched,
    "mediapipe-resize": mediapipe_resize,
    "task-library": task_library,
    "jetson": jetson,
    "jetson-nearest": jetson_nearest,
    "opencv": script,
    "ncnn": script,
    "rknn": rknn,
    "rknn-int8": rknn,
}


def main():
    system, folder, images, output, *more = sys.argv[1:]
    call = SYSTEMS[system](Path(folder), *more)
    answers = []
    for name in json.loads(Path(images).read_text(encoding="utf-8")):
        rgb = np.ascontiguousarray(cv2.imread(name)[..., ::-1])
        start = time.perf_counter()
        rows = call(rgb)
        answers.append({"rows": rows, "ms": 1000 * (time.perf_counter() - start)})
    Path(output).write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main()
