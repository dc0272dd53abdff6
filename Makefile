# Every target makes the virtual environment it needs: nothing has to be installed by hand but
# Python 3.11 or newer, git and make.

PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; v = sys.version_info[:2]; v >= (3, 11) and print("%d.%d" % v)')
ifeq ($(VERSION),)
$(error PYTHON=$(PYTHON): no such Python here, or one before 3.11; name one of version 3.11 or newer)
endif
VENV ?= .venv/$(VERSION)
CASE ?= 03_dropout
DECODER := 01_baseline,03_dropout,04_int8,05_fp8,07_checkpoint_async_false,08_checkpoint_async_true

# The extra for the devices of this machine: tpu, cuda, or none on a CPU.
EXTRA ?= $(if $(wildcard /dev/accel* /dev/vfio/[0-9]*),tpu,$(if $(wildcard /dev/nvidia[0-9]*),cuda))
ifneq ($(filter-out tpu cuda,$(EXTRA)),)
$(error EXTRA=$(EXTRA): must be tpu, cuda or nothing)
endif

RUN := $(VENV)/.installed-run$(addprefix -,$(EXTRA))
TEST := $(VENV)/.installed-test
BROWSER := $(VENV)/.installed-browser

comma := ,
INSTALL = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run preflight benchmarks gpu report test test-tpu test-faults test-bisect test-pairs test-fuzz test-package test-lowest test-xpk test-browser picture lint format golden clean

help:  ## show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(RUN)  ## train a case with both implementations on the device that is here (CASE=03_dropout)
	$(VENV)/bin/harness run --case $(CASE) --impl both
	@printf '\nto go on: source "%s/bin/activate", then harness lists the commands\n' "$$(cd $(VENV) && pwd)"

preflight: $(TEST)  ## compile the decoder's cases for TPU slices, by every recipe, and rewrite results/reference/preflight (long)
	$(VENV)/bin/python -m harness.preflight --case $(DECODER) \
	  --topology v6e-8,v6e-32,v6e-256 \
	  --json results/reference/preflight/records.json \
	  --markdown results/reference/preflight/README.md
	for recipe in fast experimental; do \
	  $(VENV)/bin/python -m harness.preflight --case $(DECODER) --recipe $$recipe \
	    --topology v6e-8,v6e-32,v6e-256 \
	    --json results/reference/preflight/$$recipe/records.json \
	    --markdown results/reference/preflight/$$recipe/README.md || exit 1; \
	done

benchmarks: $(TEST)  ## rewrite results/reference/benchmarks where no accelerator is needed (over an hour)
	$(VENV)/bin/python scripts/benchmarks/startup.py
	$(VENV)/bin/python scripts/benchmarks/dispatch.py
	$(VENV)/bin/python scripts/benchmarks/growth.py
	$(VENV)/bin/python scripts/benchmarks/chips.py
	$(VENV)/bin/python scripts/benchmarks/bridge.py
	$(VENV)/bin/python scripts/benchmarks/verdicts.py

gpu: $(RUN)  ## measure the full size on the GPU that is here (SIZE=tiny tries it on a CPU)
	$(VENV)/bin/python scripts/benchmarks/gpu.py $(if $(filter tiny,$(SIZE)),--size tiny --output build/gpu)

report: $(RUN)  ## make pages of all results in build/report
	$(VENV)/bin/python -m harness.report --output build/report

test: $(TEST)  ## run the quick tests, on a CPU with eight forced devices (PYTHON=python3.12)
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile

test-tpu: $(TEST)  ## compile the full-size programs for TPU slices, without a TPU (minutes)
	$(VENV)/bin/python -m pytest -m tpu_compile

test-faults: $(TEST)  ## kill and damage runs hundreds of times (long)
	$(VENV)/bin/python -m pytest -m faults

test-pairs: $(TEST)  ## try whole pairs as their authors wrote them (minutes)
	$(VENV)/bin/python -m pytest -m pairs

test-bisect: $(TEST)  ## plant faults in a model and have them found (minutes)
	$(VENV)/bin/python -m pytest -m bisect

test-fuzz: $(TEST)  ## have thousands of damaged files and command lines read (minutes)
	$(VENV)/bin/python -m pytest -m fuzz

test-package:  ## install a wheel in an empty environment, and use it from another folder (PYTHON=python3.13)
	rm -rf build/package build/lib build/bdist.*
	$(PYTHON) -m venv build/package/venv
	build/package/venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/package .
	build/package/venv/bin/python -m pip install --quiet --disable-pip-version-check "$$(ls build/package/*.whl)[tpu]"
	cd build/package && venv/bin/harness run --list | grep -q 01_baseline
	cd build/package && venv/bin/python -m harness.run --case 03_dropout --impl both --steps 6 --no-turns --run-id own
	cd build/package && venv/bin/harness compare own-linen own-nnx
	cd build/package && venv/bin/harness checkpoints verify results/own-nnx/checkpoints
	cd build/package && venv/bin/harness bisect --case 03_dropout --size tiny
	cd build/package && venv/bin/harness preflight --case 03_dropout --size tiny --topology v6e-8
	cd build/package && venv/bin/harness report --output site

test-lowest:  ## run the quick tests with the lowest versions that pyproject.toml allows (long)
	rm -rf .venv/lowest
	$(PYTHON) -m venv .venv/lowest
	sed -nE 's/^  "([A-Za-z0-9-]+)(\[[a-z]+\])?>=([0-9.]+).*/\1==\3/p' pyproject.toml > .venv/lowest/versions.txt
	.venv/lowest/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint .venv/lowest/versions.txt --editable '.[test]'
	.venv/lowest/bin/python -m pytest -n 2 --dist loadfile

test-xpk: $(TEST) .venv/xpk/bin/xpk  ## have XPK make the manifests, in an environment of its own
	$(VENV)/bin/python -m pytest -m xpk

# Judges whether the pages can be read by everybody; left out where there is no npm.
AXE := axe-core-4.14.1
build/axe/package/axe.min.js:
	mkdir -p build/axe
	cd build/axe && npm pack --silent $(subst -4,@4,$(AXE)) && tar -xzf $(AXE).tgz

test-browser: $(BROWSER) $(if $(shell command -v npm),build/axe/package/axe.min.js)  ## look at the pages in headless Chromium (CHROMIUM=PATH names one)
	$(VENV)/bin/python -m pytest -m browser

picture: $(BROWSER)  ## take the pictures of the README anew, from the committed records
	$(VENV)/bin/python scripts/pictures/picture.py

lint: $(TEST)  ## check the format, the style and the types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

format: $(TEST)  ## write the format and what the linter can mend
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

golden: $(TEST)  ## rewrite configs/golden from the cases and the parameter table
	$(VENV)/bin/python -m pytest -q tests/harness/cases/golden_test.py --update-golden

clean:  ## remove the virtual environments and the caches, never results
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

.venv/xpk/bin/xpk:
	$(PYTHON) -m venv .venv/xpk
	.venv/xpk/bin/python -m pip install --quiet --disable-pip-version-check 'xpk==1.16.*'

$(RUN): pyproject.toml | $(VENV)/bin/python
	$(INSTALL) --editable '.$(if $(EXTRA),[$(EXTRA)])'
	@touch $@

$(TEST): pyproject.toml | $(VENV)/bin/python
	$(INSTALL) --editable '.[test$(if $(EXTRA),$(comma)$(EXTRA))]'
	@touch $@

$(BROWSER): $(TEST)
	$(INSTALL) --editable '.[browser]'
	@touch $@
