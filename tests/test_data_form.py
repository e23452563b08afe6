"""The one form in memory: subsets, splits, joined data sets and other lists of classes keep boxes where they belong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.data.build import build, concatenate
from detection.data.dataset import PathTable
from detection.errors import BadDataError


def _numbered(images: int, most: int, seed: int):
    """A data set whose box k of image i is recognisable by its label and corners."""
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(images), rng.integers(0, most + 1, images))
    order = rng.permutation(len(owners))
    boxes = np.stack([owners, owners, owners + 5, owners + 5 + np.arange(len(owners)) % 3], 1)
    return build(
        [f"c{i}" for i in range(4)],
        [f"/images/ä {i}.jpg" for i in range(images)],
        owners[order],
        boxes[order],
        (owners % 4)[order],
        image_ids=np.arange(images) * 10,
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(0, 5), st.integers(0, 99), st.data())
def test_subsets_keep_each_box_with_its_image(images, most, seed, choice):
    data = _numbered(images, most, seed)
    chosen = choice.draw(st.lists(st.integers(0, images - 1), max_size=20))
    part = data.subset(chosen)
    assert len(part) == len(chosen)
    for i, original in enumerate(chosen):
        mine, theirs = part.image(i), data.image(original)
        assert mine.path == theirs.path and mine.image_id == theirs.image_id
        assert (mine.boxes == theirs.boxes).all() and (mine.labels == theirs.labels).all()
        assert (mine.boxes[:, 0] == original).all()


def test_a_split_is_seeded_and_complete():
    data = _numbered(40, 3, 0)
    rest, held = data.split(0.15, seed=1)
    assert (len(rest), len(held)) == (34, 6)
    assert sorted([*rest.image_ids, *held.image_ids]) == data.image_ids.tolist()
    assert held.image_ids.tolist() == data.split(0.15, seed=1)[1].image_ids.tolist()
    assert held.image_ids.tolist() != data.split(0.15, seed=2)[1].image_ids.tolist()
    with pytest.raises(BadDataError, match="cannot be split"):
        data.subset([0]).split(0.15)


def test_joining_data_sets_marks_what_each_does_not_annotate():
    people = build(["person"], ["a.jpg", "b.jpg"], [0], [[0, 0, 5, 5]], [0])
    pets = build(["dog", "aeroplane"], ["c.jpg"], [0, 0], [[1, 1, 5, 5], [2, 2, 9, 9]], [0, 1])
    more = build(["airplane", "person"], ["d.jpg"], [0], [[3, 3, 9, 9]], [0])
    data = concatenate(people, pets, more)
    assert data.class_names == ("person", "dog", "aeroplane")  # airplane is aeroplane
    assert [data.image(i).labels.tolist() for i in range(4)] == [[0], [], [1, 2], [2]]
    assert [data.image(i).unknown.tolist() for i in range(4)] == [
        [False, True, True],
        [False, True, True],
        [True, False, False],
        [False, True, False],
    ]
    assert len(set(data.image_ids.tolist())) == 4
    assert data.subset([2, 0]).image(0).unknown.tolist() == [True, False, False]


def test_other_classes_drop_boxes_and_say_so():
    data = build(["cat", "dog"], ["a.jpg"], [0, 0], [[0, 0, 5, 5]] * 2, [0, 1])
    only = data.with_classes(["dog"])
    assert only.labels.tolist() == [-1, 0] and only.faults["unknown class"] == 1
    with pytest.raises(BadDataError, match="none of its classes"):
        data.with_classes(["bus"])
    with pytest.raises(BadDataError, match="no class 'bus'"):
        data.declare_unknown(["bus"])
    assert data.declare_unknown(["dog"]).unknown_classes == ("dog",)
    assert data.declare_unknown(["DOG"]).unknown_classes == ("dog",)


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)))
def test_the_path_table_returns_what_it_was_given(paths):
    table = PathTable.of(paths)
    assert len(table) == len(paths) and list(table) == paths
