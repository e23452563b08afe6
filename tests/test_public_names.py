"""`mobilessd` gives on what `detection` offers, and loads nothing before it is asked for."""

import subprocess
import sys

import detection
import mobilessd


def test_the_package_has_the_names_of_detection():
    assert mobilessd.Detector is detection.Detector and mobilessd.load is detection.load
    assert mobilessd.__version__ == detection.__version__
    assert set(detection.__all__) <= set(dir(mobilessd))


def test_importing_it_loads_no_runtime():
    code = "import sys, mobilessd; print([m for m in ('torch', 'cv2', 'openvino', 'numpy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
