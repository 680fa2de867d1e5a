# Glassdock. `make help` lists the targets; each needs nothing but Python 3.11 and make.
SHELL := /bin/bash
.DEFAULT_GOAL := help
ARGS ?=

.PHONY: help setup lab test bench vm clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  ARGS is passed on: make lab ARGS=--no-browser, make test ARGS='-k registry -x'"

setup: ## Make .venv from the lock file (lab, test and bench do it by themselves)
	@.ci/setup

lab: setup ## Open the course in JupyterLab: engine, course images, chapter 00
	@.venv/bin/glassdock lab $(ARGS)

test: setup ## Run every test that this machine can run, and list what it cannot
	@.ci/packages
	@.venv/bin/pytest $(ARGS)

bench: setup ## Time the engine against Docker, in the same run (root, Debian's docker.io)
	@.venv/bin/python -m tests.bench $(ARGS)

vm: setup ## Run the kernel-facing tests on cgroup v2, in a small virtual machine (Debian, qemu)
	@.venv/bin/python -m tests.vm $(ARGS)

clean: ## Remove .venv and everything that tools left in the clone; the engine's state stays
	@rm -rf .venv artifacts dist .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
