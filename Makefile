# make demo   trains, tests and compares two methods (report/index.html), then finds a person in a photo and in motion
# make test   runs the tests
# make check  what CI adds: formatting, lint, types
# make audit  known vulnerabilities of the pinned packages, by pip-audit; needs a network
#
# Both make their own .venv and install pinned versions first, with the small CPU build of torch where PyTorch's own index
# can be reached. For the CUDA build, from the default index:  make install TORCH=cuda   (later commands keep it)
PYTHON ?= python3
TORCH ?= $(if $(wildcard .venv/.installed-cuda),cuda,cpu)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN := .venv/bin
INSTALLED := .venv/.installed-$(TORCH)
OTHER_BUILD := $(filter-out $(INSTALLED),$(wildcard .venv/.installed-cpu .venv/.installed-cuda))

.PHONY: demo test check audit install clean

demo: install
	$(BIN)/python scripts/demo.py

test: install
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# In an environment of its own: pip-audit must not change what it looks at. Strict: what cannot be looked up is an error.
audit:
	@$(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/python -m pip install --quiet "pip-audit>=2.10,<3"
	@grep -E '^[A-Za-z0-9._-]+==' constraints.txt | sed 's/+cpu//' > .venv-audit/pinned.txt
	.venv-audit/bin/pip-audit --requirement .venv-audit/pinned.txt --no-deps --disable-pip --strict

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@case $(TORCH) in cpu | cuda) ;; *) echo "TORCH=$(TORCH): expected cpu or cuda"; exit 1 ;; esac
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "noise2pose needs Python 3.11 to 3.13; name one with: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing (a few minutes the first time) ..."
	@test -z "$(OTHER_BUILD)" || $(BIN)/python -m pip uninstall --quiet --yes torch
	@# torch alone first: the Linux wheels of the default index would bring the CUDA libraries along
	@test $(TORCH) = cuda || \
		$(BIN)/python -m pip install --quiet --no-deps --retries 1 --index-url $(TORCH_INDEX) -c constraints.txt torch || \
		echo "$(TORCH_INDEX) cannot be reached; taking torch from the default index"
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@rm -f $(OTHER_BUILD)
	@touch $@
	@echo "installed; now: source .venv/bin/activate"

clean:
	rm -rf .venv .venv-audit runs report
