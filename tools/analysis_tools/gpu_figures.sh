#!/usr/bin/env bash
# Takes every figure that needs a GPU, by one command, in six minutes.
#
#   tools/analysis_tools/gpu_figures.sh PEAK_TFLOPS [FOLDER]
#   tools/analysis_tools/gpu_figures.sh --tiny [FOLDER]
#
# PEAK_TFLOPS: the device's dense bfloat16 operations per second, in 10^12 (H100 SXM, H200: 989;
# A100: 312). --tiny tries all of it on the CPU, with the tiny model. No data, weights or tokenizer
# are read. FOLDER gets gpu_figures.json, gpu.json (the form of results/gpu.json, beside the
# earlier record), a profile and one log per command.
set -euo pipefail
cd "$(dirname "$0")/../.."
peak=${1:?"usage: gpu_figures.sh PEAK_TFLOPS|--tiny [FOLDER]"}
out=${2:-work_dirs/gpu_figures}
mkdir -p "$out"
config=configs/mvplm/stage2.py
images=8 steps=10 figures=(--seconds 300 --peak-tflops "$peak")
if [ "$peak" = --tiny ]; then
    config=configs/mvplm/tiny/stage2.py
    images=2 steps=1 peak=1 figures=(--seconds 20 --tiny)
else
    nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv > "$out/device.csv"
fi

take() { # name, tool, arguments
    echo "$1"
    python "tools/analysis_tools/$2.py" "${@:3}" 2>&1 | tee "$out/$1.log"
}

take figures benchmark_gpu "${figures[@]}" --out "$out/gpu_figures.json"
take collect collect_gpu_figures training="$out/gpu_figures.json" \
    --record "results/gpu_record.json" --out "$out/gpu.json"
take kernel benchmark_deform_attention "$config" --images "$images" --steps "$steps"
take train_step benchmark "$config" --images "$images" --words 133 --dtype bfloat16 \
    --peak-tflops "$peak" --steps "$steps" --profile "$out/profile.txt"
