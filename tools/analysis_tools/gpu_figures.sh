#!/usr/bin/env bash
# Takes all figures that need a GPU, one log a figure.
#
#   tools/analysis_tools/gpu_figures.sh PEAK_TFLOPS [FOLDER]
#
# PEAK_TFLOPS: the device's dense bfloat16 operations a second, in 10^12 (H100 SXM, H200: 989;
# A100: 312). No data, weights or tokenizer are read.
set -euo pipefail
cd "$(dirname "$0")/../.."
peak=${1:?"usage: gpu_figures.sh PEAK_TFLOPS [FOLDER]"}
out=${2:-work_dirs/gpu_figures}
config=configs/mvplm/stage2.py
mkdir -p "$out"
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv > "$out/device.csv"

take() { # name, tool, arguments
    echo "$1"
    python "tools/analysis_tools/$2.py" "${@:3}" 2>&1 | tee "$out/$1.log"
}

take kernel benchmark_deform_attention "$config" --images 8
step=(benchmark "$config" --images 8 --words 133 --dtype bfloat16 --peak-tflops "$peak")
take inference benchmark_inference "$config" --images 1 8 --dtype bfloat16
take train_step "${step[@]}" --profile "$out/profile.txt"
# Last: it may not fit.
take train_step_without_checkpointing "${step[@]}" \
    --cfg-options model.llm.gradient_checkpointing=False
