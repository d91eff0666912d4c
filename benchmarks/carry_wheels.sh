#!/usr/bin/env bash
# What a lent GPU machine lacks, in parts that fit beside this tree into one call each (docs/gpu-lease.md):
#
#     benchmarks/carry_wheels.sh [--architecture 90 | --whole]
#
# downloads onnxruntime-gpu and diffusers for that machine's Python, leaves out of ONNX Runtime's CUDA library the code of
# other GPUs (benchmarks/thin_fatbin.py; --whole keeps it), packs, splits, and prints the calls. Everything goes to
# .carry/, which git is told to ignore here (.git/info/exclude).
#
# CARRY_PYTHON    the machine's Python (default 3.12)
# CARRY_LIMIT     bytes that a call may carry, the tree included (default 64 MiB)
# DOSSR_GOLDEN    folder of full_checkpoint_shapes.json (default ../shared/golden)
set -euo pipefail
cd "$(dirname "$0")/.."

ort=onnxruntime-gpu==1.31.1
diffusers=diffusers==0.42.1
architecture=90
case ${1:-} in
    "") ;;
    --architecture) architecture=${2:?--architecture takes a number like 90} ;;
    --whole) architecture="" ;;
    *)
        echo "usage: benchmarks/carry_wheels.sh [--architecture 90 | --whole]" >&2
        exit 2
        ;;
esac
python=${PYTHON:-python3}
version=${CARRY_PYTHON:-3.12}
shapes=${DOSSR_GOLDEN:-../shared/golden}/full_checkpoint_shapes.json
if [ ! -f "$shapes" ]; then
    echo "error: $shapes is not there; set DOSSR_GOLDEN to the folder that has it" >&2
    exit 1
fi
exclude=$(git rev-parse --git-path info/exclude)
mkdir -p "$(dirname "$exclude")"
grep -qxF /.carry/ "$exclude" 2>/dev/null || echo /.carry/ >>"$exclude"

find .carry -mindepth 1 -maxdepth 1 -not -name wheels -exec rm -rf {} + 2>/dev/null || true
mkdir -p .carry/wheels .carry/first .carry/site
platforms=()
for name in manylinux_2_34 manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014; do platforms+=(--platform "${name}_x86_64"); done
"$python" -m pip download -q --no-deps --only-binary=:all: --python-version "$version" --implementation cp \
    "${platforms[@]}" -d .carry/wheels "$ort" "$diffusers"
unpack() { "$python" -m zipfile -e "$1" "$2"; }
unpack .carry/wheels/diffusers-*.whl .carry/first
unpack .carry/wheels/onnxruntime_gpu-*-"cp${version/./}"-*.whl .carry/site
rm -f .carry/site/onnxruntime/capi/libonnxruntime.so* # the C API's copy of what the Python module holds
if [ -n "$architecture" ]; then
    "$python" benchmarks/thin_fatbin.py .carry/site/onnxruntime/capi/libonnxruntime_providers_cuda.so \
        --architecture "$architecture"
fi

mkdir -p .carry/1
cp "$shapes" .carry/1/
tar -cJf .carry/1/first.tar.xz -C .carry/first .
tar -cf - -C .carry/site . | xz -T0 -3 >.carry/onnxruntime.tar.xz
rm -rf .carry/first .carry/site

# What one call has room for, tar's own blocks and a margin left out; the first one carries diffusers as well.
tree=$(git ls-files -coz --exclude-standard --deduplicate | du -cb --files0-from=- 2>/dev/null | tail -n 1 | cut -f1)
files=$(git ls-files -co --exclude-standard --deduplicate | wc -l)
room=$((${CARRY_LIMIT:-67108864} - tree - 1024 * files - 1048576))
first=$((room - $(du -cb .carry/1 | tail -n 1 | cut -f1)))
size=$(stat -c %s .carry/onnxruntime.tar.xz)
if [ "$first" -lt 1048576 ]; then
    echo "error: the tree takes $tree bytes, and leaves no room for parts of 1 MiB; give more with CARRY_LIMIT" >&2
    exit 1
fi
head -c "$first" .carry/onnxruntime.tar.xz >.carry/1/onnxruntime.tar.xz.01
tail -c "+$((first + 1))" .carry/onnxruntime.tar.xz | split -b "$room" --numeric-suffixes=2 -a 2 - .carry/onnxruntime.tar.xz.
rm .carry/onnxruntime.tar.xz
calls=1
for part in .carry/onnxruntime.tar.xz.[0-9]*; do
    [ -f "$part" ] || continue
    calls=$((calls + 1))
    mkdir -p ".carry/$calls"
    mv "$part" ".carry/$calls/"
done
(cd .carry && sha256sum [0-9]*/onnxruntime.tar.xz.* | sed 's|[0-9]*/||') >.carry/parts.sha256
mv .carry/parts.sha256 .carry/1/

echo "ONNX Runtime in $size bytes, $calls calls with $room bytes each beside the tree's $tree."
echo
echo "Each is one call of the tool's run; the next one within 30 s of the last, or the machine goes back:"
echo
# In every call that carries a part: what needs no ONNX Runtime yet.
early=("environment build full-start kernels" "memcheck" "racecheck" "initcheck synccheck")
call() {
    local carry=$1 limit=$2
    printf 'carry: %-14s timeout_s: %d\n    LIMIT=%d PARTS="%s" bash benchmarks/gpu.sh\n' "$carry" "$limit" "$((limit - 15))" "$3"
}
for ((i = 1; i < calls; i++)); do call "[\".carry/$i\"]" 240 "carried ${early[i - 1]:-}"; done
rest=""
for ((i = calls - 1; i < ${#early[@]}; i++)); do rest="$rest ${early[i]}"; done
call "[\".carry/$calls\"]" 420 "carried$rest doctor parity"
call "[]" 480 "full ways"
call "[]" 600 "bench-peers bench"
