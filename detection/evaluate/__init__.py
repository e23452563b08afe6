"""COCO numbers of anything that detects: evaluation, per-class tables, error analysis, choice of threshold.

truth.py       reads COCO ground truth into flat arrays      results.py    detections of a whole set, flat arrays, JSON
categories.py  matches classes of a model and of a data set  run.py        a detector over all images, decoding ahead
coco.py        the twelve numbers, by pycocotools or faster  matches.py    which detection found which object
thresholds.py  the score of best F1                          errors.py     what kinds of error cost how much AP
bootstrap.py   is A better than B, or is it luck             report.py     tables, JSON, CSV, warnings

Imports numpy; pycocotools or faster-coco-eval inside the functions that use them; never torch.
"""
