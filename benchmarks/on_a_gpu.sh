#!/usr/bin/env bash
# What only a GPU can show, in under 8 minutes: the tests of tests/gpu, the stack benchmark in short, and a search on
# the bundled dataset whose trials share the GPU. Prints one table at the end; exits with the number of parts that failed.
#
#   benchmarks/on_a_gpu.sh
#
# Needs: Linux, one CUDA device that PyTorch sees, 8 processors, 32 GiB of memory, 2 GiB of disk; no network.
# Python 3.11 or newer as $PYTHON (default: python3) with a CUDA build of torch and what PACKAGES names below; nothing is
# installed here. The search also needs this project's other dependencies (`pip install -e '.[dev]'` has them all): where
# ray or optuna is missing it is left out, and the table says so. Logs and the search's run folder go to $OUT (default:
# results/on-a-gpu).
PACKAGES=(torch numpy scipy pandas pyarrow pillow safetensors fsspec filelock pytest pytest-timeout)
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-results/on-a-gpu}
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
mkdir -p "$OUT"

missing=$("$PYTHON" - "${PACKAGES[@]}" <<'EOF'
import importlib.metadata, sys
have = {(d.metadata["Name"] or "").lower() for d in importlib.metadata.distributions()}
print(*(name for name in sys.argv[1:] if name not in have))
EOF
) || { echo "$0: $PYTHON does not run: set PYTHON to a Python 3.11 or newer" >&2; exit 3; }
if [ -n "$missing" ]; then
    echo "$0: $PYTHON lacks packages: $PYTHON -m pip install $missing" >&2
    exit 3
fi
if ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "$0: $PYTHON sees no CUDA device (or has no torch): nothing here can be shown without one" >&2
    exit 3
fi

rows=() failed=0
part() { # name, seconds at the most, command ...
    local name=$1 limit=$2 began=$SECONDS code
    shift 2
    echo "== $name: $*"
    timeout --kill-after=10 "$limit" "$@" >"$OUT/$name.log" 2>&1
    code=$?
    tail -n 15 "$OUT/$name.log"
    local said="passed"
    [ "$code" -eq 124 ] && said="NOT DONE in $limit s"
    [ "$code" -ne 0 ] && [ "$code" -ne 124 ] && said="FAILED ($code)"
    [ "$code" -ne 0 ] && failed=$((failed + 1))
    rows+=("$(printf '| %-10s | %4d | %-20s | %s |' "$name" $((SECONDS - began)) "$said" "$(gist "$name")")")
}
gist() { # the line of a log that says most
    case $1 in
        tests) grep -E '^[0-9]+ (passed|failed|skipped)|(passed|failed|skipped).* in ' "$OUT/tests.log" | tail -n 1 ;;
        stack) grep -E 'stack of 64' "$OUT/stack.log" | tail -n 1 | tr '|' ',' ;;
        search) grep -E 'GO|PAUSE_AND_FIX|ARCHIVE' "$OUT/search.log" | head -n 1 ;;
    esac
}

part tests 150 "$PYTHON" -m pytest tests/gpu -p no:cacheprovider
part stack 120 "$PYTHON" benchmarks/stack.py --short
if "$PYTHON" -c 'import ray, optuna' 2>/dev/null; then
    part search 195 "$PYTHON" -m search.run phase3 --data clipart --gpus-per-worker 0.25 --time-budget 2m \
        --no-ablation --fresh --results "$OUT" --name search
else
    rows+=("$(printf '| %-10s | %4d | %-20s | %s |' search 0 'NOT RUN' 'no ray or no optuna in this Python')")
fi

echo
"$PYTHON" -c 'import torch; print(torch.cuda.get_device_name(), "torch", torch.__version__)'
echo "| part       |    s | result               | in a line |"
echo "|---|--:|---|---|"
printf '%s\n' "${rows[@]}"
exit "$failed"
