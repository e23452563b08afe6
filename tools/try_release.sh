#!/usr/bin/env bash
# Builds sdist and wheel into dist/, checks what PyPI would refuse, and detects with each in an empty environment.
# PYTHON=... is the Python with `build` and `twine` (both in [dev]).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

rm -rf dist
"$python" -m build --outdir dist .
"$python" -m twine check --strict dist/*
cp photos/hopper.jpg "$scratch"
for file in dist/*; do
    rm -rf "$scratch/env"
    "$python" -m venv "$scratch/env"
    "$scratch/env/bin/pip" install --quiet "$PWD/$file[runtime]"
    # From another folder, so that what runs is what was installed.
    (cd "$scratch" && HOME=$scratch env/bin/mobilessd detect hopper.jpg | tee said.txt && grep -q person said.txt)
    (cd "$scratch" && HOME=$scratch env/bin/mobilessd detect hopper.jpg --precision int8 | tee said.txt && grep -q "int8" said.txt && grep -q person said.txt)
    "$scratch/env/bin/python" -c "from detection.train.recipes import load_config; load_config('finetune')"
    echo "$file: $(du -sm "$scratch/env" | cut -f1) MB with [runtime]"
done
