"""How mobilessd is installed: a light base, and extras for what one wants to do with it.

The base reads weights files and images; detection needs a runtime on top: `[runtime]` (OpenVINO, no torch) or
`[torch]`. `make install` takes `[all]`.
"""

import os
import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent


def version() -> str:
    """`detection.__version__`, read without importing the package: its dependencies are not there yet."""
    text = (HERE / "detection" / "__init__.py").read_text("utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    assert found, "detection/__init__.py has no __version__"
    return found.group(1)


def address() -> str | None:
    """Where the sources are, as the release workflow knows it."""
    server, repository = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    return f"{server}/{repository}" if server and repository else None


def long_description() -> str:
    """README; with an address, links to files of the repository lead there, as PyPI's page has none of them."""
    text = (HERE / "README.md").read_text("utf-8")
    if address() is None:
        return text
    text = re.sub(r"(!\[[^]]*\]\()(?!https?:)", rf"\g<1>{address()}/raw/v{version()}/", text)
    return re.sub(r"(?<!!)(\[[^]!]*\]\()(?!https?:|#)", rf"\g<1>{address()}/blob/v{version()}/", text)


BASE = [
    "msgspec>=0.18",
    "numpy>=1.24",
    # The one that loads where there is no libGL: servers, containers. opencv-python, which has windows, may replace it.
    "opencv-python-headless>=4.8",
    "safetensors>=0.4.2",
    "tqdm>=4.64",
    "filelock>=3.12",
    "pyyaml>=6.0",
]

RUNTIME = ["openvino>=2024.4"]
TORCH = ["torch>=2.4", "torchvision>=0.19"]
TFLITE = ["tflite>=2.10"]
PROTOBUF = ["protobuf>=4.25"]
KERAS = ["h5py>=3.10"]
ONNXRUNTIME = ["onnxruntime>=1.18"]
LITERT = ["ai-edge-litert>=1.0.1"]
EVAL = ["pycocotools>=2.0.7", "faster-coco-eval>=1.8", "jinja2>=3.0", "matplotlib>=3.7"]

EXTRAS = {
    "runtime": RUNTIME,
    "torch": TORCH,
    "onnxruntime": ONNXRUNTIME,
    "litert": LITERT,
    "tflite": TFLITE,
    "protobuf": PROTOBUF,
    "keras": KERAS,
    "eval": EVAL,
    # albumentations 2.0.x is MIT; its successor of the same module name is AGPL, so the pin must stay.
    "train": [*TORCH, *TFLITE, *PROTOBUF, *KERAS, *EVAL, "albumentations>=2.0,<2.1"],
    # Where a training's numbers can go besides its own files (--log). The skinny one has all that writing needs.
    "tensorboard": ["tensorboard>=2.11"],
    "mlflow": ["mlflow-skinny>=2.10"],
    "wandb": ["wandb>=0.16"],
    "live": ["starlette>=0.37", "uvicorn>=0.29", "websockets>=12"],
    # live --mqtt.
    "mqtt": ["paho-mqtt>=2.0"],
    # Not the package trackers: it brings supervision, which brings av, whose wheels hold x264 and x265 under the GPL.
    "track": ["scipy>=1.10"],
    "bulk": ["pyarrow>=14", "fsspec>=2023.9", "s3fs>=2023.9"],
    "ray": ["ray>=2.44"],
    "export": [*TORCH, *RUNTIME, *ONNXRUNTIME, *LITERT, "onnx>=1.16", "nncf>=2.13"],
    # int8 .tflite files.
    "coreml": ["coremltools>=8"],
    "tflite-int8": [*LITERT, "ai-edge-quantizer>=0.5"],
    "dev": [
        "pytest>=8",
        # Two processes run the test files side by side: most tests use one thread, and many wait.
        "pytest-xdist>=3.5",
        # A test that hangs ends after ten minutes, and its name and its threads' stacks are printed.
        "pytest-timeout>=2.3",
        # Reads the requirements of requirements, for tools/licences.py.
        "packaging>=23",
        # Holds answers of the page's server to /openapi.json.
        "jsonschema>=4",
        "hypothesis>=6.100",
        "ruff>=0.12",
        "mypy>=1.11",
        "import-linter>=2.7",
        "types-PyYAML",
        "httpx>=0.27",
        "pillow>=10",
        "pandas>=2",
        # Drives a Chromium that is installed already; `playwright install` is not needed.
        "playwright>=1.45",
        # Its wheel carries public-domain photographs: a cat and an astronaut.
        "scikit-image>=0.22",
        # Run docs/own_detector.ipynb.
        "nbclient>=0.10",
        "ipykernel>=6",
        "build>=1.2",
        "twine>=5",
        # An S3 store on loopback; its extra [server] would bring thirty packages more.
        "moto[s3]>=5",
        "flask>=2.3",
        "flask-cors>=4",
    ],
}
# ray is large, and only of use where there is a cluster; others are for making files for telephones, and for those who log
# to such a place.
APART = ("ray", "tflite-int8", "coreml", "tensorboard", "mlflow", "wandb")
EXTRAS["all"] = sorted({requirement for name, extra in EXTRAS.items() if name not in APART for requirement in extra})


class BuildWithRecipes(build_py):
    """Puts the recipes of configs/ inside the package, where `detection.train.recipes` finds them once it is installed.

    An editable installation reads them from the checkout."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            folder = Path(self.build_lib) / "detection" / "train" / "configs"
            for recipe in sorted((HERE / "configs").rglob("*.yaml")):
                target = folder / recipe.parent.relative_to(HERE / "configs")
                self.mkpath(str(target))
                self.copy_file(str(recipe), str(target))


setup(
    name="mobilessd",
    version=version(),
    description="SSD and SSDLite object detection on MobileNets: detect, measure, train, export",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    keywords=["object detection", "SSD", "SSDLite", "MobileNet", "PyTorch", "OpenVINO", "COCO"],
    project_urls={"Source": address(), "Changelog": f"{address()}/blob/main/CHANGELOG.md"} if address() else {},
    py_modules=["mobilessd"],
    packages=find_packages(include=["backbones", "backbones.*", "detection", "detection.*"]),
    package_data={
        "detection": [
            "weights/*.safetensors",
            "weights/*.onnx",
            "weights/*.xml",
            "weights/*.bin",
            "live/page/*",
            "evaluate/report/templates/*",
        ],
    },
    cmdclass={"build_py": BuildWithRecipes},
    python_requires=">=3.10",
    install_requires=BASE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["mobilessd = detection.cli.main:entry"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        *(f"Programming Language :: Python :: {number}" for number in ("3", "3.10", "3.11", "3.12", "3.13")),
        "Operating System :: OS Independent",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
