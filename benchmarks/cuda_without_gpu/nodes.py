"""What ONNX Runtime's CUDA provider makes of a bundle's graphs, without a GPU.

    python benchmarks/cuda_without_gpu/libraries.py PYTHON FOLDER
    LD_LIBRARY_PATH=FOLDER PYTHON benchmarks/cuda_without_gpu/nodes.py BUNDLE [--canonical] [NAME=VALUE ...]

PYTHON is an interpreter with onnxruntime-gpu and onnx. NAME=VALUE are provider options. Prints a JSON line a graph: its
operators as they would run, transposes of whole maps among them, and whether a CUDA graph may be recorded.
"""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime as ort


def main() -> None:
    bundle, *rest = sys.argv[1:]
    options = dict(argument.split("=", 1) for argument in rest if "=" in argument)
    manifest = json.loads((Path(bundle) / "manifest.json").read_text())
    for name, entry in manifest["graphs"].items():
        file = entry["file"] if "--canonical" in rest else entry["lowered"].get("onnxruntime-cuda", entry["file"])
        print(json.dumps({"graph": name, "file": file, **opened(Path(bundle) / file, options)}))


def opened(path: Path, options: dict[str, str]) -> dict[str, object]:
    found: dict[str, object] = {"recorded": True}
    with tempfile.TemporaryDirectory() as folder:
        for graphs in ("1", "0"):
            settings = ort.SessionOptions()
            settings.log_severity_level = 4
            settings.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
            settings.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
            providers = [("CUDAExecutionProvider", {"enable_cuda_graph": graphs, "prefer_nhwc": "1", **options})]
            try:
                ort.InferenceSession(path, settings, providers=[*providers, "CPUExecutionProvider"], enable_fallback=0)
                break
            except Exception as error:
                if graphs == "0":
                    raise
                found = {"recorded": False, "reason": " ".join(str(error).split())}
        graph = onnx.load(Path(folder) / "optimized.onnx", load_external_data=False).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    transposes = [n for n in graph.node if n.op_type == "Transpose" and makers.get(n.input[0]) != "Unsqueeze"]
    operators = Counter(f"{n.domain}:{n.op_type}" if n.domain else n.op_type for n in graph.node)
    return {
        **found,
        "nodes": len(graph.node),
        "transposes": len(transposes),
        "operators": dict(operators.most_common()),
    }


if __name__ == "__main__":
    main()
