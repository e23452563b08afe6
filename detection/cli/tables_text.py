"""The words of docs/tables.md, between its tables. Constants only."""

INTRO = """\
# Every figure of the papers beside ours

Written by `mobilessd tables > docs/tables.md`; a test keeps the two equal. Our figures are counted, not copied, from
the networks that `mobilessd info NAME` builds. **Parameters** are weights and biases of convolutions and linear
layers, gamma and beta of batch norms (running statistics are none); "no norms" leaves the batch norms out.
**Multiply-adds** are those of convolutions and linear layers, for one image. `M` is a million, `G` a billion (the
papers' B). What is printed elsewhere reads `parameters / multiply-adds / accuracy`.

Every printed digit is ours, rounded, unless the last column says otherwise. *Cut*: ours with the further digits cut
off. *No norms*: ours without the batch norms' parameters.

![Top-1 against multiply-adds and parameters; AP against multiply-adds](images/accuracy_against_cost.png)

The V1 paper's figures 4 and 5 with our counts and slim's top-1, which it has for every width and input size, and the
detectors; drawn by `mobilessd tables --plot docs/images/accuracy_against_cost.png`, which prints how well a straight
line fits: 1.65 points of top-1 root mean square over V1's 16 networks, 0.52 without the jump at alpha 0.25 that the
paper names, 1.43 over V2's 22."""

V1 = """\
## MobileNet V1 by width and input

arXiv 1704.04861 and the table of TensorFlow's research/slim (in brackets: top-1 with 8 bits). 1000 outputs with a
bias, min_depth 8."""

V2 = """\
## MobileNet V2 by width and input

arXiv 1801.04381 and the table of TensorFlow's research/slim, which counts no batch norms and cuts digits off. The
last layer keeps its 1280 channels below alpha 1."""

V3 = """\
## MobileNet V3 and VGG-16

arXiv 1905.02244, slim's README and torchvision's records, with torchvision's V2. Where torchvision has two top-1
figures, they are of two recipes."""

V4 = """\
## MobileNet V4

arXiv 2404.10518, the convolutional networks, as timm builds them: its layers counted here give the same numbers."""

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

V1_PAPER = """\
## The tables of the V1 paper

arXiv 1704.04861, tables 1 to 14 in its order. Printed figures read `parameters / multiply-adds / accuracy`; what we do
not build is cited and says so."""

V2_PAPER = """\
## The tables of the V2 paper

arXiv 1801.04381, tables 1 to 6. Its times are of TF-Lite on one large core of a Google Pixel 1; no table here repeats
them on other hardware."""

V2_BLOCK = """\
### Table 1: Bottleneck residual block

From k to k' channels, stride s, expansion t, here counted on our block from 64 to 96 channels with s 1, t 6 on a
14 x 14 map (the paper's h x w x d' x t (d' + 9 + d'') multiply-adds)."""

V1_SHARES = """\
### Table 2: Resource per layer type

Parameters without batch norms and without the last layer's bias, as these shares imply."""

V1_LAYER = """\
### Table 3: Resource usage for modifications to standard convolution

One layer of 14 x 14, 512 to 512 channels, each row on top of the one above; depthwise separable costs 1/N + 1/9 of the
convolution, SEPARABLE here."""

V1_PLANET = """\
### Table 11: PlaNet

Percent of the Im2GPS test images localized within a distance. Cited: neither PlaNet's images nor its cells were
published. Its text gives PlaNet (on Inception V3) 52 million parameters and 5.74 billion multiply-adds, the MobileNet
one 13 million, 3 of them the backbone's (ours BODY), and "0.58 Million" multiply-adds, which must be billion."""

V2_MEMORY = """\
### Table 3: Channels and memory at each resolution

The most channels / KB that a map of a block's ends needs at 16 bits. Ours: the largest output of a block of that size
(V1: pointwise, V2: projection)."""

TWO_STAGE = """\
What the paper counts of Faster R-CNN, found by counting: the backbone once up to stride 16 (V1's block 11, VGG's
conv5_3), the region proposal network once (a 3x3 convolution of as many channels, twelve anchors a cell), and 300
times what looks at a proposal: V1's blocks 12 and 13 on 14 x 14 cells, of which stride 2 makes 7 x 7, or VGG's linear
layers on 7 x 7; then the scores of 91 columns and four numbers a class. That second stage is 23.5 G of V1's 25.2 G
and 30.5 G. Ours is torchvision's `FasterRCNN` around these parts, with one score an anchor where TensorFlow has two,
and a box for the background too: 6,063,939 parameters in the place of TensorFlow's 6,065,995."""

COMPARED = """\
## Compared with

Networks that the papers compare with, counted by our counter from torchvision's own code; printed is torchvision's
record. The papers' figures for them stand in the tables above, with the reason where they differ. Faster R-CNN's box
head counts once a proposal."""
