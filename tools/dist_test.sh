#!/usr/bin/env bash
# Evaluate on several GPUs: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [flags of test.py]
# More machines: set NNODES, NODE_RANK, MASTER_ADDR (and MASTER_PORT where 29500 is taken).
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT GPUS [flags of tools/test.py]" >&2
    exit 2
fi
config=$1 checkpoint=$2 gpus=$3
command=$(printf '%q ' bash "$0" "$@")
shift 3
exec python "$(dirname "$0")/launch.py" "$command" \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$gpus" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${MASTER_PORT:-29500}" \
    "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
