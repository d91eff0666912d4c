#!/usr/bin/env bash
# Every check that needs a GPU, in one command:
#
#     benchmarks/gpu.sh [FOLDER]      reports go to FOLDER, else $OUT, else gpu-results
#
# Each part is a process of its own: one that fails is recorded and does not stop the others. summary.txt has a line for
# each, logs.tar.gz what each printed; the code is 0 when none failed, 1 when some did, 2 without a GPU. What parts make
# (native module, wheels, checkpoint, bundles) is kept in $DOSSR_GPU_WORK, so that a later call goes on: docs/gpu-lease.md.
#
#     environment   GPU, driver, versions, and whether TensorRT's libraries are anywhere
#     carried       puts wheels together that benchmarks/carry_wheels.sh split
#     build         the native module for this GPU alone
#     full-start    begins a full-size model of random weights in the background: benchmarks/full_size.sh
#     tensorrt-decode   TensorRT: the plan of decode alone, the likeliest to fail
#     tensorrt      engines of the demo model, their pictures and launches (all of it where its builder is)
#     tensorrt-options  what the options of a build do, the lean runtime, the cache of times
#     engines       TensorRT's engines of the full-size model, for one picture and for eight
#     tensorrt-full its picture against the CPU's, how fast it loads, its times against the targets
#     kernels       kernels against their C++ twins
#     memcheck racecheck initcheck synccheck    compute-sanitizer over kernels
#     doctor        what will be used, and why
#     parity        ONNX Runtime CUDA against the CPU, and every other test that needs a GPU
#     full          the full-size picture against the CPU's, and its latency against the bars and PyTorch eager fp16
#     ways          provider options, forms, batches: benchmarks/gpu_ways.py
#     bench         sizes, steps, batches;  bench-again, agree: once more, and whether the two runs agree
#     bench-peers   against stock ONNX Runtime, PyTorch eager and compiled, the latter two in fp16
#
# PARTS                  names of the parts to run, where not all: "build kernels"
# LIMIT                  seconds for the whole call; parts for which there is no time are said (default: none)
# PART_LIMIT             seconds that a part may take (default 600)
# PYTHON                 with torch, onnx, nanobind, pytest, and for full-size parts diffusers (default python3)
# DOSSR_GPU_WORK         default /tmp/dossr-gpu
# DOSSR_FULL_BUNDLE, DOSSR_FULL_CHECKPOINT   a full-size model of your own, in the place of the one with random weights
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

all="environment carried build full-start tensorrt-decode tensorrt tensorrt-options engines tensorrt-full kernels memcheck racecheck initcheck synccheck doctor parity full ways bench bench-again agree bench-peers"
for name in ${PARTS:-}; do
    case " $all " in
        *" $name "*) ;;
        *)
            echo "error: there is no part $name; take some of: $all" >&2
            exit 1
            ;;
    esac
done

out=${1:-${OUT:-gpu-results}}
python=${PYTHON:-python3}
work=${DOSSR_GPU_WORK:-/tmp/dossr-gpu}
logs=$work/logs
mkdir -p "$out" "$logs" || exit 1
out=$(cd "$out" && pwd)
summary=$out/summary.txt
: >"$summary"
failures=0
export PYTHON=$python DOSSR_GPU_WORK=$work PYTHONUNBUFFERED=1
export PYTHONPATH=$PWD:$work/site${PYTHONPATH:+:$PYTHONPATH}

note() { printf '%s\n' "$*" | tee -a "$summary"; }

wanted() { [ -z "${PARTS:-}" ] || [[ " $PARTS " == *" $1 "* ]]; }

# part NAME COMMAND...: runs it into a log, within its limit and the call's, and writes its line
# At its limit a part is asked to end, and has a minute for that: a build of TensorRT's writes the times that it took
part() {
    local name=$1 begin=$SECONDS limit=${PART_LIMIT:-600} code word=passed last
    shift
    wanted "$name" || return 0
    if [ -n "${LIMIT:-}" ] && [ "$((LIMIT - SECONDS))" -lt "$limit" ]; then
        limit=$((LIMIT - SECONDS))
    fi
    if [ "$limit" -lt 5 ]; then
        note "$(printf '%-12s %s' "$name" "NOT RUN: no time is left in this call")"
        failures=$((failures + 1))
        return 1
    fi
    timeout --kill-after=60 "$limit" "$@" >"$logs/$name.log" 2>&1
    code=$?
    if [ "$code" -ne 0 ]; then
        word="FAILED ($code)"
        failures=$((failures + 1))
    fi
    last=$(grep -v '^[[:space:]]*$' "$logs/$name.log" | tail -n 1 | cut -c1-160)
    note "$(printf '%-12s %-12s %5d s   %s' "$name" "$word" "$((SECONDS - begin))" "$last")"
    if [ "$code" -ne 0 ]; then
        grep -v '^[[:space:]]*$' "$logs/$name.log" | tail -n 12 | cut -c1-300 | sed 's/^/    /'
    fi
    tar -czf "$out/logs.tar.gz" -C "$work" logs
    return "$code"
}

# tests NAME ARGUMENTS...: a part of pytest, which fails where every test is skipped, too
tests() {
    local name=$1
    shift
    # shellcheck disable=SC2016  # the inner shell expands these
    part "$name" bash -c 'set -o pipefail
        "$@" | tee "$DOSSR_GPU_WORK/pytest.txt" || exit
        grep -q " passed" "$DOSSR_GPU_WORK/pytest.txt" && exit
        echo "nothing was tested: $(grep -m 1 ^SKIPPED "$DOSSR_GPU_WORK/pytest.txt")"
        exit 1' tests "$python" -m pytest -q -rA -p no:cacheprovider "$@"
}

# sanitized TOOL: compute-sanitizer over the kernels' tests that are on the GPU; 99 where it found something
sanitized() {
    part "$1" compute-sanitizer --tool "$1" --error-exitcode 99 "$python" -m pytest -q -x -p no:cacheprovider \
        tests/runtime/cuda/test_kernels.py tests/runtime/cuda/test_image_kernels.py -m gpu \
        -k "${SANITIZED:-not every_half and not 2_to_the_31 and not more_planes}"
}

if ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L 2>/dev/null | grep -q .; then
    note "no NVIDIA GPU on this machine (nvidia-smi finds none): nothing was run"
    exit 2
fi
note "$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | head -n 1); $(date -u +%FT%TZ)"

environment() {
    nvidia-smi
    "$PYTHON" --version
    "$PYTHON" -m pip list 2>/dev/null | grep -i -E '^(torch|triton|onnx|numpy|pillow|nanobind|diffusers|tensorrt|nvidia-|pytest)'
    nproc
    free -g
    df -h /tmp
    for tool in nvcc cmake g++ compute-sanitizer; do "$tool" --version 2>&1 | tail -n 1 || echo "$tool: not there"; done
    local nvinfer
    nvinfer=$(find / -xdev -name 'libnvinfer*' 2>/dev/null | head -n 20)
    "$PYTHON" -c 'import tensorrt; print("tensorrt", tensorrt.__version__)' 2>&1 | tail -n 1
    echo "TensorRT's libraries: $(tr '\n' ' ' <<<"${nvinfer:-nowhere on this machine}")"
}

unpack() { # an archive from stdin; Python reads xz where there is no such program
    "$PYTHON" -c 'import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode="r|xz").extractall(sys.argv[1], filter="data")' \
        "$DOSSR_GPU_WORK/$1"
}

carried() {
    if [ ! -d .carry ]; then
        echo "nothing was carried here"
        return 0
    fi
    mkdir -p "$DOSSR_GPU_WORK/carried" "$DOSSR_GPU_WORK/site"
    cp -f .carry/[0-9]*/* "$DOSSR_GPU_WORK/carried/"
    cd "$DOSSR_GPU_WORK/carried" || return 1
    if [ -f first.tar.xz ] && [ ! -d ../site/diffusers ]; then
        unpack site <first.tar.xz || return 1
    fi
    local name missing=""
    while read -r _ name; do [ -f "$name" ] || missing="$missing $name"; done <parts.sha256
    if [ -n "$missing" ]; then
        echo "diffusers is there; still to come:$missing"
        return 0
    fi
    sha256sum --quiet -c parts.sha256 || return 1
    if [ ! -d ../site/onnxruntime ]; then # moved in when it is whole: an export may be importing the other one meanwhile
        mkdir -p ../site.part
        cat onnxruntime.tar.xz.* | unpack site.part && mv ../site.part/* ../site/ || return 1
    fi
    "$PYTHON" -c 'import onnxruntime; print(onnxruntime.__version__, onnxruntime.get_available_providers())'
}

build() {
    local folder=$DOSSR_GPU_WORK/build capability
    if command -v ninja >/dev/null; then export CMAKE_GENERATOR=Ninja; fi
    capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -dc 0-9)
    cmake -S . -B "$folder" -DCMAKE_BUILD_TYPE=Release -DSKBUILD_SABI_VERSION="" -DDOSSR_CUDA=ON \
        -DPython_EXECUTABLE="$("$PYTHON" -c 'import sys; print(sys.executable)')" \
        -DDOSSR_CUDA_ARCHITECTURES="$capability-real" &&
        cmake --build "$folder" -j"$(nproc)" &&
        cp "$(find "$folder" -name '_native.*so' | head -n 1)" runtime/ &&
        "$PYTHON" -c 'from runtime import _native; print("runtime._native", _native.__version__, _native.cuda.architectures)'
}
export -f environment unpack carried build

part environment bash -c environment
part carried bash -c carried

# CUDA's libraries from Python packages, for ONNX Runtime and whatever else looks for them by name
libraries=$("$python" -c 'import nvidia, pathlib; print(":".join(str(lib) for place in nvidia.__path__ for lib in pathlib.Path(place).glob("*/lib")))' 2>/dev/null)
[ -z "$libraries" ] || export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$libraries

part build bash -c build
if [ -z "${DOSSR_FULL_BUNDLE:-}" ]; then
    part full-start bash benchmarks/full_size.sh start
    full=$work/full
    wanted tensorrt-decode || wanted engines || wanted full || wanted ways || wanted bench || wanted bench-peers || wanted bench-again &&
        bash benchmarks/full_size.sh wait fp16 "$((${LIMIT:-3600} / 2))" 2>&1 | tee -a "$summary"
    if [ -f "$full/fp16/manifest.json" ]; then
        export DOSSR_FULL_BUNDLE=$full/fp16 DOSSR_FULL_CHECKPOINT=$full/model.ckpt
    fi
fi

if "$python" -c 'import tensorrt; tensorrt.Builder' 2>/dev/null; then
    part tensorrt-decode "$python" -m benchmarks.trt_plan "${DOSSR_FULL_BUNDLE:-runtime/demo}" decode
    options="options or lean or cache_of_times"
    tests tensorrt tests/parity/test_tensorrt.py -m "gpu and not full_size" -k "not ($options)" -s
    tests tensorrt-options tests/parity/test_tensorrt.py -m "gpu and not full_size" -k "$options" -s
    if [ -n "${DOSSR_FULL_BUNDLE:-}" ]; then
        part engines "$python" -m export.build --bundle "$DOSSR_FULL_BUNDLE" --engine tensorrt --profile 64x64 --profile 8x64x64
        tests tensorrt-full tests/parity/test_tensorrt.py -m "gpu and full_size" -s
    fi
elif wanted tensorrt || wanted tensorrt-options || wanted tensorrt-decode || wanted engines || wanted tensorrt-full; then
    note "tensorrt     not run: its builder is not installed (pip install tensorrt)"
fi
tests kernels tests/runtime/cuda -m gpu
for tool in memcheck racecheck initcheck synccheck; do sanitized "$tool"; done
part doctor "$python" -m runtime.doctor --device cuda
pictures=(tests/parity/test_cuda.py tests/parity/test_engines.py tests/latency/test_gpu_latency.py)
tests parity "${pictures[@]}" -m "gpu and not full_size" -s
exports=${full:-}/pid # the background's exports stand still while times are taken
stopped() { [ ! -f "$exports" ] || kill "-$1" -- "-$(cat "$exports")" 2>/dev/null || true; }
trap 'stopped CONT' EXIT
stopped STOP
if [ -n "${DOSSR_FULL_BUNDLE:-}" ]; then
    tests full "${pictures[@]}" -m "gpu and full_size" -s
elif wanted full; then
    note "full         not run: no full-size bundle"
fi

bundle=${DOSSR_FULL_BUNDLE:-runtime/demo}
others=()
for name in split baked fp32; do
    [ -f "$work/full/$name/manifest.json" ] && others+=("--$name" "$work/full/$name")
done
part ways "$python" -m benchmarks.gpu_ways "$bundle" --out "$out" "${others[@]}"
bench=("$python" -m runtime.bench --bundle "$bundle" --device cuda --overwrite)
part bench "${bench[@]}" --sizes 128x128 64x64 256x256 --steps 5 1 --batch 1 2 4 8 --json "$out/bench.json" --html "$out/bench.html"
part bench-again "${bench[@]}" --json "$work/bench-again.json"
part agree "$python" -m benchmarks.agree "$out/bench.json" "$work/bench-again.json"
part bench-peers "${bench[@]}" --against onnxruntime eager-half compile-half ${DOSSR_FULL_CHECKPOINT:+--checkpoint "$DOSSR_FULL_CHECKPOINT"} \
    --json "$out/bench-peers.json" --html "$out/bench-peers.html"

note "$failures parts failed, in $SECONDS s"
[ "$failures" -eq 0 ]
