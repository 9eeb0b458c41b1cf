#!/usr/bin/env bash
# Is this branch slower than main? Run it in your repository; exit code 1 says yes.
#
#   bash gate.sh [FILE]        FILE (default bench.py) measures once and writes a run folder to its first argument
#
# BASE (origin/main) is checked out beside this one. Both are measured in turns, each time in a new process, on this
# machine and now: no stored figure of another machine is held against it. PROCESSES and BY say how long and how fine.
set -euo pipefail
file=${1:-bench.py}
base=$(mktemp -d)/base
git worktree add -q --detach "$base" "${BASE:-origin/main}"
trap 'git worktree remove --force "$base"' EXIT
code=0
laptime compare --run "python $base/$file {out}" --against "python $PWD/$file {out}" \
  --stage total --min-effect "${BY:-5%}" --processes "${PROCESSES:-24}" --keep foreign-process \
  --out "${OUT:-runs/gate}" --junit speed.xml ${GITHUB_STEP_SUMMARY:+--github-summary} || code=$?
exit "$code"
