# Two commands do everything: `make book` and `make test`. PROFILE=smoke|laptop|study|full.
PROFILE ?= laptop
PYTHON ?= python3
CORES ?= all

VENV := .venv
CONSTRAINTS := constraints.txt
BIN := $(CURDIR)/$(VENV)/bin
SITE = $(CURDIR)/_site/$(PROFILE)/_build/html
export PATH := $(BIN):$(PATH)
export ANOMALY_TRANSFER_STORE ?= $(CURDIR)/_store

.PHONY: book stale preview study mvtec test lint unit gpu keys memory mutants site-tests lowest newest chapter notebooks verdicts executions repository pdf slides serve setup unlock clean

book: notebooks  ## Execute the chapters and build the site.
	@snakemake --cores $(CORES) --config profile=$(PROFILE) --rerun-triggers params --keep-going --quiet host progress reason rules \
	|| { ls .snakemake/locks/* >/dev/null 2>&1 && echo "If no other build is running here, one was killed: make unlock, and again."; exit 1; }
	@echo "The book is at $(SITE)/index.html (make serve PROFILE=$(PROFILE) shows it)"

stale: notebooks  ## What `make book` would execute.
	@snakemake --summary --config profile=$(PROFILE) --rerun-triggers params 2>/dev/null \
	| awk 'NR > 1 && !/no update/ {print $$1; n++} END {if (!n) print "Nothing is stale."}'

preview:  ## The same with the smallest profile: shows that everything runs; its numbers are not results.
	@$(MAKE) --no-print-directory book PROFILE=smoke

RECORD := snakemake -s results/Snakefile --cores $(CORES) --keep-going --quiet host progress reason rules --config

study: setup  ## Record what results/plan.yml lists of the benchmarks at hand: what is stale, under results/.
	$(RECORD) profile=study

mvtec: setup  ## The second paper's benchmark by its protocol, at the profile full: needs MVTec AD and a GPU.
	$(RECORD) profile=full benchmark=mvtec_ad

test: setup lint unit  ## All checks.
	@$(MAKE) --no-print-directory preview
	@$(MAKE) --no-print-directory site-tests

lint: setup
	ruff check .
	ruff format --check .
	mypy
	python book/tools/pairs.py --check
	python book/tools/verdicts.py --check
	python book/tools/typed_numbers.py
	anomaly-transfer records status

# Two processes of one thread each: two that share the threads of two cores wait for each other.
PARALLEL := OMP_NUM_THREADS=1 pytest -n 2

unit: setup
	$(PARALLEL) --dist loadfile --ignore=tests/book

site-tests: setup
	$(PARALLEL) --dist worksteal tests/book

gpu: setup  ## On a machine with a CUDA card: every study on it and on the CPU, compared and timed (results/gpu.csv).
	pytest -m gpu tests/test_gpu.py

keys: setup  ## Run edited copies of the package: a result's key moves if, and only if, its numbers do.
	$(PARALLEL) -m mutations tests/test_code_used.py

memory: setup  ## Measure what studies take of memory at the profile full (results/memory.csv).
	python book/tools/memory.py

lowest newest: %: _bounds/%.txt  ## The unit tests and one chapter with the lowest versions allowed, and with the newest there are.
	@$(MAKE) --no-print-directory unit chapter CHAPTER=frozen_features PROFILE=smoke VENV=_bounds/$@ CONSTRAINTS=$<

_bounds/lowest.txt: pyproject.toml book/tools/lowest.py
	@mkdir -p $(@D)
	$(PYTHON) book/tools/lowest.py test > $@

_bounds/newest.txt:
	@mkdir -p $(@D)
	@touch $@

chapter: notebooks  ## Execute one chapter: make chapter CHAPTER=frozen_features.
	python book/tools/execute.py $(CHAPTER) $(PROFILE) $(VENV)/$(CHAPTER).ipynb

MODULE ?= metrics/ranking
SAMPLE ?= 60
mutants: setup  ## Does a test notice when a module is changed in one place? MODULE=detectors/gaussian SAMPLE=60 AGAIN=1 (last survivors).
	@python -c 'import cosmic_ray' 2>/dev/null \
	|| python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,mutants]"
	OMP_NUM_THREADS=1 TQDM_DISABLE=1 python book/tools/mutants.py $(MODULE) $(SAMPLE) $(if $(AGAIN),--again)

notebooks: setup  ## Derive notebooks/*.ipynb from notebooks/*.py.
	python book/tools/pairs.py

verdicts: setup  ## Compute the verdicts from the recorded runs, and write what is derived from them.
	anomaly-transfer claims --write
	python book/tools/verdicts.py

executions: setup  ## Keep what the chapters took (PROFILE) under results/; a notebook tells it before it is run.
	python book/tools/executions.py $(PROFILE)

repository: setup  ## make repository URL=https://github.com/NAME/REPO changes the public address everywhere.
	python book/tools/repository.py $(URL)

pdf: book  ## The whole book in one file; needs Chromium.
	BOOK_PROFILE=$(PROFILE) python book/tools/pdf.py _site/$(PROFILE)-pdf _site/what-normal-knows-$(PROFILE).pdf

slides: book  ## The key figures as slides.
	python book/tools/slides.py $(PROFILE) _site/what-normal-knows-$(PROFILE).pptx

serve: setup  ## Show the built book at http://127.0.0.1:8000
	python -m http.server --bind 127.0.0.1 --directory $(SITE) 8000

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Python cannot make virtual environments here: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[test]"
	@touch $@

unlock: setup  ## After a build was killed: remove the lock that it left. Nothing computed is lost.
	snakemake --unlock

clean:  ## Remove everything that was built or computed, but not the environment.
	rm -rf _executed _site _store _mutants .snakemake .pytest_cache .ruff_cache .mypy_cache .hypothesis
