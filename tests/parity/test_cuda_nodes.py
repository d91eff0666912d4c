"""What onnxruntime-gpu makes of the CUDA form, on stand-ins for the CUDA libraries: needs no GPU, but that build of
ONNX Runtime in an environment of its own, whose interpreter DOSSR_ORT_GPU names.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.default_bundle import DEMO_BUNDLE
from tests.paths import REPOSITORY

PYTHON = os.environ.get("DOSSR_ORT_GPU", "")
HEADERS = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "include" / "cuda_runtime_api.h"
TOOLS = REPOSITORY / "benchmarks" / "cuda_without_gpu"


@pytest.mark.skipif(not PYTHON, reason="DOSSR_ORT_GPU names no interpreter with onnxruntime-gpu and onnx")
@pytest.mark.skipif(not HEADERS.is_file() or not shutil.which("gcc"), reason="needs gcc and CUDA's headers")
def test_everything_runs_on_the_gpu_with_the_channels_last(tmp_path):
    subprocess.run([sys.executable, TOOLS / "libraries.py", PYTHON, tmp_path], check=True, timeout=120)
    done = subprocess.run(
        [PYTHON, TOOLS / "nodes.py", DEMO_BUNDLE],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    graphs = {line["graph"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert set(graphs) == {"preprocess", "encode", "denoise", "decode"}
    for graph in graphs.values():
        assert graph["recorded"], graph["reason"]
        inputs_and_outputs = 3
        assert graph["transposes"] <= inputs_and_outputs
        assert not {"Conv", "Attention", "Sigmoid", "InstanceNormalization", "MemcpyToHost"} & graph["operators"].keys()
