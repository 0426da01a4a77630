#!/usr/bin/env bash
# Two workers of one run on this machine, as two machines would run it: each
# with a TF_CONFIG of its own, and a run folder that both see.
#
#     examples/multi_worker.sh --recipe=digits --run_dir=runs/two_workers
set -euo pipefail
python=${PYTHON:-python}
workers='"localhost:'${PORT:-23450}'", "localhost:'$((${PORT:-23450} + 1))'"'

worker() {
    index=$1
    shift
    TF_CONFIG='{"cluster": {"worker": ['$workers']}, "task": {"type": "worker", "index": '$index'}}' \
        "$python" "$(dirname "$0")/pretrain.py" --strategy=multi_worker "$@"
}

worker 1 "$@" &
trap 'kill $! 2>/dev/null || true' EXIT
worker 0 "$@"
wait $!
