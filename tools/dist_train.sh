#!/usr/bin/env bash
# Trains on several processes of this node, or of several nodes.
#
#   tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
#
# NNODES, NODE_RANK, MASTER_ADDR, PORT describe a job of several nodes. Without CUDA the
# processes train on the CPU over gloo.
#
# MAX_RESTARTS (0) says how often the processes are started again after one was lost, on all nodes
# together. They continue from the newest whole checkpoint that this job has saved; before the
# first, they begin again as typed. A node that was lost joins again when it types the same command.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG GPUS [arguments of tools/train.py]" >&2
    exit 2
fi
CONFIG="$1"
GPUS="$2"
TOOLS="$(dirname "${BASH_SOURCE[0]}")"
NNODES="${NNODES:-1}"
NODE_RANK="${NODE_RANK:-0}"
MASTER_ADDR="${MASTER_ADDR:-127.0.0.1}"
MAX_RESTARTS="${MAX_RESTARTS:-0}"

if [ "$MAX_RESTARTS" -gt 0 ]; then
    # Nodes that meet again: node 0 keeps the meeting, the others wait for it for five minutes.
    if [ "$NNODES" -eq 1 ] && [ -z "${PORT:-}" ]; then
        PORT="$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
    fi
    HOST=false
    [ "$NODE_RANK" -ne 0 ] || HOST=true
    export MVP_MM_RENDEZVOUS="$MASTER_ADDR:${PORT:-29500}"
    # A store that torchrun shares with the ranks keeps the addresses of ranks that are gone.
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    MEETING=(--nnodes="$NNODES" --rdzv-backend=c10d --rdzv-endpoint="$MVP_MM_RENDEZVOUS"
             --rdzv-id=mvp_mm --rdzv-conf="is_host=$HOST,read_timeout=300"
             --max-restarts="$MAX_RESTARTS")
elif [ "$NNODES" -gt 1 ] || [ -n "${PORT:-}" ]; then
    MEETING=(--nnodes="$NNODES" --node_rank="$NODE_RANK"
             --master_addr="$MASTER_ADDR" --master_port="${PORT:-29500}")
else
    MEETING=(--standalone) # needs no agreed port: two jobs then run side by side
fi

PYTHONPATH="$TOOLS/..:${PYTHONPATH:-}" exec python -m torch.distributed.run \
    --nproc_per_node="$GPUS" "${MEETING[@]}" \
    "$TOOLS/train.py" "$CONFIG" --launcher pytorch "${@:3}"
