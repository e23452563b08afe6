# make install   an environment in .venv with everything, or PYTHON=... to install into another
# make demo      installs if need be, detects with the weights that ship in a photograph and in a clip, without a network;
#                IMAGES="your.jpg own.jpg" WEIGHTS=file-or-name take the place of its own
# make test      the tests; installs if need be
# make lint      style, formatting, types, layers of imports; installs if need be
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

.PHONY: help install demo test lint format

help:
	@sed -n '/^# make/,/^#$$/s/^# \(.*[^ ]\) *$$/\1/p' Makefile

install:
	@if [ "$(TARGET)" = "$(VENV)" ] && [ ! -x "$(VENV)" ]; then "$(BASE_PYTHON)" -m venv .venv; fi
# One command for torch and torchvision, so that they are a pair.
	"$(TARGET)" -m pip install -e ".[all]"
# albumentations brings opencv-python-headless, which writes over the same files; the one with windows must come last.
	"$(TARGET)" -m pip install --force-reinstall --no-deps opencv-python

demo:
	@"$(TARGET)" -c "import cv2, matplotlib, openvino, detection" 2>/dev/null || $(MAKE) install
	@"$(TARGET)" tools/demo.py $(IMAGES) $(if $(WEIGHTS),--weights "$(WEIGHTS)") --output "$(OUTPUT)"

# An environment that has everything is used as it is; else one is made.
CHOSEN = $(if $(shell $(READY) && echo yes),$(PYTHON),$(TARGET))
NEEDED := hypothesis importlinter mypy msgspec pytest torch
READY = "$(PYTHON)" -c "import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, '$(NEEDED)'.split())))"

test:
	@$(READY) || $(MAKE) install
	"$(CHOSEN)" -m pytest

lint:
	@$(READY) || $(MAKE) install
	"$(CHOSEN)" -m ruff check .
	"$(CHOSEN)" -m ruff format --check .
	"$(CHOSEN)" -m mypy
	"$(CHOSEN)" -c "from importlinter.cli import lint_imports_command as check; check()" --no-logo

format:
	"$(PYTHON)" -m ruff check --fix .
	"$(PYTHON)" -m ruff format .
