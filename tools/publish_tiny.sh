#!/usr/bin/env bash
# Takes all figures of the published tiny model and writes them into README and docs.
#
#   tools/publish_tiny.sh                      the folder mvp_mm/weights/tiny as it is
#   tools/publish_tiny.sh CHECKPOINT COMMIT    publish a checkpoint of configs/mvplm/tiny/pretrained.py
#                                              there first, trained at that commit
#
# IMAGES    held-out images (default 300)
# COMMAND   command of the training, for origin.json (default: tools/train.py with that config)
# HARDWARE  what it was trained on, for origin.json
# STEPS     steps of the training, for origin.json (default: as in the checkpoint)
# MEASURED  result files of measure_model.py that are joined, instead of measuring here
#
# Needs the synthetic world with its tokenizer in data/synthetic (tools/quickstart.sh makes it).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
CONFIG=configs/mvplm/tiny/pretrained.py
FOLDER=mvp_mm/weights/tiny
RESULTS=results/tiny_model.json
IMAGES="${IMAGES:-300}"
COMMAND="${COMMAND:-python tools/train.py $CONFIG}"

publish() { # publish CHECKPOINT COMMIT [OPTIONS]
    python tools/model_converters/publish_model.py "$CONFIG" "$1" --out "$FOLDER" --half --replace \
        --made-by "$COMMAND" --commit "$2" --seed 0 ${STEPS:+--steps "$STEPS"} \
        ${HARDWARE:+--trained-on "$HARDWARE"} --license apache-2.0 \
        --data "the synthetic world of tools/data/make_synthetic_world.py" \
        "ImageNet-1k (the encoder's first weights)" \
        --things circle square triangle star cross heart \
        --stuff grass water sand brick snow "${@:3}"
}

if [ $# -eq 2 ]; then
    publish "$1" "$2"
elif [ $# -ne 0 ]; then
    sed -n '2,/^set -euo/p' "${BASH_SOURCE[0]}" | sed '$d; s/^# \{0,1\}//' >&2
    exit 2
fi
if [ -n "${MEASURED:-}" ]; then
    # shellcheck disable=SC2086
    python tools/analysis_tools/merge_results.py $MEASURED --out "$RESULTS" \
        --weights "$FOLDER/model.safetensors"
else
    python tools/analysis_tools/measure_model.py "$CONFIG" "$FOLDER/model.safetensors" \
        --images "$IMAGES" --out "$RESULTS"
fi
# The threshold stands in the config; a test compares it with what is found here.
python tools/data/make_synthetic_world.py --out data/calibration --train 1 --val 600 --seed 7 --at-least
python tools/analysis_tools/calibrate_presence.py "$CONFIG" "$FOLDER/model.safetensors" --images 600 \
    --data-root data/calibration --out results/tiny_presence.json
# N-acc and T-acc at that threshold on images that had no part in choosing it.
python tools/data/make_synthetic_world.py --out data/elsewhere --train 1 --val 600 --seed 11 --at-least
python tools/analysis_tools/calibrate_presence.py "$CONFIG" "$FOLDER/model.safetensors" --images 600 \
    --data-root data/elsewhere --out results/tiny_presence_elsewhere.json
[ $# -ne 2 ] || publish "$1" "$2" --results "$RESULTS"
python tools/analysis_tools/given_captions.py "$CONFIG" "$FOLDER/model.safetensors" \
    --images "$IMAGES" --out results/given_captions.json
python tools/analysis_tools/fill_in_results.py README.md docs/appendix/tiny_model.md \
    docs/get_started/quickstart.md projects/caption_tuning/README.md
python tools/analysis_tools/answer_sheet.py "$FOLDER" --out work_dirs/tiny_sheet.png
