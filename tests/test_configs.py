"""The recipes of configs/ and the strict reading of YAML."""

import dataclasses
import math
import re
import subprocess
import sys
import types
import typing

import pytest

from detection.config import keys_of
from detection.errors import MobileSSDError
from detection.ssd.spec import SSDSpec
from detection.train.config import LossConfig, TrainConfig
from detection.train.input.augment import PRESETS, Augmentation
from detection.train.learn.schedule import learning_rate, resolve
from detection.train.recipes import CONFIGS, list_configs, load_config
from detection.weights.card import Card
from detection.weights.names import spec_for
from detection.weights.records import DEFAULT

COCO = 117_266  # images of train2017 that have boxes
TF = 115_228  # images that TensorFlow's detectors were trained on

# name: the published rate at five steps (or epochs) of the recipe. Cosines with TensorFlow's warm-up by hand:
# base / 2 * (1 + cos(pi * (step - warmup) / (total - warmup))).
PUBLISHED = {
    "ssd_mobilenet_v1_coco": ("steps", TF, {0: 0.004, 1: 0.004, 50_000: 0.004, 100_000: 0.004, 199_999: 0.004}),
    "ssdlite_mobilenet_v1_coco": ("steps", TF, {0: 0.004, 1: 0.004, 50_000: 0.004, 100_000: 0.004, 199_999: 0.004}),
    "ssd_mobilenet_v2_coco": ("steps", TF, {0: 0.004, 1: 0.004, 50_000: 0.004, 100_000: 0.004, 199_999: 0.004}),
    "ssdlite_mobilenet_v2_coco": ("steps", TF, {0: 0.004, 1: 0.004, 50_000: 0.004, 100_000: 0.004, 199_999: 0.004}),
    "ssd_mobilenet_v1_sync_focal": ("steps", TF, {0: 0.3, 500: 0.6, 1000: 0.9, 10_500: 0.45, 20_000: 0.0}),
    "ssd_mobilenet_v1_075_sync_focal": ("steps", TF, {0: 0.3, 150: 0.6, 300: 0.9, 5150: 0.45, 10_000: 0.0}),
    "ssdlite_mobilenet_v3_large_tf": ("steps", TF, {0: 0.13333, 1000: 0.266665, 2000: 0.4, 201_000: 0.2, 400_000: 0.0}),
    "tf2_ssd_mobilenet_v2": ("steps", TF, {0: 0.013333, 1000: 0.0466665, 2000: 0.08, 26_000: 0.04, 50_000: 0.0}),
    # torchvision and mmdet step their schedules by epochs; within the warm-up epoch the factor runs over steps
    "torchvision_ssdlite_mobilenet_v3_large": (
        "epochs",
        COCO,
        {0: 0.15 / 1000, 110: 0.139952, 330: 0.075, 495: 0.021967, 659: 8.5e-7},
    ),
    "mmdet_ssdlite_mobilenet_v2": (
        "epochs",
        COCO,
        {0: 1.5e-5, 100: 0.0139952, 300: 0.0075, 450: 0.0021967, 595: 2.57e-6},
    ),
    "ssd300_vgg16_liu": ("steps", TF, {0: 0.001, 279_999: 0.001, 280_000: 0.0001, 359_999: 0.0001, 360_000: 0.00001}),
    "ssd300_vgg16_torchvision": ("epochs", COCO, {0: 2e-6, 79.9: 0.002, 80.1: 0.0002, 109.9: 0.0002, 110.1: 0.00002}),
    "ssd512_vgg16": ("epochs", COCO, {0: 2e-6, 79.9: 0.002, 80.1: 0.0002, 109.9: 0.0002, 110.1: 0.00002}),
    "ssdlite_mobilenet_v2_mobilessd": ("steps", 10_000, {0: 4e-6, 26: 2.166e-05, 53: 4e-5, 526: 2.0033e-05, 1000: 0.0}),
    "ssdlite_mobilenet_v2_scratch": ("steps", 10_000, {0: 1e-4, 100: 8e-4, 200: 1.5e-3, 2162: 7.653e-4, 4125: 3e-5}),
    "ssdlite_mobilenet_v2_scratch_second": (
        "steps",
        10_000,
        {0: 5e-5, 50: 4.25e-4, 100: 8e-4, 1050: 4.08e-4, 2000: 1.6e-5},
    ),
    "finetune": ("steps", 100, {0: 1e-4, 50: 0.00055, 100: 0.001, 362: 0.0005015, 625: 0.0}),
}


def refused(data):
    """The one line with which a config is refused."""
    with pytest.raises(MobileSSDError) as caught:
        TrainConfig.from_dict(data, "run.yaml")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("run.yaml: ")
    return str(caught.value).removeprefix("run.yaml: ")


class TestRecipes:
    def test_every_config_is_tested_here(self):
        assert set(PUBLISHED) == set(list_configs())

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_the_rate_at_five_published_steps(self, name):
        unit, images, published = PUBLISHED[name]
        config = load_config(name)
        schedule = resolve(config, images)
        assert len(published) == 5
        for place, rate in published.items():
            step = place if unit == "steps" else place * images / config.batch
            assert learning_rate(schedule, math.ceil(step)) == pytest.approx(rate, rel=2e-3, abs=1e-12), place

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_the_network_exists_and_gives_the_scores_that_its_loss_trains(self, name):
        config = load_config(name)
        if config.model is None:
            assert name in ("finetune", "ssdlite_mobilenet_v2_mobilessd", "ssdlite_mobilenet_v2_scratch_second")
            return
        spec = spec_for(config.model, **config.options, input_size=config.input_size)
        assert isinstance(spec, SSDSpec) and spec.input.size == (config.input_size,) * 2
        assert config.loss.for_scores(spec.scores) == config.loss

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_the_header_says_source_batch_images_and_ap(self, name):
        header = [line for line in (CONFIGS / f"{name}.yaml").read_text().splitlines() if line.startswith("#")]
        text = " ".join(line.strip("# ") for line in header)
        assert re.search(r"Total batch: ", text) and re.search(r"Images seen: ", text)
        assert re.search(r"Published: |Expected AP: ", text) and max(map(len, header)) <= 120

    @pytest.mark.parametrize(
        "name, epochs",
        [
            ("ssd_mobilenet_v1_sync_focal", 178),
            ("ssd_mobilenet_v1_075_sync_focal", 178),
            ("ssdlite_mobilenet_v3_large_tf", 1777),
            ("tf2_ssd_mobilenet_v2", 222),
            ("ssd_mobilenet_v1_coco", 41.7),
        ],
    )
    def test_images_seen_are_the_published_ones(self, name, epochs):
        config = load_config(name)
        assert resolve(config, TF).total * config.batch / TF == pytest.approx(epochs, rel=2e-3)

    def test_finetune_is_what_happens_without_a_config(self):
        from_the_bundled = dataclasses.replace(TrainConfig(), recipe_batch=16, weights="ssdlite_mobilenet_v2.mobilessd")
        assert load_config("finetune") == from_the_bundled

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_a_config_written_out_reads_back_the_same(self, name, tmp_path):
        config = load_config(name)
        (tmp_path / "config.yaml").write_text(config.to_yaml())
        assert load_config(tmp_path / "config.yaml") == config

    def test_another_batch_keeps_the_recipes_images(self):
        config = load_config("ssd_mobilenet_v1_sync_focal", {"batch": 64})
        schedule = resolve(config, TF)
        assert schedule.total * 64 == 20_000 * 1024 and schedule.lr == pytest.approx(0.9 / 16)

    def test_overrides_win_and_a_new_length_takes_the_place_of_the_files(self):
        changes = {"optimizer.lr": 0.5, "epochs": 3, "augmentation.flip": 0.0, "loss.matcher": "liu"}
        config = load_config("ssd_mobilenet_v1_coco", changes)
        assert (config.optimizer.lr, config.epochs, config.steps, config.loss.matcher) == (0.5, 3, None, "liu")
        assert config.augmentation == dataclasses.replace(PRESETS["tf"], flip=0.0)

    def test_steps_of_the_command_line_are_steps_whatever_the_batch(self):
        config = load_config("ssd_mobilenet_v1_sync_focal", {"batch": 64, "steps": 30})
        assert resolve(config, TF).total == 30

    def test_another_length_stretches_milestones_and_evaluations_and_shortens_the_warm_up(self):
        config = load_config("ssd300_vgg16_liu", {"epochs": 12})
        assert config.schedule.milestones == pytest.approx((8.4, 10.8)) and config.evaluate_every == pytest.approx(0.6)
        short = load_config("finetune", {"samples": 1000})
        assert (short.schedule.warmup, short.evaluate_every) == (10, 100)
        assert resolve(load_config("finetune", {"steps": 25, "batch": 4}), 205).warmup == 4  # 1% of 100 steps of 16
        assert load_config("finetune", {"samples": 20_000}).schedule.warmup == 100

    def test_what_the_command_line_says_of_the_schedule_is_in_its_own_unit(self):
        changes = {"epochs": 12, "schedule.milestones": [6, 9], "evaluate_every": 2}
        config = load_config("ssd300_vgg16_liu", changes)
        assert (config.schedule.milestones, config.evaluate_every) == ((6, 9), 2)

    def test_a_run_folders_config_with_its_own_command_again_is_the_same(self, tmp_path):
        changes = {"batch": 64, "steps": 30}
        config = load_config("ssd_mobilenet_v1_sync_focal", changes)
        (tmp_path / "config.yaml").write_text(config.to_yaml())
        assert load_config(tmp_path / "config.yaml", changes) == config

    def test_keys_of_older_versions_mean_the_same(self, tmp_path):
        (tmp_path / "a.yaml").write_text(
            "pictures: 500\nloss: {localisation: giou, localisation_weight: 2}\ndistillation: {floor: 0.3}\n"
        )
        config = load_config(tmp_path / "a.yaml", {"loss.localisation": "ciou"})
        assert (config.samples, config.loss.localization, config.loss.localization_weight) == (500, "ciou", 2)
        assert config.distillation.minimum == 0.3

    def test_an_unknown_name_lists_what_there_is(self):
        with pytest.raises(MobileSSDError, match="no config 'finetoon'; there are finetune, "):
            load_config("finetoon")


class TestStrictness:
    @pytest.mark.parametrize(
        "data, hint",
        [
            ({"optimiser": {}}, "unknown key 'optimiser'; did you mean 'optimizer'?"),
            ({"lr": 0.1}, "unknown key 'lr'; did you mean 'optimizer.lr'?"),
            ({"warmup": 1}, "unknown key 'warmup'; did you mean 'schedule.warmup'?"),
            ({"loss": {"match": "tf"}}, "unknown key 'loss.match'; did you mean 'loss.matcher'?"),
            ({"optimizer": {"warmup": 1}}, "unknown key 'optimizer.warmup'; did you mean 'schedule.warmup'?"),
            ({"augmentation": {"flips": 1}}, "unknown key 'augmentation.flips'; did you mean 'augmentation.flip'?"),
            ({"qqq": 1}, "unknown key 'qqq'; known are model, options, "),
        ],
    )
    def test_an_unknown_key_is_refused_with_the_nearest_right_one(self, data, hint):
        assert refused(data).startswith(hint)

    @pytest.mark.parametrize(
        "data, line",
        [
            ({"batch": "many"}, "batch: expected a whole number, found 'many'"),
            ({"batch": 1.5}, "batch: expected a whole number, found 1.5"),
            ({"batch": True}, "batch: expected a whole number, found True"),
            ({"batch": None}, "batch: expected a whole number, found nothing"),
            ({"optimizer": {"lr": [1]}}, "optimizer.lr: expected a number, found [1]"),
            ({"optimizer": {"lr": float("nan")}}, "optimizer.lr: expected a number, found nan"),
            ({"optimizer": 3}, "optimizer: expected keys and values, found 3"),
            ({"optimizer": {"betas": [0.9]}}, "optimizer.betas: expected a list of 2 numbers, found [0.9]"),
            (
                {"optimizer": {"kind": "adam"}},
                "optimizer.kind: expected sgd or adamw or rmsprop, found 'adam'; did you mean 'adamw'?",
            ),
            ({"schedule": {"milestones": 3}}, "schedule.milestones: expected a list (a number each), found 3"),
            ({"rescale_lr": "yes"}, "rescale_lr: expected true or false, found 'yes'"),
            ({"compile": "maybe"}, "compile: expected auto or true or false, found 'maybe'"),
            ({"model": 5}, "model: expected text, found 5"),
            ({"input_size": [300]}, "input_size: expected a whole number or a list of 2 numbers, found [300]"),
            ({"augmentation": "wild"}, "augmentation: unknown preset 'wild'; there are none, tf, liu, mmdet"),
            ({"augmentation": {"flip": "often"}}, "augmentation.flip: expected a number, found 'often'"),
        ],
    )
    def test_a_wrong_type_is_refused(self, data, line):
        assert refused(data).startswith(line)

    @pytest.mark.parametrize(
        "data, line",
        [
            ({"batch": 0}, "batch: 0 is not from 1 to 65536"),
            ({"steps": 5, "epochs": 2}, "steps and epochs: only one can be the length of a run"),
            ({"batch": 10, "accumulate": 4}, "accumulate: a batch of 10 has no 4 equal parts"),
            ({"loss": {"match_iou": 1.5}}, "loss.match_iou: 1.5 is not from 0 to 1"),
            ({"schedule": {"milestones": [3, -1]}}, "schedule.milestones: -1 is not at least 0"),
            ({"input_size": 0}, "input_size: 0 is not at least 1"),
            ({"input_size": [300, 0]}, "input_size: 0 is not at least 1"),
            ({"workers": -1}, "workers: -1 is not from 0 to 256"),
            (
                {"schedule": {"kind": "exponential"}},
                "schedule.decay_every: an exponential schedule needs a length above 0",
            ),
            ({"schedule": {"milestones": [2, 1]}}, "schedule.milestones: they must rise"),
            ({"augmentation": {"crop": "ssd"}}, "augmentation crop: 'ssd' is none of "),
        ],
    )
    def test_a_value_that_makes_no_sense_is_refused(self, data, line):
        assert refused(data).startswith(line)

    def test_numbers_that_yaml_reads_as_text_are_numbers(self, tmp_path):
        (tmp_path / "a.yaml").write_text("optimizer: {lr: 4e-5, weight_decay: 1.5e3}\nsamples: 2e5\n")
        config = load_config(tmp_path / "a.yaml")
        assert config.optimizer.lr == 4e-5 and config.optimizer.weight_decay == 1500 and config.samples == 200_000
        assert type(config.samples) is int

    @pytest.mark.parametrize(
        "text, line",
        [
            ("batch: 3\nbatch: 4\n", "a.yaml:2: no valid YAML (key 'batch' stands twice)"),
            ("batch: [3\n", "a.yaml:2: no valid YAML ("),
            ("- batch\n", "a.yaml: expected keys and values, found ['batch']"),
            ("batch: !!python/object/apply:os.getcwd []\n", "a.yaml:1: no valid YAML ("),
        ],
    )
    def test_a_file_that_is_no_config_is_one_line(self, tmp_path, text, line):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(MobileSSDError, match=re.escape(line)):
            load_config(tmp_path / "a.yaml")

    def test_a_missing_file_and_one_that_is_no_text(self, tmp_path):
        with pytest.raises(MobileSSDError, match=r"none.yaml: no such file"):
            load_config(tmp_path / "none.yaml")
        (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(MobileSSDError, match=r"b.yaml: "):
            load_config(tmp_path / "b.yaml")

    def test_an_empty_file_is_the_default(self, tmp_path):
        (tmp_path / "a.yaml").write_text("# nothing\n")
        assert load_config(tmp_path / "a.yaml") == load_config("finetune")

    def test_what_is_made_by_hand_is_checked_too(self):
        with pytest.raises(MobileSSDError, match="^loss.match_iou: 1.5 is not from 0 to 1$"):
            TrainConfig(loss=LossConfig(match_iou=1.5))
        with pytest.raises(MobileSSDError, match="^batch: expected a whole number, found 'many'$"):
            TrainConfig(batch="many")

    @pytest.mark.parametrize("kind", [TrainConfig, SSDSpec, Card])
    def test_no_hint_brings_msgspec_to_read_foreign_memory(self, kind):
        """msgspec 0.22 breaks down at a limited number in a union with a tuple of fixed length."""
        for key, hint in keys_of(kind):
            parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else ()
            limited = any(typing.get_origin(part) is typing.Annotated for part in parts)
            fixed = any(typing.get_origin(part) is tuple and typing.get_args(part)[-1] is not ... for part in parts)
            assert not (limited and fixed), key

    def test_augmentation_is_a_preset_or_changes_upon_one(self):
        assert TrainConfig.from_dict({"augmentation": "liu"}).augmentation == PRESETS["liu"]
        changed = TrainConfig.from_dict({"augmentation": {"preset": "liu", "mosaic": 0.5}}).augmentation
        assert changed == dataclasses.replace(PRESETS["liu"], mosaic=0.5)
        assert TrainConfig.from_dict({"augmentation": {"mosaic": 0.5}}).augmentation == Augmentation(mosaic=0.5)


class TestInstalled:
    def test_a_wheel_carries_every_recipe_and_the_weights_that_ship(self, tmp_path):
        """Recipes lie in configs/ here and within the package there, where `CONFIGS` looks first."""
        root = CONFIGS.parent
        command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", tmp_path]
        subprocess.run(command, cwd=root, check=True, capture_output=True)
        built = {path.stem for path in (tmp_path / "detection" / "train" / "configs").glob("*.yaml")}
        assert built == set(list_configs())
        ask = "import detection.train.recipes as c; print(c.CONFIGS); print(*c.list_configs())"
        done = subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, check=True, capture_output=True, text=True)
        assert done.stdout.split() == [str(tmp_path / "detection" / "train" / "configs"), *list_configs()]
        made = sorted(path.name for path in (tmp_path / "detection/evaluate/report/templates").iterdir())
        assert made == ["report.html", "sections.html", "sort.js", "style.css"]
        ask = "from detection.weights.resolve import open_weights as o; print(o(None).path, o(None).graph)"
        done = subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, check=True, capture_output=True, text=True)
        here = tmp_path / "detection" / "weights" / DEFAULT
        assert done.stdout.split() == [f"{here}.safetensors", f"{here}.onnx"]

    def test_finetuning_needs_no_folder_of_recipes(self, tmp_path, monkeypatch):
        expected = load_config("finetune", {"epochs": 3})
        monkeypatch.setattr("detection.train.recipes.CONFIGS", tmp_path)
        assert load_config("finetune", {"epochs": 3}) == expected
        with pytest.raises(MobileSSDError, match="no config 'ssdlite_mobilenet_v2_coco'"):
            load_config("ssdlite_mobilenet_v2_coco")
