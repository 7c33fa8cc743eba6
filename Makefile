# The two commands of the README. Both set up everything in .venv first, once; a second run installs nothing.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test docs weights setup format clean

demo: setup
	$(BIN)/autohr demo --out demo

# One thread for each worker of the tests, of which there is one for each core: 3 minutes instead of 5 on two cores.
test: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_house.py
	OMP_NUM_THREADS=1 $(BIN)/pytest tests src/autohr --doctest-modules --deselect tests/test_house.py -n auto --dist worksteal

# The site, in site/index.html. A broken link or reference fails the build; nothing is fetched.
docs: setup
	$(BIN)/python benchmarks/results.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Weights like the shipped ones, from nothing; each step goes on where it was stopped. NET names another net than AutoHR,
# whose recordings all other nets share. PORTRAITS names a folder of photographs with landmarks.npz; without it
# everybody is drawn, and less is learned.
NET := autohr
PEOPLE := $(if $(filter autohr,$(NET)),hard,nets)
RECORDINGS_hard := --subjects 1500 --hard
RECORDINGS_nets := --subjects 500 --seed 21000
RUN := runs/release
weights: setup
	$(BIN)/autohr synth $(RUN)-$(PEOPLE) $(RECORDINGS_$(PEOPLE)) --per-subject 1 --duration-s 12 --split train \
		$(if $(PORTRAITS),--portraits $(PORTRAITS))
	$(BIN)/autohr prepare synthetic $(RUN)-$(PEOPLE) --out $(RUN)-$(PEOPLE)-cache --size-px 80
	$(BIN)/autohr train $(if $(filter autohr,$(NET)),release,release_$(NET)) --out $(RUN)-$(NET) \
		--set data.cache=$(RUN)-$(PEOPLE)-cache
	@echo "Try them: $(BIN)/autohr measure face.mp4 --weights $(RUN)-$(NET)/checkpoints/best.onnx"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "autohr needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv demo site build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
