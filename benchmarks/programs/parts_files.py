"""The most images a second that the parts of detection leave room for, each part measured by itself on the files of a folder.

    python parts_files.py WEIGHTS DIR OUT.json [--threads 2]

Reading, decoding, resizing and post-processing: seconds an image of one thread with nothing beside it. The network: images
a second of all its streams together, nothing beside them. With C cores, and S seconds an image of all parts together on one
core, at most C / S images a second can come out, whatever runs beside what.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from detection import Detector
from detection.images.decode import read_image

AT_ONCE = 50  # images that are in memory at a time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights"), parser.add_argument("images"), parser.add_argument("out")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    paths = sorted(Path(args.images).glob("*.jpg"))
    detector = Detector(args.weights, threads=args.threads, score=0.01)
    streams = detector.streams()
    threads = streams or 1
    compute = detector.compute_alone if streams else lambda one: detector.compute([one])[0]
    seconds = dict.fromkeys(("decode", "resize", "network", "post"), 0.0)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(compute, [detector.see(read_image(paths[0]))] * 4 * threads))
        for start in range(0, len(paths), AT_ONCE):
            some, marks = paths[start : start + AT_ONCE], [time.perf_counter()]
            images = [read_image(path) for path in some]
            marks.append(time.perf_counter())
            seen = [detector.see(image) for image in images]
            marks.append(time.perf_counter())
            raw = list(pool.map(compute, seen))
            marks.append(time.perf_counter())
            for one, image in zip(raw, images):
                detector.conclude(one, image.shape[:2])
            marks.append(time.perf_counter())
            for part, begin, end in zip(seconds, marks, marks[1:]):
                seconds[part] += end - begin
    each = {part: spent / len(paths) for part, spent in seconds.items()}
    each["network"] *= args.threads if streams else 1  # of one core
    said = {"images_per_second": args.threads / sum(each.values()), "streams": streams}
    Path(args.out).write_text(json.dumps(said | {"ms": {part: 1e3 * one for part, one in each.items()}}))


if __name__ == "__main__":
    main()
