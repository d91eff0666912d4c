"""Which operators ONNX Runtime's CUDA provider computes. In: a graph. Out: those that it would not.

Source: onnxruntime-gpu 1.31.1 itself, each operator of opset 23 alone in a graph, in float32 and float16, with
`session.disable_cpu_ep_fallback`; the same table is docs/OperatorKernels.md of ONNX Runtime's repository.
"""

from __future__ import annotations

from collections import Counter

import onnx
from onnx import TensorProto

_STANDARD = """
    Add Attention AveragePool BatchNormalization Cast Clip Concat Conv ConvTranspose Cos DepthToSpace Div Einsum
    Equal Erf Exp Expand Gather Gelu Gemm GlobalAveragePool Identity LayerNormalization LeakyRelu Log MatMul Mul Neg
    Pad Pow RMSNormalization Reciprocal ReduceMean ReduceSum Relu Reshape Resize Shape Sigmoid Sin Slice Softmax
    Split Sqrt Squeeze Sub Swish Tanh Tile Transpose Unsqueeze Where
"""
_MICROSOFT = "FusedMatMul GroupNorm MultiHeadAttention QuickGelu"
KERNELS = {("", name) for name in _STANDARD.split()} | {("com.microsoft", name) for name in _MICROSOFT.split()}
"""(domain, operator) with kernels for float32 and float16."""
_TYPES = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL}


def without_kernel(model: onnx.ModelProto) -> dict[str, int]:
    """How often each operator, or type of numbers, that the CUDA provider does not know stands in the graph."""
    found = Counter(n.op_type for n in model.graph.node if (n.domain, n.op_type) not in KERNELS)
    types = [tensor.data_type for tensor in model.graph.initializer]
    types += [node.attribute[0].i for node in model.graph.node if node.op_type == "Cast"]
    found.update(TensorProto.DataType.Name(kind).lower() for kind in types if kind not in _TYPES)
    return dict(sorted(found.items()))
