#!/usr/bin/env bash
# Takes all figures of the published tiny model and writes them into README and docs.
#
#   tools/publish_tiny.sh                      the folder mvp_mm/weights/tiny as it is
#   tools/publish_tiny.sh CHECKPOINT COMMIT    publish a checkpoint of configs/mvplm/tiny/pretrained.py
#                                              there first, trained at that commit
#
# IMAGES   held-out images (default 300)
# COMMAND  command of the training, for origin.json (default: tools/train.py with that config)
#
# Needs the synthetic world with its tokenizer in data/synthetic (tools/quickstart.sh makes it).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
CONFIG=configs/mvplm/tiny/pretrained.py
FOLDER=mvp_mm/weights/tiny
IMAGES="${IMAGES:-300}"
COMMAND="${COMMAND:-python tools/train.py $CONFIG}"
# All weights come from the published folder.
WHOLE=(--cfg-options model.encoder.backbone.pretrained_path=None)

if [ $# -eq 2 ]; then
    python tools/model_converters/publish_model.py "$CONFIG" "$1" --out "$FOLDER" --half --replace \
        --made-by "$COMMAND" --commit "$2"
elif [ $# -ne 0 ]; then
    sed -n '2,/^set -euo/p' "${BASH_SOURCE[0]}" | sed '$d; s/^# \{0,1\}//' >&2
    exit 2
fi
python tools/analysis_tools/measure_model.py "$CONFIG" "$FOLDER/model.safetensors" \
    --images "$IMAGES" --out results/tiny_model.json "${WHOLE[@]}"
python tools/analysis_tools/given_captions.py "$CONFIG" "$FOLDER/model.safetensors" \
    --images "$IMAGES" --out results/given_captions.json "${WHOLE[@]}"
python tools/analysis_tools/fill_in_results.py README.md docs/appendix/tiny_model.md
python tools/analysis_tools/answer_sheet.py "$FOLDER" --out work_dirs/tiny_sheet.png
