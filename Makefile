# Two commands do everything: `make book` and `make test`. PROFILE=smoke|laptop|study|full.
PROFILE ?= laptop
PYTHON ?= python3
CORES ?= all

VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
SITE = $(CURDIR)/_site/$(PROFILE)/_build/html
export PATH := $(BIN):$(PATH)
export ANOMALY_TRANSFER_STORE ?= $(CURDIR)/_store

.PHONY: book preview study mvtec test lint unit site-tests notebooks verdicts repository serve setup unlock clean

book: setup  ## Execute the chapters and build the site.
	@snakemake --cores $(CORES) --config profile=$(PROFILE) --rerun-triggers params --keep-going --quiet host progress reason rules \
	|| { ls .snakemake/locks/* >/dev/null 2>&1 && echo "If no other build is running here, one was killed: make unlock, and again."; exit 1; }
	@echo "The book is at $(SITE)/index.html (make serve PROFILE=$(PROFILE) shows it)"

preview:  ## The same with the smallest profile: shows that everything runs; its numbers are not results.
	@$(MAKE) --no-print-directory book PROFILE=smoke

STUDY := anomaly-transfer run --profile study --export results/study
POOLED := --method gaussian --method neighbours --method neighbours@head
GAUSSIANS := --method gaussian-oas --method gaussian-diagonal --method gaussian-euclidean --method gaussian-largest --method gaussian-smallest
PATCHES := --method patch-gaussian --method patch-shared --method patch-memory
SPLITS := --split grouped --split random --split matched
TABLES := anomaly-transfer tables --profile study --export results/tables/study
STARTS := --variant random --variant imagenet --variant random+normal --variant imagenet+normal
DIGITS := --category 0 --category 1 --category 2
THINGS := --category airplane --category automobile --category bird
RATES := --variant mahalanobis --variant rate-1e-4
REMEDIES := $(RATES) $(patsubst %,--variant %,statistics-crossed statistics-score statistics-fixed squared diagonal euclidean euclidean-anchored rate-3e-6 rate-3e-4 batch-norms-trained late-levels last-level quarter-of-images all-images three-times-as-long)
ONECLASS := $(patsubst %,--method %,svm svm-pixels svm-pca forest forest-pixels forest-pca pseudo-negatives pseudo-negatives-wide)
FEATURES := --variant random --variant imagenet --variant random+normal
OBJECTIVES := $(patsubst %,--variant %,svdd-scratch svdd-unguarded svdd-random svdd-imagenet negatives-random negatives-imagenet compact-random compact-imagenet compact-alone)
DEPTHS := $(patsubst %,--variant %,random-head random-block random-whole imagenet-head imagenet-block imagenet-whole imagenet-whole-focal)
CRACKS := $(patsubst %,--variant %,gaussian patch-memory svm-pixels head-10 head-all network-all)
SEEDS := --seed 0 --seed 1 --seed 2 --seed 3 --seed 4

study: setup  ## Record the study runs of all benchmarks at hand under results/study (a night on two cores).
	$(STUDY) $(POOLED) $(SPLITS) --benchmark elpv
# With five groups the grouped folds are fixed, so only the patch memory needs more than one seed there.
	$(STUDY) $(PATCHES) --split grouped --benchmark elpv --seed 0
	$(STUDY) $(PATCHES) --split random --benchmark elpv
	$(STUDY) --method patch-memory --split grouped --benchmark elpv
	$(STUDY) $(POOLED) $(PATCHES) --benchmark surfaces --seed 0
# A benchmark that is not at hand says how to get it, and the next is run.
	-$(STUDY) $(POOLED) $(SPLITS) --benchmark magnetic_tile
	-$(STUDY) $(PATCHES) $(SPLITS) --benchmark magnetic_tile --seed 0
	-$(STUDY) $(POOLED) $(SPLITS) --benchmark crackforest
	-$(STUDY) $(PATCHES) $(SPLITS) --benchmark crackforest --seed 0
	-$(STUDY) --method gaussian --method neighbours --benchmark mvtec_features --seed 0
	for study in relations few_shot; do $(TABLES) $$study --benchmark elpv $(STARTS); done
	for study in relations few_shot; do $(TABLES) $$study --benchmark surfaces $(STARTS); done
	$(TABLES) twins --benchmark elpv
	-for study in relations few_shot; do $(TABLES) $$study --benchmark magnetic_tile $(STARTS); done
	-$(TABLES) twins --benchmark magnetic_tile
	-for study in relations few_shot; do $(TABLES) $$study --benchmark crackforest $(STARTS); done
	-$(TABLES) relations --benchmark mvtec_features
	-for study in relations few_shot; do $(TABLES) $$study --benchmark mnist $(DIGITS) $(STARTS); done
	-for study in relations few_shot; do $(TABLES) $$study --benchmark cifar10 $(THINGS) $(STARTS); done
	-for name in mnist fashion_mnist cifar10; do $(STUDY) $(POOLED) $(PATCHES) --benchmark $$name --seed 0; done
	for name in elpv surfaces; do $(STUDY) $(GAUSSIANS) --benchmark $$name --seed 0; done
	-for name in magnetic_tile crackforest mvtec_features mnist fashion_mnist cifar10; do $(STUDY) $(GAUSSIANS) --benchmark $$name --seed 0; done
	$(TABLES) tuned --benchmark elpv --category mono $(SEEDS) $(REMEDIES)
	$(TABLES) tuned --benchmark elpv --category poly $(SEEDS) $(RATES)
	$(TABLES) tuned --benchmark surfaces --category brick $(SEEDS) $(REMEDIES)
	-$(TABLES) tuned --benchmark magnetic_tile $(SEEDS) $(RATES)
	-$(TABLES) tuned --benchmark mvtec_ad --category metal_nut $(SEEDS) $(RATES)
	-$(TABLES) tuned --benchmark crackforest $(SEEDS) $(RATES)
	-$(TABLES) tuned --benchmark mnist --category 0 $(SEEDS) $(RATES)
	-$(TABLES) tuned --benchmark cifar10 --category airplane $(SEEDS) $(RATES)
	$(TABLES) localised --benchmark surfaces --category brick --category grass --category gravel $(SEEDS)
	-$(TABLES) localised --benchmark magnetic_tile $(SEEDS)
	-$(TABLES) localised --benchmark mvtec_ad --category metal_nut $(SEEDS)
	-$(TABLES) localised --benchmark crackforest $(SEEDS)
	$(STUDY) $(ONECLASS) --benchmark elpv --seed 0
	$(STUDY) $(ONECLASS) --benchmark surfaces --seed 0
	-for name in magnetic_tile crackforest mnist fashion_mnist cifar10; do $(STUDY) $(ONECLASS) --benchmark $$name --seed 0; done
	$(TABLES) labelled --benchmark elpv --category mono $(FEATURES)
	$(TABLES) oneclass --benchmark elpv --category mono $(OBJECTIVES)
	$(TABLES) supervised --benchmark elpv --category mono $(DEPTHS)
	$(TABLES) labelled --benchmark surfaces --category brick $(FEATURES)
	$(TABLES) oneclass --benchmark surfaces --category brick $(OBJECTIVES)
	$(TABLES) supervised --benchmark surfaces --category brick $(DEPTHS)
	-$(TABLES) labelled --benchmark magnetic_tile $(FEATURES)
	-$(TABLES) oneclass --benchmark magnetic_tile $(OBJECTIVES)
	-$(TABLES) supervised --benchmark magnetic_tile $(DEPTHS)
	-$(TABLES) labelled --benchmark crackforest $(FEATURES)
	-$(TABLES) oneclass --benchmark crackforest $(OBJECTIVES)
	-$(TABLES) supervised --benchmark crackforest $(DEPTHS)
	-$(TABLES) labelled --benchmark mnist --category 0 $(FEATURES)
	-$(TABLES) oneclass --benchmark mnist --category 0 $(OBJECTIVES)
	-$(TABLES) supervised --benchmark mnist --category 0 $(DEPTHS)
	-$(TABLES) labelled --benchmark cifar10 --category airplane $(FEATURES)
	-$(TABLES) oneclass --benchmark cifar10 --category airplane $(OBJECTIVES)
	-$(TABLES) supervised --benchmark cifar10 --category airplane $(DEPTHS)
	-for name in mnist cifar10; do $(TABLES) oneclass --benchmark $$name --variant svdd-scratch-whole; done
	for name in elpv surfaces; do $(STUDY) --method combined --benchmark $$name --seed 0; $(TABLES) rivals --benchmark $$name; done
	-for name in magnetic_tile crackforest; do $(STUDY) --method combined --benchmark $$name --seed 0; $(TABLES) rivals --benchmark $$name; done
	-for name in crackforest concrete_cracks; do $(TABLES) cracks --benchmark $$name $(SEEDS) $(CRACKS); done

mvtec: setup  ## The second paper's benchmark by its protocol, at the profile full: needs MVTec AD and a GPU.
	for study in tuned localised; do anomaly-transfer tables $$study --profile full --benchmark mvtec_ad $(SEEDS) --export results/tables/full; done

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

# Two processes of one thread each: two that share the threads of two cores wait for each other.
PARALLEL := OMP_NUM_THREADS=1 pytest -n 2

unit: setup
	$(PARALLEL) --dist loadfile --ignore=tests/book

site-tests: setup
	$(PARALLEL) tests/book

notebooks: setup  ## Derive notebooks/*.ipynb from notebooks/*.py.
	python book/tools/pairs.py

verdicts: setup  ## Compute the verdicts from the recorded runs, and write what is derived from them.
	anomaly-transfer claims --write
	python book/tools/verdicts.py

repository: setup  ## make repository URL=https://github.com/NAME/REPO changes the public address everywhere.
	python book/tools/repository.py $(URL)

serve: setup  ## Show the built book at http://127.0.0.1:8000
	python -m http.server --bind 127.0.0.1 --directory $(SITE) 8000

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Python cannot make virtual environments here: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@

unlock: setup  ## After a build was killed: remove the lock that it left. Nothing computed is lost.
	snakemake --unlock

clean:  ## Remove everything that was built or computed, but not the environment.
	rm -rf _executed _site _store .snakemake .pytest_cache .ruff_cache .mypy_cache .hypothesis
