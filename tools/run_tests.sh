#!/usr/bin/env bash
# Sets the environment up where needed, checks style, spelling and types, builds the documentation
# and runs the tests.
#
#   tools/run_tests.sh [pytest arguments]
#
# MVP_MM_SAMPLE_DATA  folder with the sample data sets (default: shared/data beside the
#                     repository, where it exists); tests that read them skip without it
# MVP_MM_GOLDEN       folder with tensors recorded from the authors' modules (default:
#                     shared/golden beside the repository); likewise
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$ROOT"

tools/setup_env.sh
if [ -z "${MVP_MM_SAMPLE_DATA:-}" ] && [ -d "$ROOT/../shared/data" ]; then
    MVP_MM_SAMPLE_DATA="$(cd "$ROOT/../shared/data" && pwd)"
    export MVP_MM_SAMPLE_DATA
fi
if [ -z "${MVP_MM_GOLDEN:-}" ] && [ -d "$ROOT/../shared/golden" ]; then
    MVP_MM_GOLDEN="$(cd "$ROOT/../shared/golden" && pwd)"
    export MVP_MM_GOLDEN
fi

# Two workers share the cores: one thread each, or torch's thread pools fight.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export PATH="$ROOT/.venv/bin:$PATH"

ruff check .
codespell
mypy
sphinx-build -q -W --keep-going -b html -d work_dirs/docs/doctrees docs work_dirs/docs/html
exec python -m pytest -n 2 "$@"
