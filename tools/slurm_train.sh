#!/usr/bin/env bash
# Trains under Slurm.
#
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]
#
# GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5) shape the job; SRUN_ARGS are passed to srun.
#
# GRACE (120) seconds before its time ends the run gets SIGUSR1, saves a checkpoint and exits with
# code 75. Inside a batch job (sbatch --requeue) the job then goes back into the queue; when it
# starts again, it continues from the newest checkpoint in WORK_DIR that this job has saved.
# Before the first, it begins again as typed.
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]" >&2
    exit 2
fi
SAVED=75
GPUS="${GPUS:-8}"
GPUS_PER_NODE="${GPUS_PER_NODE:-8}"
if [ "$GPUS_PER_NODE" -gt "$GPUS" ]; then
    GPUS_PER_NODE="$GPUS"
fi
TOOLS="$(dirname "${BASH_SOURCE[0]}")"

STATUS=0
# SRUN_ARGS are words, to be split.
# shellcheck disable=SC2086
PYTHONPATH="$TOOLS/..:${PYTHONPATH:-}" srun --partition="$1" --job-name="$2" \
    --gres="gpu:$GPUS_PER_NODE" --ntasks="$GPUS" --ntasks-per-node="$GPUS_PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 --signal="USR1@${GRACE:-120}" \
    ${SRUN_ARGS:-} python -u "$TOOLS/train.py" "$3" --work-dir="$4" --launcher=slurm \
    "${@:5}" || STATUS=$?

if [ "$STATUS" -eq "$SAVED" ] && [ -n "${SLURM_JOB_ID:-}" ]; then
    echo "saved; job $SLURM_JOB_ID goes back into the queue" >&2
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$STATUS"
