"""The class names of COCO and VOC, and which names mean the same thing in both."""

from __future__ import annotations

COCO_80: dict[int, str] = dict(
    zip(
        # The official ids: 80 of 1..90, eleven were given up between the 2014 paper and the release.
        [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)],
        (
            "person|bicycle|car|motorcycle|airplane|bus|train|truck|boat|traffic light|fire hydrant|stop sign|"
            "parking meter|bench|bird|cat|dog|horse|sheep|cow|elephant|bear|zebra|giraffe|backpack|umbrella|handbag|tie|"
            "suitcase|frisbee|skis|snowboard|sports ball|kite|baseball bat|baseball glove|skateboard|surfboard|"
            "tennis racket|bottle|wine glass|cup|fork|knife|spoon|bowl|banana|apple|sandwich|orange|broccoli|carrot|"
            "hot dog|pizza|donut|cake|chair|couch|potted plant|bed|dining table|toilet|tv|laptop|mouse|remote|keyboard|"
            "cell phone|microwave|oven|toaster|sink|refrigerator|book|clock|vase|scissors|teddy bear|hair drier|toothbrush"
        ).split("|"),
        strict=True,
    )
)

VOC_20 = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep "
    "sofa train tvmonitor"
).split()

SYNONYMS = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}


def canonical(name: str) -> str:
    """A class name in COCO's spelling: lower case, single spaces, VOC's names translated."""
    name = " ".join(name.lower().replace("_", " ").replace("-", " ").split())
    return SYNONYMS.get(name.replace(" ", ""), name)


def coco_classes_of_columns(columns: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and COCO ids of the object columns of a COCO detector: 80 (contiguous) or 90 (by official id; the ten ids
    that COCO gave up are called "unused 12" and so on)."""
    if columns == 80:
        return tuple(COCO_80.values()), tuple(COCO_80)
    if columns == 90:
        return tuple(COCO_80.get(i, f"unused {i}") for i in range(1, 91)), tuple(range(1, 91))
    raise ValueError(f"no COCO detector has {columns} object columns")
