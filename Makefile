# make study: the digits study into runs/digits.   make test: the tests.   Both set up .venv first.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup study test lint soak bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("oraclegap needs Python >= 3.11, not " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $(STAMP)

study: setup
	$(RUN)/oraclegap launch digits

lint: setup
	$(RUN)/ruff check .
	$(RUN)/lint-imports --no-cache

# Two files at a time: half of a real study's seconds are spent waiting for processes to start.
test: lint
	$(RUN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

soak: setup
	$(RUN)/python tests/faults/soak_inputs.py
	$(RUN)/python tests/faults/soak_corruption.py
	$(RUN)/python tests/leakage/soak_leaks.py
	$(RUN)/python tests/faults/soak_services.py
	$(RUN)/python tests/faults/soak_storage.py
	$(RUN)/python tests/faults/soak_kills.py

bench: setup
	$(RUN)/python benchmarks/harness_cost.py

clean:
	rm -rf $(VENV) build *.egg-info
