# make demo  trains both stages on embedded faces and writes runs/demo/report.html
# make test  runs the tests
# make landmarks  installs the face detector that reconstruct, fit and data_pipelines.landmarks use
# make lint  checks style
# Each makes its own .venv and needs nothing but Python 3.11 to 3.13.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
LANDMARKS := .venv-landmarks
# Minutes that training may take on two cores; the steps of every phase grow with it.
MINUTES ?= 20
RUN := runs/demo
SCALE = $(shell $(BIN)/python -c "print(max(0.02, ($(MINUTES) - 6) / 14))")
CACHE = --config.compilation_cache=$(RUN)/cache
DATA = --config.data.root=$(RUN)/data

.PHONY: demo test slow lint install landmarks clean

install: $(VENV)/installed

$(VENV)/installed: setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python \
	    -c constraints.txt -e '.[data,beam,video,dev]'
	touch $@

demo: install
	$(BIN)/python -m fields_jax.train --config=configs/stage1.py --workdir=$(RUN)/stage1 \
	    --config.steps_scale=$(SCALE) $(CACHE) $(DATA)
	$(BIN)/python -m fields_jax.train --config=configs/stage2.py --workdir=$(RUN)/stage2 \
	    --config.init_from=$(RUN)/stage1 --config.steps_scale=$(SCALE) $(CACHE) $(DATA)
	$(BIN)/python -m fields_jax.evaluate --workdir=$(RUN)/stage1
	$(BIN)/python -m fields_jax.evaluate --workdir=$(RUN)/stage2
	$(BIN)/python -m fields_jax.report --stage1=$(RUN)/stage1 --stage2=$(RUN)/stage2 \
	    --out=$(RUN)/report.html --evaluation_out=$(RUN)/evaluation.json

test: install
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mediapipe wants another numpy than ours and, at this version, Python 3.9 to 3.12.
landmarks: $(LANDMARKS)/installed

$(LANDMARKS)/installed: constraints-landmarks.txt
	test -x $(LANDMARKS)/bin/python || $(PYTHON) -m venv $(LANDMARKS)
	$(LANDMARKS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	    -r constraints-landmarks.txt
	touch $@

clean:
	rm -rf $(VENV) $(LANDMARKS) runs
