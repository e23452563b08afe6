"""The parser of all commands: one `error:` line for a mistake, the right name for an unknown option, defaults in --help."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from detection.cli.option_names import ELSEWHERE, FORMER
from detection.errors import UsageError, nearest


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Adds the default of an option to its help, where the help does not say it itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, value = action.help, action.default
        silent = value in (None, argparse.SUPPRESS, False, "") or value == [] or action.nargs == 0
        if silent or (text and "default" in text):
            return text
        shown = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        return f"{text or ''} (default: {shown.replace('%', '%%')})".strip()


class Parser(argparse.ArgumentParser):
    """argparse that takes former names of options, and answers an unknown one with the right one.

    Names are never shortened: `--conf` must not mean `--config`. explain: what a command knows of an unknown option,
    `--lr0` or `--patience`, beyond the table; None where it knows nothing.
    """

    def __init__(self, *, explain: Callable[[str], str | None] | None = None, **options: Any) -> None:
        defaults: dict[str, Any] = {"formatter_class": HelpFormatter, "allow_abbrev": False}
        super().__init__(**defaults | options)
        self.explain = explain

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (`{self.prog} --help` shows all options)")

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse's; `args` must be given. An unknown option is the error before anything that follows from it."""
        assert args is not None
        json = self._option_string_actions.get("--json")
        bare = json is not None and json.nargs == 0  # it prints: `--json -` says the same, as where a file may be named
        args = [word for last, word in zip(["", *args], args) if not (bare and (last, word) == ("--json", "-"))]
        for i, word in enumerate(args[: args.index("--") if "--" in args else None]):
            name, equals, value = word.partition("=")
            new = FORMER.get(name, name)
            if name not in self._option_string_actions and new in self._option_string_actions:
                args[i] = new + equals + value
            elif name.startswith("--") and name not in self._option_string_actions and not self._subparsers:
                self.error(f"unknown option {name}{self.hint(name)}")
        return super().parse_known_args(args, namespace)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse's; `data=coco.yaml epochs=3` is told how it is written here."""
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            pairs = [word.partition("=") for word in rest]
            known = [f"--{key} {value}" for key, equals, value in pairs if equals and f"--{key}" in self.option_names()]
            self.error(f"unknown: {' '.join(rest)}" + (f"; did you mean {' '.join(known)}?" if known else ""))
        return found

    def option_names(self) -> list[str]:
        """The options that --help shows."""
        return [
            name
            for action in self._actions
            if action.help != argparse.SUPPRESS
            for name in action.option_strings
            if name.startswith("--")
        ]

    def hint(self, name: str) -> str:
        """What to say of an unknown option: ours for another framework's, what the command knows, or the nearest."""
        name = name.lower().replace("_", "-")
        known = self.option_names()
        if name in known:
            return f"; did you mean {name}?"
        for answer in ELSEWHERE.get(name, ()):
            option = answer.split()[0].strip(",")
            if option in known or (option == "SOURCE" and self._takes_sources()):
                return f": here it is {answer}"
            if not option.startswith("--") and option != "SOURCE":
                return f": {answer}"
        if self.explain is not None and (own := self.explain(name)):
            return f": {own}"
        near = nearest(name, known, 2, 0.75) or nearest(name, known)
        return f"; did you mean {' or '.join(near)}?" if near else ""

    def _takes_sources(self) -> bool:
        return any(action.metavar == "SOURCE" for action in self._actions if not action.option_strings)


def all_options(parser: argparse.ArgumentParser) -> Iterable[tuple[str, argparse.Action]]:
    """(command, option) of a parser and of the actions below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from all_options(inner)
        elif action.option_strings and action.dest != "help":
            yield parser.prog, action
