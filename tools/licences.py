"""Whether anything that `pip install "mobilessd[all]"` brings is under the GPL or AGPL. Exit code 1 where something is, 2 where
not all of it is installed and so was not looked at.

    python tools/licences.py [EXTRA ...]

Reads setup.py and the metadata of what is installed here, and follows requirements of requirements. A wheel may hold more than
its metadata says (av: BSD, with x264 and x265 inside), so the names of shared libraries are looked at as well.
"""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from unittest import mock

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
_COPYLEFT = re.compile(r"(?<!L)GPL|GNU (Affero )?General Public", re.IGNORECASE)
_GPL_LIBRARY = re.compile(
    r"lib(x264|x265|xvidcore|postproc|fftw3f?|gsl|readline)\b.*\.(so|dylib|dll)([.0-9]*)", re.IGNORECASE
)
# What the metadata says of files that the wheel does not hold, and where that is seen.
EXCUSED = {"docutils": ("its Emacs mode alone is under the GPL", "rst.el")}


def requirements_of_setup() -> tuple[list[str], dict[str, list[str]]]:
    """(install_requires, extras_require) of setup.py."""
    import setuptools

    with mock.patch.object(setuptools, "setup") as setup:
        runpy.run_path(str(ROOT / "setup.py"))
    return setup.call_args.kwargs["install_requires"], setup.call_args.kwargs["extras_require"]


def closure(requirements: list[str]) -> tuple[list[Distribution], list[str]]:
    """All that these requirements bring on this machine: (what is installed, names of what is not), by name."""
    found: dict[str, Distribution] = {}
    absent: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [(text, frozenset[str]()) for text in requirements]
    while todo:
        text, extras = todo.pop()
        wanted = Requirement(text)
        if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            continue
        key = re.sub(r"[-_.]+", "-", wanted.name).lower(), frozenset(wanted.extras)
        if key in seen:
            continue
        seen.add(key)
        try:
            found[key[0]] = distribution(wanted.name)
        except PackageNotFoundError:
            absent.add(key[0])
            continue
        todo += [(each, key[1]) for each in found[key[0]].requires or ()]
    return [found[name] for name in sorted(found)], sorted(absent)


def trouble_with(package: Distribution) -> str | None:
    """Why a package may not be asked for; None where it may."""
    name = package.metadata["Name"]
    files = [Path(str(file)).name for file in package.files or ()]
    if libraries := sorted({file for file in files if _GPL_LIBRARY.fullmatch(file)}):
        return f"holds {', '.join(libraries)}"
    said = " ".join(_licences(package))
    if not _COPYLEFT.search(said):
        return None
    if name.lower() in EXCUSED and EXCUSED[name.lower()][1] not in files:
        return None
    return f"is under {said}"


def _licences(package: Distribution) -> Iterator[str]:
    metadata = package.metadata
    for text in (metadata.get("License-Expression") or "", (metadata.get("License") or "").partition("\n")[0]):
        # Who is offered several may take one of them: MPL-1.1 OR GPL-2.0. With an AND inside, all of it counts.
        choices = re.split(r"\s+OR\s+", text) if " AND " not in text else [text]
        yield next((choice for choice in choices if not _COPYLEFT.search(choice)), text)
    yield from (line for line in metadata.get_all("Classifier") or () if line.startswith("License ::"))
    for file in package.files or ():  # some say it nowhere else; what follows a title may speak of other licences
        if re.search(r"dist-info/(licenses/)?(LICEN[CS]E|COPYING)[^/]*$", str(file), re.IGNORECASE):
            try:
                yield Path(str(file.locate())).read_text("utf-8", "replace").strip()[:60]
            except OSError:
                continue


def main(extras: list[str]) -> int:
    base, known = requirements_of_setup()
    packages, absent = closure([*base, *(each for extra in extras for each in known[extra])])
    wrong = [(package.metadata["Name"], why) for package in packages if (why := trouble_with(package))]
    for name, why in wrong:
        print(f"{name} {why}: keep it out of setup.py", file=sys.stderr)
    print(f"{len(packages)} packages of [{','.join(extras)}], {len(wrong)} under the GPL or AGPL")
    if absent:
        print(f"not looked at, as they are not installed: {', '.join(absent)}; make install", file=sys.stderr)
    return 1 if wrong else 2 if absent else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["all"]))
