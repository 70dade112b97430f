# The commands of the course. `make help` lists them. Works with GNU make 3.81 and a POSIX shell.
SHELL = /bin/sh
PY = .venv/bin/python
# What would keep Python from starting, or from finding the course; utils/_isolation.py sees to the rest.
unexport PYTHONHOME PYTHONINSPECT PYTHONOPTIMIZE PYTHONPATH PYTHONPLATLIBDIR PYTHONSAFEPATH PYTHONWARNINGS
export PYTHONUTF8 = 1
ROOT_FLAG = $(shell [ "`id -u`" = 0 ] && echo --allow-root)
# Encrypted: otherwise JupyterLab warns at each kernel that others could read along.
LAB = $(PY) -m utils.course.lab $(ROOT_FLAG) --KernelManager.transport_encryption=auto --LabApp.default_url=/lab/tree/lessons/00_start_here.ipynb $(LAB_FLAGS)
SUITE = -m pytest --nbval -n auto
LISTS = requirements.txt requirements-dev.txt

.PHONY: help lab test quick answers test-oldest test-newest test-colab test-backends notebooks check update experiments headline bench grade repository lock clean environment environment-dev

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' Makefile

lab: environment ## environment, data, and JupyterLab at the first lesson
	@$(PY) -m utils.data
	@$(LAB)

test: environment-dev ## environment, then every test and every notebook, in one summary
	@$(PY) $(SUITE)

quick: environment-dev ## lint, stale notebooks, and the tests without Keras, kernels and other Pythons
	@$(PY) -m utils.course.build --check
	@$(PY) -m pytest --quick

answers: environment-dev ## judge every answer in tests/answers with all ten seeds
	@$(PY) -m pytest -n auto --every-seed tests/test_exercises.py

test-oldest: environment-dev ## the same with the lowest versions that requirements*.txt allow
	@$(PY) -m utils.course.versions oldest --python 3.11 --lowest $(LISTS)
	@.cache/oldest/bin/python $(SUITE)

test-newest: environment-dev ## the same with the highest versions that there are today
	@$(PY) -m utils.course.versions newest --python 3.13 $(LISTS)
	@.cache/newest/bin/python $(SUITE)

test-colab: environment-dev ## [LESSONS="01 05"]: run lessons as Colab does, with its packages
	@$(PY) -m utils.course.colab $(LESSONS)

test-backends: environment-dev ## run every layer on JAX, too, in an environment without TensorFlow
	@sh utils/course/environment.sh backends
	@KERAS_HOME=.cache/keras KERAS_BACKEND=tensorflow $(PY) -m tests.backends write .cache/backends/cases
	@KERAS_HOME=.cache/keras KERAS_BACKEND=jax .cache/backends/bin/python -m tests.backends check .cache/backends/cases

notebooks: environment-dev ## rebuild the notebooks whose source changed
	@$(PY) -m utils.data
	@$(PY) -m utils.course.build

check: environment-dev ## LESSON=03: its style, notebooks, answers and modules, from an edit to confidence
	@$(PY) -m utils.data
	@$(PY) -m utils.course.single $(LESSON)

update: environment ## fetch the newest version of the course; your answers stay
	@$(PY) -m utils.course.update

experiments: environment-dev ## run the experiments whose committed result is stale
	@$(PY) -m utils.data
	@$(PY) -m utils.experiments

headline: environment-dev ## fine-tune by the frozen recipe, five seeds, and test: the course's result
	@$(PY) -m utils.data
	@$(PY) -m utils.experiments --force headline

bench: environment-dev ## measure the speeds that the documentation speaks of
	@$(PY) -m utils.data
	@$(PY) -m utils.course.bench

# As they were typed, and through the environment: names may have spaces, brackets and quotes.
export FILES CSV
override FILES := $(value FILES)
override CSV := $(value CSV)
grade: environment ## FILES="a.ipynb b.ipynb" [CSV=grades.csv]: points of learners' notebooks
	@$(PY) -m utils.data
	@$(PY) -m utils.course.grade $${CSV:+--csv "$$CSV"} -- "$$FILES"

repository: environment-dev ## NAME=owner/name: point badges, README and setup cells at your fork
	@$(PY) -m utils.course.repository "$(NAME)"

lock: ## pin requirements*.txt anew (with uv), for all supported Pythons and platforms
	@sh utils/course/environment.sh lock

clean: ## remove the environment, the prepared data and the caches; JupyterLab's settings stay
	@sh utils/course/environment.sh clean
	rm -rf data/prepared .ruff_cache .pytest_cache
	[ ! -d .cache ] || find .cache -mindepth 1 -maxdepth 1 ! -name jupyter -exec rm -rf {} +
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

environment:
	@sh utils/course/environment.sh lab "$(PYTHON)"

environment-dev:
	@sh utils/course/environment.sh dev "$(PYTHON)"
