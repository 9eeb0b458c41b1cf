#!/usr/bin/env bash
# Is this branch slower than main? Run it at the top of your repository; exit code 1 says yes.
#
#   bash gate.sh [FILE]        FILE (default bench.py) measures once and writes a run folder to its first argument
#
# BASE (origin/main) is checked out beside this one. Both are measured in turns, each time in a new process, on this
# machine and now: no stored figure of another machine is held against it. PROCESSES and BY say how long and how fine.
# SOURCES is the folder that your packages lie in: src where there is one, else the top.
set -euo pipefail
file=${1:-bench.py}
sources=${SOURCES:-$([ -d src ] && echo src || echo .)}
base=$(mktemp -d)/base
git worktree add -q --detach "$base" "${BASE:-origin/main}"
trap 'git worktree remove --force "$base"; rmdir "$(dirname "$base")"' EXIT
[ -e "$base/$file" ] || { mkdir -p "$(dirname "$base/$file")" && cp "$file" "$base/$file"; }  # main has no benchmark yet

# Each side imports its own code. Without this an editable install (pip install -e) gives both sides the branch's.
path_of() { echo "$1/$sources${PYTHONPATH:+:$PYTHONPATH}"; }
for side in "$base" "$PWD"; do
  (cd / && PYTHONPATH=$(path_of "$side") python - "$base/$sources" "$side/$sources") <<'PYTHON' || exit 2
import sys
from importlib.util import find_spec
from pathlib import Path

base, side = (Path(folder).resolve() for folder in sys.argv[1:])
entries = sorted(base.iterdir()) if base.is_dir() else []
names = [entry.stem for entry in entries if entry.suffix == ".py" or (entry / "__init__.py").exists()]
names = names or [entry.name for entry in entries if entry.is_dir()]  # packages without an __init__.py
if not names:
    sys.exit(f"gate.sh: no package in {base}; SOURCES=FOLDER names where yours lie")
for name in filter(str.isidentifier, names):
    spec = find_spec(name) if (side / name).exists() or (side / f"{name}.py").exists() else None
    place = spec and (spec.origin or list(spec.submodule_search_locations or [""])[0])
    if place and side not in Path(place).resolve().parents and Path(place).resolve() != side / name:
        sys.exit(f"gate.sh: import {name} gives {place}, not what lies in {side}; install your package without -e")
PYTHON
done

code=0
laptime compare --run "env 'PYTHONPATH=$(path_of "$base")' python '$base/$file' {out}" \
  --against "env 'PYTHONPATH=$(path_of "$PWD")' python '$PWD/$file' {out}" \
  --stage total --min-effect "${BY:-5%}" --processes "${PROCESSES:-24}" --keep foreign-process \
  ${OUT:+--out "$OUT"} --junit speed.xml ${GITHUB_STEP_SUMMARY:+--github-summary} || code=$?
exit "$code"
