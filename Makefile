# make install   an environment in .venv with everything, or PYTHON=... to install into another
# make demo      detects with the weights that ship in photographs and in a clip, without a network; installs the little
#                that it needs (0.5 GB) if need be; IMAGES="your.jpg own.jpg" WEIGHTS=file-or-name take the place of its own
# make test      the tests, two files at a time (JOBS=1, JOBS=8 ...); installs if need be
# make fuzz      FILES=20000 (SEED=1) mutated files against everything that reads files of others; SEED=2 and so on
#                go on from there; 20000 are about 12 minutes of one core
# make lint      style, formatting, types, layers of imports; installs if need be
# make audit     known weaknesses (asks PyPI) and licences of all that is installed; installs if need be; fails, too, where
#                either could not be found out
#
# The Python used: PYTHON=..., else an activated environment, else .venv, else (not for install) python3.

BASE_PYTHON ?= python3
VENV := .venv/bin/python
ifdef VIRTUAL_ENV
PYTHON ?= $(VIRTUAL_ENV)/bin/python
endif
PYTHON ?= $(if $(wildcard $(VENV)),$(VENV),$(BASE_PYTHON))
# What `make install` installs into: never the system's own Python, unless told so.
TARGET := $(if $(filter command% environment%,$(origin PYTHON)),$(PYTHON),$(or $(and $(VIRTUAL_ENV),$(PYTHON)),$(VENV)))

OUTPUT ?= runs/demo
WEIGHTS ?=
IMAGES ?=

.PHONY: help environment install demo test fuzz lint audit format

help:
	@sed -n '/^# make/,/^#$$/s/^# \(.*[^ ]\) *$$/\1/p' Makefile

environment:
	@if [ "$(TARGET)" = "$(VENV)" ] && [ ! -x "$(VENV)" ]; then \
		"$(BASE_PYTHON)" -c "import sys; sys.exit(sys.version_info < (3, 10))" \
			|| { echo "$(BASE_PYTHON) is missing or older than 3.10: make $(MAKECMDGOALS) BASE_PYTHON=python3.12" >&2; exit 2; }; \
		"$(BASE_PYTHON)" -m venv .venv; \
	fi

install: environment
# One command for torch and torchvision, so that they are a pair.
	"$(TARGET)" -m pip install -e ".[all]"
# albumentations brings opencv-python-headless, which writes over the same files; the one with windows must come last.
	"$(TARGET)" -m pip install --force-reinstall --no-deps opencv-python

demo:
	@"$(TARGET)" -c "import cv2, openvino, msgspec, detection" 2>/dev/null \
		|| { $(MAKE) environment && "$(TARGET)" -m pip install -e ".[runtime]"; }
	@"$(TARGET)" tools/demo.py $(IMAGES) $(if $(WEIGHTS),--weights "$(WEIGHTS)") --output "$(OUTPUT)"

# An environment that has everything is used as it is; else one is made.
CHOSEN = $(if $(shell $(READY) && echo yes),$(PYTHON),$(TARGET))
NEEDED := albumentations cv2 flask hypothesis importlinter msgspec mypy onnx openvino pyarrow pytest pytest_timeout scipy starlette torch xdist
READY = "$(PYTHON)" -c "import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, '$(NEEDED)'.split())))"

JOBS ?= 2

test:
	@$(READY) || $(MAKE) install
	"$(CHOSEN)" -m pytest -n $(JOBS) --dist loadfile --max-worker-restart 2

FILES ?= 20000
SEED ?= 1
KEEP ?= runs/fuzz

fuzz:
	@$(READY) || $(MAKE) install
	"$(CHOSEN)" tests/fuzz.py $(patsubst tests/%.py,%,$(wildcard tests/fuzz_of_*.py)) --files $(FILES) --seed $(SEED) --keep $(KEEP)

lint:
	@$(READY) || $(MAKE) install
	"$(CHOSEN)" -m ruff check .
	"$(CHOSEN)" -m ruff format --check .
	"$(CHOSEN)" -m mypy
	"$(CHOSEN)" -c "from importlinter.cli import lint_imports_command as check; check()" --no-logo

# pip-audit and what it needs live in an environment of their own: they are not part of what is looked at.
audit:
	@$(READY) || $(MAKE) install
	@[ -x .venv-audit/bin/pip-audit ] || { "$(BASE_PYTHON)" -m venv .venv-audit && .venv-audit/bin/python -m pip install --quiet pip-audit; }
	@failed=0; "$(CHOSEN)" tools/licences.py all || failed=$$?; \
		"$(CHOSEN)" tools/audit.py .venv-audit/bin/pip-audit \
			"$$("$(CHOSEN)" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" || failed=$$?; \
		exit $$failed

format:
	"$(PYTHON)" -m ruff check --fix .
	"$(PYTHON)" -m ruff format .
