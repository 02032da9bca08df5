#!/usr/bin/env bash
# Train on several GPUs of one or more machines: bash tools/dist_train.sh CONFIG GPUS [flags of train.py]
# More machines: set NNODES, NODE_RANK, MASTER_ADDR (and MASTER_PORT where 29500 is taken).
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG GPUS [flags of tools/train.py]" >&2
    exit 2
fi
config=$1 gpus=$2
command=$(printf '%q ' bash "$0" "$@")
shift 2
exec python "$(dirname "$0")/launch.py" "$command" \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$gpus" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${MASTER_PORT:-29500}" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
