"""The words of docs/tables.md, between its tables. Constants only."""

INTRO = """\
# Every figure of the papers beside ours

Written by `mobilessd tables > docs/tables.md`; a test keeps the two equal. Our figures are counted, not copied, from
the networks that `mobilessd info NAME` builds. **Parameters** are weights and biases of convolutions and linear
layers, gamma and beta of batch norms (running statistics are none); "no norms" leaves the batch norms out.
**Multiply-adds** are those of convolutions and linear layers, for one image. `M` is a million, `G` a billion (the
papers' B). What is printed elsewhere reads `parameters / multiply-adds / accuracy`.

Every printed digit is ours, rounded, unless the last column says otherwise. *Cut*: ours with the further digits cut
off. *No norms*: ours without the batch norms' parameters."""

V1 = """\
## MobileNet V1

arXiv 1704.04861 and the table of TensorFlow's research/slim (in brackets: top-1 with 8 bits). 1000 outputs with a
bias, min_depth 8."""

V2 = """\
## MobileNet V2

arXiv 1801.04381 and the table of TensorFlow's research/slim, which counts no batch norms and cuts digits off. The
last layer keeps its 1280 channels below alpha 1."""

V3 = """\
## MobileNet V3 and VGG-16

arXiv 1905.02244, slim's README and torchvision's records, with torchvision's V2. Where torchvision has two top-1
figures, they are of two recipes."""

DETECTORS = """\
## Detectors

`columns` counts the score columns, background included (91: COCO's ids up to 90; 81: its 80 classes; 21: VOC).
Options are those of `spec_for(name, ...)`; without any, layout, widths and anchors are those of TensorFlow's Object
Detection API. The V1 paper's detector has 300 pixels and 91 columns; the V2 paper's 320 and 81; the V3 paper's 320
and 91, without the batch norms' parameters. The accuracy is the AP printed there, in percent: of the V2 and V3
papers on COCO test-dev, of torchvision on val2017, "VOC" on the test set of VOC 2007."""

ANCHORS = """\
## Anchors by input size

Anchors come from the real sizes of the maps, so any input works that leaves each map a cell, also one that is not
square."""

LAYOUTS = """\
## Layouts

A layout is what a framework has in common in all its detectors; weights trained under one are wrong under another.
Padding "same" is TensorFlow's (at even sizes right and bottom only), "symmetric" that of PyTorch and Caffe. The
momentum of the batch norms is PyTorch's. On MobileNet V1 qfgaohao's activation is relu."""

RESULTS = """\
## Published detection results

Never compare rows of different splits. TensorFlow's 2018 detectors were trained on train2014 and val2014 without
their minival, that is, on about four fifths of val2017, where they score 25 to 26 in the place of 21 and 22
(tensorflow/models#3884, #6794)."""

WEIGHTS = """\
## What the published weights score

From the records that stand in every weights file; "score floor ..." is our own protocol, measured by `mobilessd
eval`."""
