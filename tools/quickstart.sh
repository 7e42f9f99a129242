#!/usr/bin/env bash
# From nothing to a trained and evaluated tiny model: makes the synthetic world, trains both
# stages, evaluates every task on held-out images and draws a sheet of answers.
#
#   tools/quickstart.sh
#
# MVP_MM_PROCESSES  training processes (default 2; one thread each on two cores)
#
# Everything lands in work_dirs/quickstart: metrics.json, contact_sheet.png, both checkpoints.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$ROOT"
PROCESSES="${MVP_MM_PROCESSES:-2}"
OUT=work_dirs/quickstart
WORLD=data/synthetic

tools/setup_env.sh
export PATH="$ROOT/.venv/bin:$PATH"
START=$SECONDS
step() { echo "== [$((SECONDS - START)) s] $*"; }

step "the synthetic world"
python tools/data/make_synthetic_world.py --out "$WORLD" --train 6000 --val 300 \
    --workers "$PROCESSES" >"/dev/null"
[ -f "$WORLD/tokenizer/tokenizer.json" ] ||
    python tools/data/train_tokenizer.py --world "$WORLD" --out "$WORLD/tokenizer"

step "stage 1: captions"
bash tools/dist_train.sh configs/mvplm/tiny/stage1.py "$PROCESSES" --work-dir "$OUT/stage1"

step "stage 2: all tasks"
bash tools/dist_train.sh configs/mvplm/tiny/stage2.py "$PROCESSES" --work-dir "$OUT/stage2" \
    --load-from "$OUT/stage1/$(cat "$OUT/stage1/last_checkpoint")"

step "evaluation"
bash tools/dist_test.sh configs/mvplm/tiny/stage2.py \
    "$OUT/stage2/$(cat "$OUT/stage2/last_checkpoint")" "$PROCESSES" \
    --work-dir "$OUT/test" --metrics-file "$OUT/metrics.json" --overwrite

step "contact sheet"
python tools/analysis_tools/contact_sheet.py "$OUT/test/vis_images" --out "$OUT/contact_sheet.png"
python tools/analysis_tools/summarize_metrics.py "$OUT/metrics.json"
step "done: $OUT/metrics.json, $OUT/contact_sheet.png"
