#!/usr/bin/env bash
# Two workers of one run on this machine, as two machines would run it: each
# with a TF_CONFIG of its own, and a run folder that both see.
#
#     examples/multi_worker.sh --recipe=digits --run_dir=runs/two_workers
#
# PYTHON names another interpreter, PORTS other ports than "23450 23451".
set -euo pipefail
python=${PYTHON:-python}
read -r first second <<<"${PORTS:-23450 23451}"
workers='"localhost:'$first'", "localhost:'$second'"'

worker() {
    index=$1
    shift
    export TF_CONFIG='{"cluster": {"worker": ['$workers']}, "task": {"type": "worker", "index": '$index'}}'
    exec "$python" "$(dirname "$0")/pretrain.py" --strategy=multi_worker "$@"
}

worker 1 "$@" &
trap 'kill $! 2>/dev/null || true' EXIT
(worker 0 "$@")
wait $!
