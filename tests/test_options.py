"""One idea has one option name in all commands and in Python; whoever writes another name is told ours."""

import contextlib
import inspect
import io
import re

import pytest

from detection.cli.main import available_commands, main, parser_of
from detection.cli.option_names import ELSEWHERE, FORMER, OPTIONS
from detection.cli.parser import all_options
from detection.detector import Detector

LISTS = {"--threads", "--batch"}  # benchmark takes several of these
# `info` and `data check` print JSON in the place of a report, the others write it to a file; 0 workers are right in `train`.
TWO_KINDS = {"--json", "--workers"}


@pytest.fixture(scope="module")
def options():
    """(command, option) of every option that --help shows."""
    found = [pair for name in available_commands() for pair in all_options(parser_of(name))]
    return [(command, option) for command, option in found if option.help != "==SUPPRESS=="]


class TestOneName:
    def test_every_option_has_one_name_and_stands_in_the_table(self, options):
        for command, option in options:
            assert len(option.option_strings) == 1, f"{command}: {option.option_strings}: see FORMER"
            (name,) = option.option_strings
            assert name in OPTIONS, f"{command} {name}: has this idea a name already? See detection/cli/option_names.py"
            assert name not in FORMER, f"{command} {name}: is called {FORMER.get(name)} now"
        assert set(OPTIONS) == {option.option_strings[0] for _, option in options}, "names that no command has any more"

    def test_no_idea_has_two_names(self):
        assert len(set(OPTIONS.values())) == len(OPTIONS)
        assert set(FORMER.values()) <= set(OPTIONS) and not set(FORMER) & set(ELSEWHERE)

    def test_an_option_takes_the_same_in_every_command(self, options):
        kinds = {}
        for command, option in options:
            name = option.option_strings[0]
            if name in LISTS and command == "mobilessd benchmark":
                continue
            kind = "flag" if option.nargs == 0 else getattr(option.type, "__name__", "text")
            kind = kind.removesuffix("_or_auto")
            kinds.setdefault(name, {}).setdefault(kind, []).append(command)
        assert {name for name, found in kinds.items() if len(found) > 1} == TWO_KINDS, kinds

    def test_python_says_the_same_words(self):
        ours = {name[2:].replace("-", "_") for name in OPTIONS}
        words = {
            one.name for one in inspect.signature(Detector.__init__).parameters.values() if one.kind != one.VAR_KEYWORD
        }
        assert words - {"self", "name_or_path"} <= ours and {"score", "iou", "max_detections", "classes"} <= words


class TestUnknownOptions:
    @pytest.mark.parametrize(
        "line,answer",
        [
            ("detect a.jpg --scroe 0.5", "unknown option --scroe; did you mean --score?"),
            ("detect --source a.jpg", "unknown option --source: here it is SOURCE, without an option before it"),
            ("detect a.jpg --conf 0.5", "unknown option --conf: here it is --score"),
            ("detect a.jpg --conf=0.5", "unknown option --conf: here it is --score"),
            ("detect a.jpg --max_det 5", "unknown option --max_det; did you mean --max-detections?"),
            ("detect a.jpg --save-txt", "unknown option --save-txt: here it is --"),
            ("detect a.jpg --model a.pt", "unknown option --model: here it is --weights"),
            ("train --imgsz 320", "unknown option --imgsz: here it is --input-size"),
            ("train --conf 0.5", "unknown option --conf"),
            ("train --epoch 3", "unknown option --epoch: here it is --epochs"),
            ("train --batch-size 3", "unknown option --batch-size: here it is --batch"),
            ("train --project a --name b", "unknown option --project: here it is --output"),
            ("train --name b", "unknown option --name: here it is --output"),
            ("train --lr0 0.1", "unknown option --lr0: here it is --lr"),
            ("train --learning-rate 0.1", "unknown option --learning-rate: here it is --lr"),
            ("train --patience 3", "unknown option --patience: here it is --set patience=VALUE"),
            ("train --weight-decay 3", "unknown option --weight-decay: here it is --set optimizer.weight_decay=VALUE"),
            ("train data=a.yaml epochs=3", "unknown: data=a.yaml epochs=3; did you mean --data a.yaml --epochs 3?"),
            ("train --device 0", "GPU 0 is cuda:0"),
            ("eval --imgsz 300", "unknown option --imgsz"),
            ("export --half", "unknown option --half: here it is --precision float16"),
            ("data check --splt val", "unknown option --splt; did you mean --split?"),
            ("live 0 --view-img", "unknown option --view-img: here it is --window"),
            ("detect a.jpg --show", "unknown option --show: `mobilessd live SOURCE` shows while it detects"),
        ],
    )
    def test_the_right_name_is_given(self, line, answer, capsys):
        assert main(line.split()) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error: ") and answer in err and err.count("\n") == 1

    def test_every_answer_names_an_option_that_there_is(self):
        named = {answer.split()[0] for answers in ELSEWHERE.values() for answer in answers if answer.startswith("--")}
        assert named - {"--labels"} <= set(OPTIONS)
        assert not set(ELSEWHERE) & (set(OPTIONS) - {"--model", "--gpu"}), "an option of ours needs no translation"

    @pytest.mark.parametrize(
        ("line", "most"),
        [
            ("detect a.jpg --threads 100000", 1024),
            ("detect a.jpg --shards out --batch 1000000000", 65536),
            ("live 0 --threads 99999999999999999999", 1024),
            ("train --data a.json --batch 1000000000", 65536),
            (f"detect a.jpg --max-detections {'9' * 400}", 2**31 - 1),
        ],
    )
    def test_what_takes_memory_by_its_number_has_a_limit(self, line, most, capsys):
        assert main(line.split()) == 2
        said = capsys.readouterr().err
        assert f"is not at most {most}" in said and said.count("\n") == 1 and len(said) < 500

    def test_names_are_not_shortened(self, capsys):
        assert main(["train", "--conf", "finetune"]) == 2 and main(["detect", "a.jpg", "--rec"]) == 2
        assert capsys.readouterr().err.count("unknown option") == 2


def test_former_names_still_work_and_are_not_shown():
    train, detect = parser_of("train"), parser_of("detect")
    line = [
        "--soft",
        "a.json",
        "--pseudo-labels",
        "b.json",
        "--keep-soft",
        "0.4",
        "--ignore-soft=0.2",
        "--pictures",
        "7",
    ]
    args = train.parse_args(line)
    assert args.pseudo_labels == ["a.json", "b.json"] and args.samples == 7
    assert (args.keep_pseudo_labels, args.ignore_pseudo_labels) == (0.4, 0.2)
    assert detect.parse_args(["a.jpg", "--max-det", "5"]).max_detections == 5
    assert parser_of("info").parse_args(["m", "--width-mult", "0.5"]).alpha == 0.5
    for former in FORMER:
        assert not re.search(rf"{former}\b(?!-)", train.format_help() + detect.format_help())


class TestDefaults:
    def test_help_shows_the_default_of_every_option_that_has_one(self):
        for name in available_commands():
            for command, option in all_options(parser_of(name)):
                if option.nargs != 0 and option.default not in (None, [], ""):
                    parser = parser_of(name)
                    text = parser.formatter_class("x")._get_help_string(option)
                    assert "default" in text, f"{command} {option.option_strings}"

    def test_the_defaults_of_train_are_those_of_its_recipe(self):
        from detection.train.config import TrainConfig

        config, text = TrainConfig(), " ".join(parser_of("train").format_help().split())
        said = dict(re.findall(r"--(samples|batch|seed|lr) \S+ [^()]*\(default: ([0-9.]+)", text))
        expected = {"samples": config.samples, "batch": config.batch, "seed": config.seed, "lr": config.optimizer.lr}
        assert {name: float(value) for name, value in said.items()} == expected

    @pytest.mark.parametrize("name", list(available_commands()))
    def test_help_can_be_printed(self, name):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            assert main([name, "--help"]) == 0
        assert out.getvalue().startswith("usage: mobilessd")
