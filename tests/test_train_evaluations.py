"""Evaluations on the way take at most a tenth of a run: fewer of them, or on a part of the images, and it is said."""

import logging

import pytest
import train_runs as runs

from detection.train.learn.plan import EVALUATED, evaluations
from detection.train.run import train
from detection.train.state import read_state
from detection.weights.checkpoint import load_checkpoint


@pytest.mark.parametrize(
    ("steps", "every", "images", "times", "part"),
    [
        (4000, 250, 87, 16, 0),  # a long run: as often as asked for
        (40, 4, 87, 1, 0),  # BCCD in 40 steps: not even two fit
        (400, 20, 87, 14, 0),  # fewer, each on all images
        (1000, 50, 2000, 5, 240),  # five on a part, and the whole behind the last step
        (1000, 50, 5000, 1, 0),  # much more validation than training: once
    ],
)
def test_how_often_and_on_what(caplog, steps, every, images, times, part):
    config = runs.config(steps=steps, evaluate_every=every, batch=16, evaluation_share=0.1)
    with caplog.at_level(logging.INFO, "mobilessd.train"):
        apart, chosen = evaluations(config, steps, steps, images)
    assert (-(-steps // apart), chosen) == (times, part)
    assert bool(caplog.messages) == (times < -(-steps // every))
    spent = EVALUATED / 16 * (times * (part or images) + (images if part else 0))
    assert spent <= 0.1 * steps or times == 1


def test_all_are_made_where_the_config_wants_them():
    config = runs.config(steps=40, evaluate_every=4, batch=16, evaluation_share=1)
    assert evaluations(config, 40, 40, 87) == (4, 0)
    assert evaluations(runs.config(steps=40, evaluate_every=0), 40, 40, 87) == (40, 0)


def test_the_result_is_scored_on_all_images_whatever_was_looked_at_on_the_way(tmp_path, monkeypatch, capsys):
    runs.without_report(monkeypatch)
    runs.shapes(tmp_path)
    data = runs.shapes(tmp_path, 9, "val")
    monkeypatch.setattr("detection.train.learn.plan.FEWEST_IMAGES", 2)
    seen = []
    from detection.train import finalize

    validate = finalize.validate
    monkeypatch.setattr(finalize, "validate", lambda *args: (seen.append(args[2].image_ids), validate(*args))[1])
    changes = {
        "evaluate_every": 2,
        "evaluation_share": 0.3,
    }  # of 10 steps of 4 images: 24 images' time, 9 of them whole
    with monkeypatch.context() as patch:
        runs.interrupt_at(patch, 7)
        with pytest.raises(KeyboardInterrupt):
            train(runs.request(data, tmp_path / "run", **changes))
    folder = train(runs.request(data, tmp_path / "run", resume=True, **changes))
    plan = read_state(folder).meta["plan"]
    assert (plan["evaluate_every"], plan["evaluate_images"]) == (2, 3)
    *onway, whole = seen
    assert len(onway) == 5 and len(set(onway)) == 1 and len(onway[0]) == 3  # the same ones before and after the break
    assert len(whole) == 9 and set(onway[0]) < set(whole)
    assert load_checkpoint(folder / "best.safetensors")[1].metrics[0]["images"] == 9
    assert "on 9 images" in capsys.readouterr().out
