# make study: the digits study into runs/digits.   make test: the tests.   Both set up .venv first.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup study test test-all lint soak bench bench-full docs clean

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

# Three files at a time on two cores: half of a real study's seconds are spent waiting for processes to start.
test: lint
	$(RUN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not long"

test-all: lint
	$(RUN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

soak: setup
	$(RUN)/python tests/faults/soak_inputs.py
	$(RUN)/python tests/faults/soak_corruption.py
	$(RUN)/python tests/leakage/soak_leaks.py
	$(RUN)/python tests/faults/soak_services.py
	$(RUN)/python tests/faults/soak_storage.py
	$(RUN)/python tests/faults/soak_kills.py

# CIFAR10=…/cifar10, a folder of train/<class>/*.jpg: the parts that need real photographs.
CIFAR10 ?=
OF_IMAGES = $(if $(CIFAR10),,@echo "skipped without CIFAR10=…:" )

bench: setup
	$(RUN)/python benchmarks/harness_cost.py --runs 1
	$(RUN)/python benchmarks/step.py --rounds 1
	$(RUN)/python benchmarks/against_naive.py --runs 1
	$(RUN)/python benchmarks/scale.py --trials 10 100
	$(RUN)/python benchmarks/oracle_speed.py $(if $(CIFAR10),--path $(CIFAR10) --limit 6000)
	$(OF_IMAGES)$(RUN)/python benchmarks/against_naive.py --data cifar10 --path $(CIFAR10) --runs 1 --trials 1
	$(OF_IMAGES)$(RUN)/python benchmarks/cpu_training.py --path $(CIFAR10) --limit 600 --epochs 4

# The tables of README and benchmarks/README.md: hours.
bench-full: setup
	$(RUN)/python benchmarks/harness_cost.py --runs 3
	$(RUN)/python benchmarks/step.py
	$(RUN)/python benchmarks/against_naive.py --runs 3
	$(RUN)/python benchmarks/scale.py --trials 10 100 1000
	@$(RUN)/py-spy --version >/dev/null 2>&1 && PATH="$(CURDIR)/$(RUN):$$PATH" $(RUN)/python benchmarks/profile_study.py || echo "no profile without py-spy"
	$(OF_IMAGES)$(RUN)/python benchmarks/oracle_speed.py --path $(CIFAR10) --runs 3
	$(OF_IMAGES)$(RUN)/python benchmarks/against_naive.py --data cifar10 --path $(CIFAR10) --runs 3 --trials 1
	$(OF_IMAGES)$(RUN)/python benchmarks/cpu_training.py --path $(CIFAR10) --runs 3 --variants "as it is" bfloat16 "16, 24, 32 pixels"

# The documentation as a site, into site/.
docs: setup
	$(RUN)/python -m mkdocs build --strict

clean:
	rm -rf $(VENV) build *.egg-info
