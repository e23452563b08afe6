"""A number of training steps as torchvision's detection reference makes them, of the network that we train.

    python torchvision_train.py A.json IMAGES_DIR OUT.json --model ssdlite_mobilenet_v2 --steps 30 --skip 5 --batch 16

Ours is the network alone. All else is torchvision's: its SSD class with its resizing, matching, loss and hard-negative
mining; its "ssdlite" preset of transforms (IoU crop, flip) in the v2 form upon PIL images; the reference's loader of
data, SGD, warm-up and checks of the loss (pytorch/vision, references/detection: train.py, engine.py, presets.py). Eager
float32.
"""

import argparse
import contextlib
import io
import json
import math
import sys
import time
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


class NetworkAsBackbone(nn.Module):
    """The whole of our network in the place where torchvision wants a backbone; its outputs pass as features."""

    def __init__(self, ssd):
        super().__init__()
        self.ssd = ssd

    def forward(self, x):
        encodings, logits = self.ssd(x)
        return {"bbox_regression": encodings, "cls_logits": logits}


class PassingHead(nn.Module):
    def forward(self, features):
        return dict(zip(("bbox_regression", "cls_logits"), features))


class FixedAnchors(nn.Module):
    """Our anchors, as torchvision's generator gives its own: xyxy in pixels, a tensor for each image."""

    def __init__(self, anchors):
        super().__init__()
        self.register_buffer("anchors", anchors, persistent=False)

    def forward(self, images, features):
        return [self.anchors] * len(images.image_sizes)


def build_model(name, alpha, classes):
    from torchvision.models.detection.ssd import SSD

    from detection.boxes.geometry import to_xyxy
    from detection.ssd.network import anchors_of, build
    from detection.weights.names import spec_for

    spec = spec_for(name, num_classes=classes, **({} if alpha is None else {"alpha": alpha}))
    ssd, (height, width) = build(spec), spec.input.size
    anchors = torch.from_numpy(to_xyxy(anchors_of(ssd))) * torch.tensor([width, height, width, height])
    mean, std = ([value / 255 for value in row] for row in (spec.input.mean, spec.input.std))
    return SSD(
        NetworkAsBackbone(ssd), FixedAnchors(anchors), (width, height), classes + 1, mean, std, head=PassingHead()
    )


def build_data(annotations, images):
    """As the reference's get_coco with its v2 transforms. COCO's ids become columns 1..C; images without boxes go."""
    from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
    from torchvision.transforms import v2 as T

    with contextlib.redirect_stdout(io.StringIO()):
        data = CocoDetection(images, annotations)
    column = torch.zeros(max(data.coco.getCatIds()) + 1, dtype=torch.int64)
    column[sorted(data.coco.getCatIds())] = torch.arange(1, len(data.coco.getCatIds()) + 1)

    def relabel(image, target):
        return image, target | {"labels": column[target["labels"]]}

    steps = [T.ToImage(), T.RandomIoUCrop(), T.RandomHorizontalFlip(p=0.5), T.ToDtype(torch.float, scale=True)]
    steps += [T.ConvertBoundingBoxFormat("XYXY"), T.SanitizeBoundingBoxes(), T.ToPureTensor()]
    pipeline = T.Compose(steps)
    data.transforms = lambda image, target: relabel(*pipeline(image, target))
    usable = [
        i for i, number in enumerate(data.ids) if any(min(one["bbox"][2:]) > 1 for one in data.coco.imgToAnns[number])
    ]
    wrapped = wrap_dataset_for_transforms_v2(data, target_keys=["boxes", "labels", "image_id"])
    return torch.utils.data.Subset(wrapped, usable), len(data.coco.getCatIds())


def collate(batch):
    return tuple(zip(*batch))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations"), parser.add_argument("images"), parser.add_argument("out")
    parser.add_argument("--model", default="ssdlite_mobilenet_v2"), parser.add_argument("--alpha", type=float)
    parser.add_argument("--steps", type=int, default=30), parser.add_argument("--skip", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16), parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2), parser.add_argument("--lr", type=float, default=0.002)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    data, classes = build_data(args.annotations, args.images)
    model = build_model(args.model, args.alpha, classes).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=4e-5)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / 1000, total_iters=1000)
    batches = torch.utils.data.BatchSampler(torch.utils.data.RandomSampler(data), args.batch, drop_last=True)
    loader = torch.utils.data.DataLoader(
        data, batch_sampler=batches, num_workers=args.workers, collate_fn=collate, persistent_workers=args.workers > 0
    )
    done, waiting, ends = 0, 0.0, []
    while done < args.steps:
        stream = iter(loader)
        while done < args.steps:
            begun = time.perf_counter()
            batch = next(stream, None)
            if batch is None:
                break
            waiting += (time.perf_counter() - begun) * (done >= args.skip)
            images, targets = batch
            losses = model(list(images), [dict(target) for target in targets])
            loss = sum(losses.values())
            if not math.isfinite(loss.item()):
                raise SystemExit(f"the loss is {loss.item()} at step {done}")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            warm_up.step()
            done += 1
            ends.append(time.perf_counter())
    spent = ends[-1] - ends[args.skip - 1]
    counted = args.steps - args.skip
    said = {"images_per_second": counted * args.batch / spent, "counted_steps": counted, "data_wait": waiting / spent}
    Path(args.out).write_text(json.dumps(said))


if __name__ == "__main__":
    main()
