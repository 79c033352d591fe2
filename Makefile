# make        set up .venv, make all figures and tables, say what they show
# make test   set up .venv, run the tests
# make test-slurm, make test-faults  run the long tests
# make lint, make coverage  check style, types and imports; say which lines the tests run
# make bench  measure time and memory: steps beside the plain path, the embedded scale
# make bench-steps  the steps alone
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: all test test-slurm test-faults lint coverage bench bench-steps expected schema clean
.DEFAULT_GOAL := all

all: $(VENV)/installed
	snakemake --cores all all
	@echo; echo "Figures: figures/fig1.pdf to fig7.pdf (and .png)"
	@echo "Tables:  figures/table_claims.html, table_metrics, table_speed, table_textures"
	@echo "         (and .md, .tex, .csv); claims by topic: figures/summary.html"
	@echo "Numbers: results/metrics.csv, results/claims.csv, results/sweep/, benchmarks/speed.csv"
	@echo; cat figures/table_claims.md

test: $(VENV)/installed
	python -m pytest --numprocesses 2 --dist loadfile

# On a Slurm that it starts and stops: apt-get install slurmctld slurmd slurm-client munge
test-slurm: $(VENV)/installed
	python -m pytest tests/slurm -m slurm

# With the long ones: a hundred trainings killed, Snakemake killed twenty times.
test-faults: $(VENV)/installed
	python -m pytest tests/faults tests/test_kubernetes.py -m 'long or not long'

lint: $(VENV)/installed
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-cache --no-logo
	snakefmt --check Snakefile workflow
	snakemake --lint

# Which lines the tests run, of the commands that they start too: a table, and htmlcov/index.html.
coverage: $(VENV)/installed
	python -m pytest --numprocesses 2 --dist loadfile --cov --cov-report term --cov-report html

# The environment is made anew when the pins change; a half-made one is never taken for whole.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11: install a newer Python, then make PYTHON=python3.x" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# Steps, then the embedded scale from nothing (workflow.csv), on a machine with nothing else to do.
bench: bench-steps
	python benchmarks/workflow.py

# Time and memory of steps, evaluations and images: benchmarks/step.csv, growth.csv, limits.csv,
# step.pdf; and how cores are shared out among trainings: jobs.csv
bench-steps: $(VENV)/installed
	python benchmarks/measure.py
	python -m benchmarks.jobs

# After make: keep its results in expected/ and show them in the README.
expected: $(VENV)/installed
	python expected/update.py

schema: $(VENV)/installed
	texnet schema --out workflow/schemas/config.schema.json

clean:
	rm -rf results logs benchmarks/*.tsv benchmarks/speed.csv .snakemake
	rm -f figures/*.pdf figures/*.png figures/summary.html
	rm -f figures/table_*.html figures/table_*.md figures/table_*.tex figures/table_*.csv
