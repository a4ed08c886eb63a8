# Every target works from a fresh checkout, as root on Debian 12 or 13, and installs what it needs.

PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python
# Tests that mostly wait, in two processes, each with labs of its own; and those that need the machine for themselves.
SIDE_BY_SIDE := $(RUN) -m pytest -q -m 'not alone' -n 2 --dist worksteal
ALONE := $(RUN) -m pytest -q -m alone
WITH_HELPER := --helper tests/e2e $(addprefix --ignore=tests/e2e/test_,helper.py gc.py doctor.py)
.DEFAULT_GOAL := help
include packaging/packages.mk

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: demo
demo: ## watch containers on three hosts talk to each other
	@$(PYTHON) -m tests.demo

.PHONY: test
test: lint ## run every test
	$(MAKE) --jobs=2 --output-sync vm-test unit sandbox lab # emulated machines leave a processor
	$(MAKE) package-test e2e reliability

.PHONY: lint
lint: $(VENV)/ready ## ruff and mypy --strict
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

.PHONY: unit
unit: $(VENV)/ready ## the pure parts
	$(RUN) -m pytest -q tests/unit

.PHONY: sandbox
sandbox: $(VENV)/ready ## our modules against a real Open vSwitch, with Debian's libraries and with PyPI's
	$(RUN) -m tests.sandbox

.PHONY: lab
lab: $(VENV)/ready ## the hosts that the tests run on
	$(RUN) -m pytest -q tests/lab

.PHONY: e2e
e2e: $(VENV)/ready ## real Podman on several hosts, without the warm helper and with it
	$(SIDE_BY_SIDE) tests/e2e
	$(ALONE) tests/e2e
	$(SIDE_BY_SIDE) $(WITH_HELPER)
	$(ALONE) $(WITH_HELPER)

.PHONY: reliability
reliability: $(VENV)/ready ## faults everywhere: nothing leaks; writes docs/reliability.md
	$(SIDE_BY_SIDE) tests/reliability
	$(ALONE) tests/reliability

.PHONY: storm
storm: $(VENV)/ready ## the long form of two of these: ten minutes of kills on three hosts, 2,000 attaches
	$(RUN) -m pytest -q --long tests/reliability/test_storm.py tests/reliability/test_flat.py

.PHONY: vm-test
vm-test: $(VENV)/ready ## the package on virtual machines with kernel and systemd, through reboots and upgrades
	$(RUN) -m pytest -q tests/vm

.PHONY: vm-bench
vm-bench: $(VENV)/ready ## what the path of a packet costs, in instructions of a kernel; first answers there
	$(RUN) -m tests.bench datapath answers

.PHONY: bench
bench: $(VENV)/ready ## time of an attach beside netavark's own bridge
	$(RUN) -m tests.bench

.PHONY: clean
clean: ## remove what the other targets left in the checkout
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/ready: setup.cfg pyproject.toml
	$(PYTHON) -c 'import ensurepip, venv' || { apt-get update -q && apt-get install -qy python3-venv; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q -e '.[test]'
	touch $@
