"""One graph on ONNX Runtime's CPU provider in every way that was considered: seconds, load and peak memory of each.

    python benchmarks/cpu_ways.py BUNDLE GRAPH [--latent 64] [--threads 2] [--rounds 2] [--only NAME ...]
        [--openvino PYTHON] [--json OUT.json]

Each way is a process of its own, opened anew in every round, so that its peak memory (VmHWM) is its own; the second of
two calls is timed. The ways take turns, and ratios are taken within a round, to the first way: how `engines/ort.py`
opens the graph. PYTHON is an interpreter with onnxruntime-openvino instead of onnxruntime.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

DEFAULT = {"file": "lowered", "arena": "shared", "patterns": False}
WAYS: dict[str, dict[str, Any]] = {
    "as opened by the runtime": DEFAULT,
    "canonical opset 23": DEFAULT | {"file": "canonical"},
    "decomposed (opset 18 style)": DEFAULT | {"file": "decomposed"},
    "only attention fused": DEFAULT | {"file": "attention"},
    "attention, group norm": DEFAULT | {"file": "attention, group norm"},
    "an arena for each session": DEFAULT | {"arena": "own"},
    "no arena": DEFAULT | {"arena": "none"},
    "memory patterns": DEFAULT | {"patterns": True},
    "ONNX Runtime's defaults, canonical": {"file": "canonical", "arena": "own", "patterns": True},
    "no prepacking": DEFAULT | {"entries": {"session.disable_prepacking": "1"}},
    "optimization level extended": DEFAULT | {"level": "ORT_ENABLE_EXTENDED"},
    "optimization level basic": DEFAULT | {"level": "ORT_ENABLE_BASIC"},
    "one thread": DEFAULT | {"threads": 1},
    "no spinning": DEFAULT | {"entries": {"session.intra_op.allow_spinning": "0"}},
}
OPENVINO = {
    "OpenVINO, float32": {"precision": "FP32"},
    "OpenVINO, its default precision": {},
}
CALLS = 2


def main() -> None:
    p = argparse.ArgumentParser(description="Measures ways to run a graph on the CPU.")
    p.add_argument("bundle", type=Path)
    p.add_argument("graph")
    p.add_argument("--latent", type=int, default=64, help="side of the latent (default: %(default)s)")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--only", nargs="*")
    p.add_argument("--openvino", metavar="PYTHON")
    p.add_argument("--json", type=Path)
    args = p.parse_args()
    from engines.bundle import open_bundle

    bundle = open_bundle(args.bundle)
    base = next(iter(WAYS))
    ways = {name: way for name, way in WAYS.items() if not args.only or name in (base, *args.only)}
    if args.openvino:
        ways |= {name: {"file": "canonical", "openvino": options} for name, options in OPENVINO.items()}
    found: dict[str, list[Any]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory(dir=args.bundle.parent) as folder:
        files = write_forms(bundle, args.graph, Path(folder))
        for _ in range(args.rounds):
            for name, way in ways.items():
                task = {"threads": args.threads, "latent": args.latent, "graph": args.graph} | way
                task["model"] = str(files[way["file"]])
                python = args.openvino if "openvino" in way else sys.executable
                found[name].append(measure(python, task))
                print(name, found[name][-1], file=sys.stderr, flush=True)
    report(found)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


def write_forms(bundle: Any, graph: str, folder: Path) -> dict[str, Path]:
    """The graph's files, and other forms of it on a hard link to the same weights."""
    import onnx

    from export.lowering.attention import fuse_attention
    from export.lowering.editor import GraphEditor
    from export.lowering.group_norm import split_group_norm
    from export.lowering.widen import widen

    entry = bundle.manifest.graphs[graph]
    canonical = bundle.path(entry.file)
    for data in canonical.parent.glob("*.data"):
        os.link(data, folder / data.name)
    forms = {
        "attention": (widen, fuse_attention),
        "attention, group norm": (widen, fuse_attention, split_group_norm),
        "decomposed": (widen, decompose, split_group_norm),
    }
    files = {"canonical": canonical, "lowered": bundle.path(entry.lowered.get("onnxruntime-cpu", entry.file))}
    for name, rewrites in forms.items():
        model = onnx.load(canonical, load_external_data=False)
        for rewrite in rewrites:
            rewrite(GraphEditor(model))
        files[name] = folder / f"{name}.onnx"
        onnx.save(model, files[name])
    return files


def decompose(editor: Any) -> None:
    """Attention as two MatMuls and a Softmax, Gelu by Erf."""
    import numpy as np
    from onnx import helper

    def attention(node: Any) -> list[Any]:
        q, k, v = node.input
        made = node.output[0]
        width = editor.constant(f"{made}.last", [-1], np.int64)
        return [
            helper.make_node("Transpose", [k], [f"{made}.k"], perm=[0, 1, 3, 2]),
            helper.make_node("Shape", [q], [f"{made}.shape"]),
            helper.make_node("Gather", [f"{made}.shape", width], [f"{made}.width"], axis=0),
            helper.make_node("Cast", [f"{made}.width"], [f"{made}.d"], to=1),
            helper.make_node("Sqrt", [f"{made}.d"], [f"{made}.root"]),
            helper.make_node("Div", [q, f"{made}.root"], [f"{made}.q"]),
            helper.make_node("MatMul", [f"{made}.q", f"{made}.k"], [f"{made}.scores"]),
            helper.make_node("Softmax", [f"{made}.scores"], [f"{made}.weights"], axis=-1),
            helper.make_node("MatMul", [f"{made}.weights", v], [made]),
        ]

    def gelu(node: Any) -> list[Any]:
        x, made = node.input[0], node.output[0]
        root, one, half = (editor.constant(n, c) for n, c in (("root2", 2**0.5), ("one", 1.0), ("half", 0.5)))
        return [
            helper.make_node("Div", [x, root], [f"{made}.z"]),
            helper.make_node("Erf", [f"{made}.z"], [f"{made}.erf"]),
            helper.make_node("Add", [f"{made}.erf", one], [f"{made}.sum"]),
            helper.make_node("Mul", [x, f"{made}.sum"], [f"{made}.product"]),
            helper.make_node("Mul", [f"{made}.product", half], [made]),
        ]

    editor.rewrite("Attention", attention)
    editor.rewrite("Gelu", gelu)


def measure(python: str, task: dict[str, Any]) -> Any:
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        [python, __file__, "--work", json.dumps(task)], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1][:200] if done.stderr else str(done.returncode)}
    return json.loads(done.stdout.strip().splitlines()[-1])


def work(task: dict[str, Any]) -> None:
    """One way in this process: opens, calls, prints figures. Imports nothing of the project."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = task["threads"]
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, task.get("level", "ORT_ENABLE_ALL"))
    options.enable_mem_pattern = task.get("patterns", True)
    options.enable_cpu_mem_arena = task.get("arena") != "none"
    entries = dict(task.get("entries", {}))
    if task.get("arena") == "shared":
        where = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
        ort.create_and_register_allocator(where, ort.OrtArenaCfg({"arena_extend_strategy": 1}))
        entries |= {"session.use_env_allocators": "1", "session.use_device_allocator_for_initializers": "1"}
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    providers: list[Any] = ["CPUExecutionProvider"]
    if "openvino" in task:
        providers.insert(0, ("OpenVINOExecutionProvider", {"device_type": "CPU", **task["openvino"]}))
    begin = time.perf_counter()
    session = ort.InferenceSession(task["model"], options, providers=providers)
    load = time.perf_counter() - begin
    side = task["latent"]
    inputs = {}
    for value in session.get_inputs():
        sizes = {"B": 1, "H": side, "W": side, "h": 2 * side, "w": 2 * side, "8*H": 8 * side, "8*W": 8 * side}
        shape = [sizes[dim] if isinstance(dim, str) else dim for dim in value.shape]
        inputs[value.name] = np.random.default_rng(0).random(shape, np.float32)
    seconds = []
    for _ in range(CALLS):
        begin = time.perf_counter()
        session.run(None, inputs)
        seconds.append(time.perf_counter() - begin)
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    print(json.dumps({"load": round(load, 2), "first": seconds[0], "seconds": seconds[-1], "peak": peak}))


def report(found: dict[str, list[Any]]) -> None:
    base = next(iter(found.values()))
    print("| way | seconds | ratio (least .. most) | load, s | peak, GiB |")
    print("| --- | --- | --- | --- | --- |")
    for name, rounds in found.items():
        if failed := next((r["error"] for r in rounds if "error" in r), None):
            print(f"| {name} | {failed} | | | |")
            continue
        ratios = [r["seconds"] / b["seconds"] for r, b in zip(rounds, base, strict=True)]
        middle = {key: statistics.median(r[key] for r in rounds) for key in ("seconds", "load")}
        peak = max(r["peak"] for r in rounds) / 2**30
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"
        print(f"| {name} | {middle['seconds']:.2f} | {spread} | {middle['load']:.1f} | {peak:.2f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(json.loads(sys.argv[2]))
    else:
        main()
