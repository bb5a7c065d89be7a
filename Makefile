# A newcomer needs two: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CPP := $(wildcard csrc/* src/tidegate/nn/gpu/*.cu* tests/sanitize/*.cpp tests/nn/gpu/*pp)
SOURCES := pyproject.toml CMakeLists.txt constraints.txt $(wildcard csrc/*)
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile
INSTALL := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-ray conformance setup lint format bench docs wheel sanitize lowest audit clean

demo: $(VENV)/demo.stamp
	$(BIN)/tidegate demo

test: $(VENV)/setup.stamp
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest $(PARALLEL)

# Two nodes of a Ray cluster on this machine, of which one is killed; Ray is 240 MB.
test-ray: $(VENV)/setup.stamp
	$(BIN)/python $(INSTALL) --no-build-isolation --editable '.[ray]'
	$(BIN)/python -m pytest tests/forecast/test_ray.py

# torch's own tests of GRUs, fetched from Debian, against ours; what users have asked for; and time
# gaps of real measurements.
conformance: $(VENV)/setup.stamp
	$(BIN)/python $(INSTALL) --group conformance
	$(BIN)/python tests/conformance/torch_own_tests.py
	$(BIN)/python tests/conformance/pain_probes.py
	$(BIN)/python -m pytest tests/forecast/test_gaps.py

setup: $(VENV)/setup.stamp

lint: $(VENV)/setup.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run --Werror $(CPP)
	$(BIN)/pyrefly check

format: $(VENV)/setup.stamp
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(CPP)

docs: $(VENV)/setup.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)-bench/bench.stamp
	$(VENV)-bench/bin/python benchmarks/cpu.py

# What a user installs, and the proof that it needs no compiler.
wheel: $(VENV)/build.stamp
	rm -rf dist
	$(BIN)/python -m build --wheel --no-isolation \
	  -C build-dir=build/wheel -C cmake.define.TIDEGATE_BUNDLE_OPENMP=ON
	PYTHON=$(abspath $(BIN)/python) .ci/check-wheel dist/*.whl

# The kernels' own tests and a stress driver under AddressSanitizer and UndefinedBehaviorSanitizer,
# the driver again under ThreadSanitizer: about seven minutes. Without `site`, the editable install is not found first.
sanitize: $(VENV)/setup.stamp
	$(BIN)/python $(INSTALL) --no-build-isolation --no-deps --upgrade --target build/sanitize/site . \
	  -C build-dir=build/sanitize/address -C cmake.build-type=Debug \
	  -C cmake.define.TIDEGATE_SANITIZE=address,undefined
	build/sanitize/address/stress
	PYTHONPATH=build/sanitize/site:$$($(BIN)/python -c 'import site; print(*site.getsitepackages())') \
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
	$(BIN)/python -S -m pytest tests/test_kernels.py --capture=sys --hypothesis-profile=brief \
	  -k 'not other_instruction_set'
	$(BIN)/cmake -G Ninja -S . -B build/sanitize/thread -DCMAKE_BUILD_TYPE=Debug \
	  -DPython_EXECUTABLE=$(abspath $(BIN)/python) -DTIDEGATE_SANITIZE=thread
	$(BIN)/cmake --build build/sanitize/thread --target stress
	build/sanitize/thread/stress

# The lowest version of each dependency that pyproject.toml allows, and the suite with these.
lowest:
	OMP_WAIT_POLICY=passive $(PYTHON) .ci/lowest $(VENV)-lowest $(PARALLEL)

# What users install: known vulnerabilities, licences, and an SBOM, into build/audit.
audit: $(VENV)/setup.stamp
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit cyclonedx-bom pip-licenses
	$(BIN)/python .ci/audit $(VENV)-audit/bin build/audit

clean:
	rm -rf $(VENV) $(VENV)-bench $(VENV)-lowest $(VENV)-audit build dist site

# Environments. Without build isolation a changed kernel costs one compilation, not all of them.
%/build.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "Python 3.11 or newer is needed, as in: make demo PYTHON=python3.12")'
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python $(INSTALL) --upgrade 'pip>=25.1'
	$(@D)/bin/python $(INSTALL) --group build
	touch $@

$(VENV)/demo.stamp: $(VENV)/build.stamp $(SOURCES)
	@echo 'Installing Tidegate, torch and the demo into $(VENV): once, a few minutes.'
	$(@D)/bin/python $(INSTALL) --no-build-isolation --editable '.[demo]'
	touch $@

$(VENV)/setup.stamp: $(VENV)/build.stamp $(SOURCES)
	@echo 'Installing all that tests need into $(VENV): once, a few minutes.'
	$(@D)/bin/python $(INSTALL) --no-build-isolation --group test --group lint --group docs --editable '.[all]'
	touch $@ $(VENV)/demo.stamp

$(VENV)-bench/bench.stamp: $(VENV)-bench/build.stamp $(SOURCES)
	@echo 'Installing the peers into $(VENV)-bench: once, a few minutes.'
	$(@D)/bin/python $(INSTALL) --no-build-isolation -C build-dir=build/bench --group bench '.[forecast,onnx]'
	touch $@
