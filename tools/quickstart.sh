#!/usr/bin/env bash
# From a clone to pictures, figures and curves: answers of the published tiny model on one sheet,
# its metrics on held-out images, and a short training that continues from it, with the same metrics
# after it.
#
#   tools/quickstart.sh [--full [--from-nothing]]
#
#   --full            also train the tiny model anew, from an encoder that has seen photographs, and
#                     evaluate it (half an hour on two cores)
#   --from-nothing    with --full: no pretrained part at all, stage 1 and stage 2
#   --images N        held-out images to measure (default 300)
#
# MVP_MM_PROCESSES  processes (default 2; one thread each on two cores)
#
# Everything lands in work_dirs/quickstart: sheet.png, metrics.json, curves.png,
# continued_metrics.json; of --full full_metrics.json, full_sheet.png, full_curves.png and the
# checkpoints.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$ROOT"
PROCESSES="${MVP_MM_PROCESSES:-2}"
OUT=work_dirs/quickstart
WORLD=data/synthetic
WEIGHTS=mvp_mm/weights/tiny
ENCODER=checkpoints/efficientnet_lite0.safetensors
FULL=0 FROM_NOTHING=0 IMAGES=300

die() { echo "quickstart: error: $*" >&2; exit 1; }

while [ $# -gt 0 ]; do
    case "$1" in
        --full) FULL=1 ;;
        --from-nothing) FROM_NOTHING=1 ;;
        --images)
            [[ "${2:-}" =~ ^[1-9][0-9]*$ ]] || die "--images takes a number, got '${2:-}'"
            IMAGES="$2"
            shift
            ;;
        -h | --help)
            sed -n '2,/^set -euo/p' "${BASH_SOURCE[0]}" | sed '$d; s/^# \{0,1\}//'
            exit 0
            ;;
        *) die "no such option: $1 (tools/quickstart.sh --help)" ;;
    esac
    shift
done
[ "$FROM_NOTHING" = 0 ] || [ "$FULL" = 1 ] || die "--from-nothing says how --full trains"
[ -f "$WEIGHTS/model.safetensors" ] || die "$WEIGHTS/model.safetensors is missing from this clone"

tools/setup_env.sh
CORES="$(env -u OMP_NUM_THREADS nproc)"
export PATH="$ROOT/.venv/bin:$PATH" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
START=$SECONDS
STEP=$SECONDS
step() {
    echo "== [$((SECONDS - START)) s, the last step took $((SECONDS - STEP)) s] $*"
    STEP=$SECONDS
}
make_world() {
    python tools/data/make_synthetic_world.py --out "$WORLD" --train "$1" --val "$2" --at-least \
        --workers "$PROCESSES" >/dev/null
}
metrics_of() { # metrics_of NAME CONFIG CHECKPOINT [OPTIONS]: metrics on held-out images
    bash tools/dist_test.sh "$2" "$3" "$PROCESSES" --work-dir "$OUT/$1_test" \
        --metrics-file "$OUT/$1.json" --overwrite "${@:4}" >"$OUT/$1.log" 2>&1 ||
        die "the test has failed; see $OUT/$1.log"
}
table() { # table FILE...: the main metrics, one column per file
    python tools/analysis_tools/summarize_metrics.py "$@" --brief
}
no_pictures=default_hooks.visualization.interval=1000000

echo "quickstart: $PROCESSES processes share $CORES cores (MVP_MM_PROCESSES takes another number)"
mkdir -p "$OUT"
step "the synthetic world: $IMAGES held-out images, 200 to train on"
make_world 200 "$IMAGES"
[ -d "$WORLD/tokenizer" ] || cp -r "$WEIGHTS/tokenizer" "$WORLD/tokenizer"
cmp -s "$WEIGHTS/tokenizer/tokenizer.json" "$WORLD/tokenizer/tokenizer.json" ||
    die "$WORLD/tokenizer is not the tokenizer of $WEIGHTS; remove that folder and run again"

step "answers to all tasks on two held-out images"
python tools/analysis_tools/answer_sheet.py "$WEIGHTS" --world "$WORLD" --out "$OUT/sheet.png"
step "look at $OUT/sheet.png; next: metrics on held-out images"

metrics_of metrics configs/mvplm/tiny/pretrained.py "$WEIGHTS/model.safetensors" \
    --cfg-options "$no_pictures"
table "$OUT/metrics.json"

STEPS=80
train_shortly() { # train_shortly NAME [ARGUMENTS --cfg-options OPTIONS]: logs every step
    rm -rf "${OUT:?}/$1"
    bash tools/dist_train.sh configs/mvplm/tiny/pretrained.py "$PROCESSES" --work-dir "$OUT/$1" \
        "${@:2}" train_cfg.max_iters=$STEPS param_scheduler.0.end=10 param_scheduler.1.begin=10 \
        param_scheduler.1.end=$STEPS default_hooks.logger.interval=1 log_processor.window_size=1 \
        default_hooks.checkpoint.interval=$STEPS >"$OUT/$1.log" 2>&1 ||
        die "the training has failed; see $OUT/$1.log"
}
step "a short training from the published weights: $STEPS steps"
train_shortly continued --load-from "$WEIGHTS/model.safetensors" \
    --cfg-options optim_wrapper.optimizer.lr=1e-4
step "and one from random values"
train_shortly from_random --cfg-options model.encoder.backbone.pretrained_path=None \
    'default_hooks.handover.pretrained_parts=[]'
python tools/analysis_tools/plot_curves.py "$OUT/from_random" "$OUT/continued" \
    --out "$OUT/curves.png" --mean 10 --log
step "the same held-out images, before and after it"
metrics_of continued_metrics configs/mvplm/tiny/pretrained.py \
    "$OUT/continued/$(cat "$OUT/continued/last_checkpoint")" --cfg-options "$no_pictures"
table "$OUT/metrics.json" "$OUT/continued_metrics.json"
step "done: $OUT/sheet.png, $OUT/metrics.json, $OUT/curves.png"
[ "$FULL" = 1 ] || exit 0

step "the whole world: 6000 images to train on"
make_world 6000 300
rm -rf "$OUT/stage1" "$OUT/stage2"
if [ "$FROM_NOTHING" = 1 ]; then
    CONFIG=configs/mvplm/tiny/stage2.py
    step "stage 1: captions"
    bash tools/dist_train.sh configs/mvplm/tiny/stage1.py "$PROCESSES" --work-dir "$OUT/stage1"
    FROM=(--load-from "$OUT/stage1/$(cat "$OUT/stage1/last_checkpoint")")
else
    CONFIG=configs/mvplm/tiny/pretrained.py
    FROM=()
    [ -f "$ENCODER" ] || python tools/model_converters/convert_efficientnet.py --out "$ENCODER" ||
        die "no pretrained encoder; --full --from-nothing trains without one"
fi
step "stage 2: all tasks"
bash tools/dist_train.sh "$CONFIG" "$PROCESSES" --work-dir "$OUT/stage2" "${FROM[@]}"
python tools/analysis_tools/plot_curves.py "$OUT/stage2" --out "$OUT/full_curves.png"
step "metrics on held-out images"
metrics_of full_metrics "$CONFIG" "$OUT/stage2/$(cat "$OUT/stage2/last_checkpoint")"
table "$OUT/full_metrics.json"
python tools/analysis_tools/contact_sheet.py "$OUT/full_metrics_test/vis_images" \
    --out "$OUT/full_sheet.png"
step "done: $OUT/full_metrics.json, $OUT/full_sheet.png, $OUT/full_curves.png"
