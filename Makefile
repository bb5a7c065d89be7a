# A newcomer needs two: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test setup lint format bench docs build wheel sanitize clean

demo: $(VENV)/demo.stamp
	$(BIN)/tidegate demo

test: $(VENV)/setup.stamp
	$(BIN)/python -m pytest

setup: $(VENV)/setup.stamp

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

PIP_INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := pyproject.toml CMakeLists.txt constraints.txt $(wildcard csrc/*)

$(VENV)/demo.stamp: $(SOURCES) | $(VENV)/bin/pip
	$(PIP_INSTALL) --editable '.[demo]'
	touch $@

$(VENV)/setup.stamp: $(SOURCES) | $(VENV)/bin/pip
	$(PIP_INSTALL) --upgrade 'pip>=25.1'
	$(PIP_INSTALL) --group test --group lint --group bench --group build --editable '.[all]'
	touch $@ $(VENV)/demo.stamp
