"""Mutated images, labels, results and recipes end no reader: some here, many more with `make fuzz`."""

import os
import sys

import fuzz
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is watched through /proc")
FILES = int(os.environ.get("FUZZ_FILES", "300"))


@pytest.mark.parametrize("module", ["fuzz_of_data", "fuzz_of_labels"])
def test_mutated_images_and_labels_are_read_or_refused_in_one_line(tmp_path, module):
    found = fuzz.run(module, FILES, 0, tmp_path, deaths=3)
    assert all(one.fine for one in found), fuzz.report(found)
    assert sum(one.kind == "read" for one in found) > FILES // 10, "nearly all are refused"
