# make story   tells a story with the model that ships (seconds, once PyTorch is installed)
# make demo   trains a small language model on the embedded sample and lets it talk (a minute or two); goes on
#               where Ctrl-C stopped it, and begins anew once it has ended
# make demo-speech   makes speech of the embedded stories, trains a small recogniser on it and lets it listen (ten minutes
#               or more; espeak-ng reads, if it is installed)
# make test   runs the linter and the everyday tests
# make test-all   runs these and the thorough ones; make test-slow, by hand: 200 kills, 10,000 hostile cases
# make single   joins hw04/code/lstlm.py and what it stands on into one file that runs anywhere, build/lstlm.py
# make page   writes build/lstlm.html: the model that ships in one file, which any browser opens and runs
# make report   makes hw04/report.pdf from the stored results; make experiments adds those that are missing (days of one
#               core, less with a GPU; LSTLM_DATA=DIR: where tiny/, wiki/ and glove.6B/ are, if not in hw04/data)
# make bench   measures both systems beside textbooks' loops: half an hour or more, with nothing else running (LSTLM_DATA=DIR as above)
# make bench-short   measures what matters most, on the embedded stories: 3 minutes
# make traces   writes hw04/code/traces.txt, the output of all modes, with the model there (LSTLM_DATA=DIR: where
#               tiny/ is, if not in hw04/data; where it is not, the figures on it are kept; TRAIN_LOG=FILE: the trace
#               of the training of another model)
# make handin   packs build/hw04.zip for the course, and runs it where it is unpacked
# make skeleton   writes build/skeleton/, what students get of both assignments (docs/teaching.md)
# make autograder   packs build/autograder.zip, the grader as Gradescope takes it
# make test-classroom   runs all tests of these: 147 mistakes, 44 hostile submissions (ten minutes or more)
# Each makes .venv with what it needs when it is missing. PYTHON=python3.12 picks the interpreter (3.11 or newer);
# TORCH_INDEX=URL is handed to pip as an extra index, for PyTorch's small CPU build.
PYTHON ?= python3
TORCH_INDEX ?=
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
# Two processes, each of one thread: the tests' tensors are tiny.
PYTEST = OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -n 2
LSTLM = .venv/bin/python hw04/code/lstlm.py
STOPPED = $(wildcard build/demo.state.pt build/demo.state.prev.pt)
ASR = ../.venv/bin/python ../hw4p1/run_asr.py
SAMPLE = -train_corpus hw04/data/sample/train.tokens -valid_corpus hw04/data/sample/valid.tokens

.PHONY: help story demo demo-speech test test-all test-thorough test-slow single page bench bench-short report experiments traces handin \
	skeleton autograder test-classroom clean
help:
	@sed -n '/^#/!q; s/^# //p' Makefile

.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "This needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv module is missing; on Debian or Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	@echo "== making .venv"
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/program: .venv/made requirements.txt
	@echo "== installing PyTorch, NumPy, tqdm and safetensors into .venv (once; minutes on a slow line)"
	@$(PIP) -r requirements.txt
	@touch $@

.venv/dev: .venv/program requirements-dev.txt
	@echo "== installing the tools for tests into .venv (once)"
	@$(PIP) -r requirements-dev.txt
	@touch $@

story: .venv/program
	@$(LSTLM) -prompt -temperature 0.7 -text "once upon a time"

demo: .venv/program
	@echo "== 1/4 training a small model on the embedded sample, into build/demo.pt$(if $(STOPPED), (going on where it was stopped))"
	@$(LSTLM) -train $(SAMPLE) -model build/demo.pt -H 2 -N 256 -EDim 64 -VSize 2000 -B 8 -E 4 -seed 0 $(if $(STOPPED),-resume)
	@echo "== 2/4 how well it predicts stories that it has not seen"
	@$(LSTLM) -evaluate -model build/demo.pt -test_corpus hw04/data/sample/valid.tokens hw04/data/sample/test.tokens
	@echo "== 3/4 it completes a story"
	@$(LSTLM) -prompt -model build/demo.pt -temperature 0.7 -seed 1 -text "once upon a time"
	@echo "== 4/4 what may come after these words"
	@$(LSTLM) -use -greedy -model build/demo.pt -text "one day , a bird"
	@echo "== now yours:"
	@echo ".venv/bin/python hw04/code/lstlm.py -prompt -temperature 0.7 -model build/demo.pt"
	@echo ".venv/bin/python hw04/code/lstlm.py -use -model build/demo.pt"

demo-speech: .venv/dev
	@mkdir -p build
	@echo "== 1/3 training a small recogniser, into build/expts/speech/ (Ctrl-C saves; make demo-speech goes on)"
	@cd build && $(ASR) train --run speech --config ../hw4p1/results/speech.yaml --resume
	@echo "== 2/3 how much of sentences and voices that it has not heard it understands"
	@cd build && $(ASR) evaluate --run speech --beam-width 4 --ctc-weight 0.3
	@echo "== 3/3 it listens to recordings"
	@cd build && $(ASR) recognise --run speech ../hw4p1/build/speech/recordings

test: .venv/dev
	@echo "== linter"
	@.venv/bin/ruff check .
	@echo "== tests"
	@$(PYTEST) -m "not slow and not thorough"

test-all: test test-thorough

test-thorough: .venv/dev
	@echo "== thorough tests"
	@$(PYTEST) -m "thorough and not slow" hw04/tests hw4p1/tests

test-slow: .venv/dev
	@.venv/bin/python -m pytest -q -m slow

single: .venv/program
	@.venv/bin/python hw04/single.py

page: .venv/program
	@.venv/bin/python hw04/page/make_page.py -corpus hw04/data/sample/test.tokens

bench: .venv/dev
	@.venv/bin/python bench/compare.py "$${LSTLM_DATA:-hw04/data}/tiny/tiny.train.tokens.4M"

bench-short: .venv/dev
	@.venv/bin/python bench/compare.py -short hw04/data/sample/train.tokens

report: .venv/dev
	@.venv/bin/python hw04/report/make_report.py

experiments: .venv/dev
	@.venv/bin/python hw04/report/experiments.py run
	@.venv/bin/python hw04/report/experiments.py rates
	@.venv/bin/python hw04/report/experiments.py rest

traces: .venv/program
	@.venv/bin/python hw04/traces.py $(if $(TRAIN_LOG),-train_log "$(TRAIN_LOG)")

handin: .venv/program
	@.venv/bin/python hw04/handin.py

skeleton: .venv/dev
	@.venv/bin/python classroom/skeleton.py

autograder: .venv/dev
	@.venv/bin/python classroom/autograder.py

test-classroom: .venv/dev
	@$(PYTEST) classroom/tests

clean:
	rm -rf build .venv
