#!/usr/bin/env bash
# A full-size checkpoint of random weights and its bundles, made in the background while other checks run:
#
#     benchmarks/full_size.sh start            begins, or goes on with what is missing; returns at once
#     benchmarks/full_size.sh wait NAME SECONDS   until the bundle NAME (fp16, split, baked, fp32) is whole
#
# They go to $DOSSR_GPU_WORK/full, from a copy of this tree, which other calls may change. The shapes are those of
# $DOSSR_GOLDEN/full_checkpoint_shapes.json, or of the one that was carried here.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

work=${DOSSR_GPU_WORK:-/tmp/dossr-gpu}
full=$work/full
python=${PYTHON:-python3}

make_all() {
    cd "$work/tree" || exit 1
    export PYTHONPATH=$PWD:$work/site
    if [ ! -f "$full/model.ckpt" ]; then
        "$python" -m benchmarks.synthetic_checkpoint "$full/model.ckpt.part" --shapes "$shapes" &&
            mv "$full/model.ckpt.part" "$full/model.ckpt" || exit 1
    fi
    bundle fp16 --precision fp16 &&
        bundle split --precision fp16 --split-controlnet &&
        bundle baked --precision fp16 --bake-steps 5 1 &&
        bundle fp32 --precision fp32
}

bundle() {
    local name=$1 begin=$SECONDS
    shift
    [ -f "$full/$name/manifest.json" ] && return 0
    "$python" -m export.build --checkpoint "$full/model.ckpt" --out "$full/$name" --engine onnxruntime --quiet "$@" || return 1
    echo "bundle $name in $((SECONDS - begin)) s"
}

case ${1:-} in
    start)
        shapes=${DOSSR_GOLDEN:-../shared/golden}/full_checkpoint_shapes.json
        [ -f "$work/carried/full_checkpoint_shapes.json" ] && shapes=$work/carried/full_checkpoint_shapes.json
        if [ ! -f "$shapes" ]; then
            echo "no full-size model: $shapes is not there; set DOSSR_GOLDEN, or DOSSR_FULL_BUNDLE to a bundle"
            exit 0
        fi
        shapes=$(realpath "$shapes")
        mkdir -p "$full" "$work/tree"
        if [ -f "$full/pid" ] && kill -0 "$(cat "$full/pid")" 2>/dev/null; then
            echo "still at work, as $(cat "$full/pid")"
            exit 0
        fi
        tar -cf - benchmarks engines export runtime solvers | tar -xf - -C "$work/tree" || exit 1
        export work full python shapes
        export -f make_all bundle
        setsid bash -c make_all >>"$full/log" 2>&1 </dev/null &
        echo $! >"$full/pid"
        echo "begun as $(cat "$full/pid")"
        ;;
    wait)
        until [ -f "$full/$2/manifest.json" ]; do
            if [ ! -f "$full/pid" ] || ! kill -0 "$(cat "$full/pid")" 2>/dev/null || [ "$SECONDS" -ge "$3" ]; then
                echo "no full-size bundle $2 after $SECONDS s: $(tail -n 1 "$full/log" 2>/dev/null || echo 'none was begun')"
                exit 0
            fi
            sleep 1
        done
        ;;
    *)
        echo "usage: benchmarks/full_size.sh start | wait NAME SECONDS" >&2
        exit 2
        ;;
esac
