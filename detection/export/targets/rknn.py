"""Rockchip's RKNN: the core graph, and the script that its toolkit (rknn-toolkit2) converts it with."""

from __future__ import annotations

from detection.export.targets.base import Job, Written
from detection.export.targets.core import write_parts

SCRIPT = '''"""model.onnx -> model.rknn, with rknn-toolkit2: python convert.py [rk3588] [dataset.txt]

dataset.txt holds the path of an image a line, 100 to 300 of them: int8. Without it: float16.
"""

import sys

from rknn.api import RKNN

platform = sys.argv[1] if len(sys.argv) > 1 else "rk3588"
dataset = sys.argv[2] if len(sys.argv) > 2 else None
rknn = RKNN()
rknn.config(mean_values=[[127.5, 127.5, 127.5]], std_values=[[127.5, 127.5, 127.5]], target_platform=platform)
if rknn.load_onnx(model="model.onnx") or rknn.build(do_quantization=dataset is not None, dataset=dataset):
    sys.exit(1)
sys.exit(rknn.export_rknn("model.rknn"))
'''


def write(job: Job) -> Written:
    """model.onnx, anchors.npy, input.json, convert.py."""
    write_parts(job)
    (job.folder / "convert.py").write_text(SCRIPT, encoding="utf-8")
    height, width = job.spec.input.size
    return Written(
        "model.onnx",
        (
            "`python convert.py rk3588 dataset.txt` makes model.rknn of it, where rknn-toolkit2 is installed.",
            f"model.rknn takes uint8 RGB [1, {height}, {width}, 3], gives `encodings` and `logits`: see input.json.",
        ),
    )
