# make demo   trains, tests and compares two methods, and ends in report/index.html
# make test   runs the tests
# make check  what CI adds: formatting, lint, types
#
# Both make their own .venv and install pinned versions first. The CPU build of torch is taken where its index can be
# reached. For the CUDA build:  make install TORCH_INDEX=https://pypi.org/simple
PYTHON ?= python3
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN := .venv/bin

.PHONY: demo test check install clean

demo: install
	$(BIN)/python scripts/demo.py

test: install
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "noise2pose needs Python 3.11 to 3.13; name one with: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing (a few minutes the first time) ..."
	@# torch alone first: its Linux wheels on PyPI would bring the CUDA libraries along
	@$(BIN)/python -m pip install --quiet --no-deps --retries 1 --index-url $(TORCH_INDEX) -c constraints.txt torch || \
		echo "$(TORCH_INDEX) cannot be reached; taking torch from the default index"
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@
	@echo "installed; now: source .venv/bin/activate"

clean:
	rm -rf .venv runs report
