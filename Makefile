# make install   an environment in .venv with everything, or PYTHON=... to install into another
# make demo      WEIGHTS=file-or-name IMAGES=folder: detects, and says where the drawn pictures lie
# make test      the tests
# make lint      style, formatting, types
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
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

install:
	@if [ "$(TARGET)" = "$(VENV)" ] && [ ! -x "$(VENV)" ]; then "$(BASE_PYTHON)" -m venv .venv; fi
# One command for torch and torchvision, so that they are a pair.
	"$(TARGET)" -m pip install -e ".[all]"
# albumentations brings opencv-python-headless, which writes over the same files; the one with windows must come last.
	"$(TARGET)" -m pip install --force-reinstall --no-deps opencv-python

demo:
ifeq ($(strip $(WEIGHTS)),)
	@echo "No weights named. With a checkpoint and a folder of pictures:"
	@echo "    make demo WEIGHTS=file IMAGES=folder"
	@echo "A published one comes by its name (18 MB, fetched once; any .tflite or .safetensors detector does as well):"
	@echo "    make demo WEIGHTS=ssdlite_mobilenet_v2.coco IMAGES=folder"
	@echo "Until then, what that network costs:"
	@echo
	@"$(PYTHON)" -m detection.cli.main info ssdlite_mobilenet_v2.coco
else ifeq ($(strip $(IMAGES)),)
	@echo "error: which pictures? make demo WEIGHTS=$(WEIGHTS) IMAGES=folder" >&2; exit 2
else
	@"$(PYTHON)" -m detection.cli.main detect "$(IMAGES)" --weights "$(WEIGHTS)" --output "$(OUTPUT)"
	@echo "The drawn pictures lie in $(OUTPUT)"
endif

test:
	"$(PYTHON)" -m pytest

lint:
	"$(PYTHON)" -m ruff check .
	"$(PYTHON)" -m ruff format --check .
	"$(PYTHON)" -m mypy

format:
	"$(PYTHON)" -m ruff check --fix .
	"$(PYTHON)" -m ruff format .
