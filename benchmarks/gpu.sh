#!/usr/bin/env bash
# Every check that needs a GPU, in one command:
#
#     benchmarks/gpu.sh [FOLDER]      results go to FOLDER, else $OUT, else gpu-results
#
# builds the native module, then runs kernels, parity, GPU tests and the bench with its peers, each as a part of its own:
# a part that fails is recorded and does not stop the others. summary.txt has a line for each, logs.tar.gz what each
# printed; the code is 0 when none failed, 1 when some did, 2 without a GPU. Python is $PYTHON, else python3, with torch, onnx, onnxruntime, nanobind.
#
# DOSSR_BUNDLE, DOSSR_CHECKPOINT, DOSSR_CONFIG, DOSSR_CONTEXT   what the bench takes (default: the small golden checkpoint,
#                                                               exported here in fp16)
# DOSSR_FULL_BUNDLE   a full-size bundle, for tests/latency
# PART_LIMIT          seconds that a part may take (default 600)
# PARTS               names of the parts to run, where not all (a machine that is lent for minutes): "build kernels"
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

out=${1:-${OUT:-gpu-results}}
python=${PYTHON:-python3}
limit=${PART_LIMIT:-600}
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)
summary=$out/summary.txt
: >"$summary"
failures=0
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1

note() { printf '%s\n' "$*" | tee -a "$summary"; }

wanted() { [ -z "${PARTS:-}" ] || [[ " $PARTS " == *" $1 "* ]]; }

# part NAME COMMAND...: runs it into NAME.log and writes its line
part() {
    local name=$1 begin=$SECONDS code word=passed last
    shift
    wanted "$name" || return 0
    timeout --kill-after=10 "$limit" "$@" >"$out/$name.log" 2>&1
    code=$?
    if [ "$code" -ne 0 ]; then
        word="FAILED ($code)"
        failures=$((failures + 1))
    fi
    last=$(grep -v '^[[:space:]]*$' "$out/$name.log" | tail -n 1 | cut -c1-160)
    note "$(printf '%-14s %-12s %5d s   %s' "$name" "$word" "$((SECONDS - begin))" "$last")"
    return "$code"
}

# tests NAME ARGUMENTS...: a part of pytest; no test to run is no failure, but is said
tests() {
    local name=$1
    shift
    # shellcheck disable=SC2016  # the inner shell expands these
    part "$name" bash -c '"$@"; code=$?; [ "$code" -eq 5 ] && echo "no such tests" && exit 0; exit "$code"' \
        tests "$python" -m pytest -q -rA -p no:cacheprovider "$@"
}

if ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L 2>/dev/null | grep -q .; then
    note "no NVIDIA GPU on this machine (nvidia-smi finds none): nothing was run"
    exit 2
fi
nvidia-smi >"$out/nvidia-smi.log" 2>&1
note "$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | head -n 1); $(date -u +%FT%TZ)"

# TensorRT's builder is in no public registry: is it here?
note "libnvinfer: $( (ldconfig -p 2>/dev/null | grep -o '/[^ ]*libnvinfer\.so[^ ]*'
    find / -xdev -name 'libnvinfer.so*' 2>/dev/null) | sort -u | head -n 3 | tr '\n' ' ' | grep . || echo 'not found')"
note "tensorrt for Python: $("$python" -c 'import tensorrt; print(tensorrt.__version__)' 2>/dev/null || echo 'not installed')"

build() {
    local folder=$out/build
    cmake -S . -B "$folder" -DCMAKE_BUILD_TYPE=Release -DPython_EXECUTABLE="$("$python" -c 'import sys; print(sys.executable)')" \
        -DSKBUILD_SABI_VERSION="" -DSKBUILD_PROJECT_NAME=dossr-deploy &&
        cmake --build "$folder" -j"$(nproc)" &&
        cp "$(find "$folder" -name '_native*.so' | head -n 1)" runtime/ &&
        "$python" -c 'from runtime import _native; print("runtime._native", _native.__version__)'
}
export -f build
export out python
part build bash -c build
rm -rf "$out/build"

tests kernels tests/runtime -k native
tests parity tests/parity
tests gpu tests -m gpu
tests latency tests/latency -s

bundle=${DOSSR_BUNDLE:-}
checkpoint=(--checkpoint "${DOSSR_CHECKPOINT:-}")
[ -n "${DOSSR_CONFIG:-}" ] && checkpoint+=(--config "$DOSSR_CONFIG")
[ -n "${DOSSR_CONTEXT:-}" ] && checkpoint+=(--context "$DOSSR_CONTEXT")
[ -n "${DOSSR_CHECKPOINT:-}" ] || checkpoint=()
if [ -z "$bundle" ]; then
    mini=tests/golden/e2e_mini
    checkpoint=(--checkpoint "$mini/model.ckpt" --config "$mini/config.yaml" --context "$mini/context.safetensors")
    bundle=$(mktemp -d)/mini-fp16
    part export "$python" -m export.build "${checkpoint[@]}" --precision fp16 --out "$bundle" --engine onnxruntime
fi
files=(--overwrite --json "$out/bench.json" --html "$out/bench.html")
part bench "$python" -m runtime.bench --bundle "$bundle" --sizes 128x128 64x64 256x256 --steps 5 1 3 --runs 20 "${files[@]}"
part bench-again "$python" -m runtime.bench --bundle "$bundle" --runs 20 --overwrite --json "$out/bench-again.json"
part agree "$python" benchmarks/agree.py "$out/bench.json" "$out/bench-again.json"
part bench-peers "$python" -m runtime.bench --bundle "$bundle" --runs 10 --against all "${checkpoint[@]}" \
    --overwrite --json "$out/bench-peers.json" --html "$out/bench-peers.html"

note "$failures parts failed"
(cd "$out" && tar -czf logs.tar.gz --remove-files -- *.log)
[ "$failures" -eq 0 ]
