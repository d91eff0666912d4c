"""One attention on ONNX Runtime's CPU provider: seconds, and the process's peak memory. In: form, tokens, heads, width.

    python benchmarks/attention.py {Attention,MultiHeadAttention} 4096 5 64

`Attention` is the operator of opset 23, `MultiHeadAttention` the one that `export.lowering` writes. One form a
process: a peak does not go down again.
"""

import sys
import time

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from engines.memory import peak_memory

RUNS = 3


def main(form: str, tokens: int, heads: int, width: int) -> None:
    domain = "" if form == "Attention" else "com.microsoft"
    shape = [1, heads, tokens, width] if form == "Attention" else [1, tokens, heads * width]
    attributes = {} if form == "Attention" else {"num_heads": heads}
    node = helper.make_node(form, ["q", "k", "v"], ["y"], domain=domain, **attributes)
    q, k, v, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "qkvy")
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "attention", [q, k, v], [y])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = {name: np.random.default_rng(0).standard_normal(shape, np.float32) for name in "qkv"}
    seconds = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        session.run(None, inputs)
        seconds.append(time.perf_counter() - begin)
    peak = peak_memory() / 2**20
    print(f"{form} {tokens} tokens, {heads} heads of {width}: best {min(seconds):.2f} s, peak {peak:.0f} MiB")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
