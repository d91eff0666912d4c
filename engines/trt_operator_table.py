"""What TensorRT's ONNX parser takes: operators, types of numbers, opsets, each with the version from which it does.

Sources, read in November 2026:
- docs/operators.md of onnx/onnx-tensorrt in its state of TensorRT 10.15: operators, types, "opset 9 to opset 24".
- docs/Changelog.md there, 8.0 to 10.15, and the release notes of 11.0 to 11.5: what came when. What has no version here
  was there before 10.12, the oldest version that this toolkit builds with.
- Opset 25 from 11.5: its release notes. (NVIDIA's "ONNX Opset Guide" says 25 of all of 11.x, operators.md of 11.2 24.)

Not found, and taken to be what stands here:
- operators.md of 10.12 to 10.14. 10.11 took up ONNX 1.18 (opset 23), and 10.14 read an `Attention` of opset 23 in a
  report (NVIDIA/TensorRT issue 4705): 23 for 10.14. For 10.12 and 10.13 an undated page of a third party says 22.
- operators.md of 11.3 to 11.5: what their release notes do not mention is as in 10.15.
- Types of Swish and DFT, which came in 11.0 and 11.2: as those of their like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LATEST = "11.5"
"""The newest version that the table knows; of newer ones it says the same."""
OLDEST = (10, 12)
LOWEST_OPSET = 9
HIGHEST_OPSET = {(11, 5): 25, (10, 15): 24, (10, 14): 23, OLDEST: 22}
"""Version from which each is taken, newest first."""

NAMES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16", 17: "float8", 22: "int4", 23: "float4",
}  # fmt: skip
"""TensorProto.DataType to what it is called in messages."""
_FP32_FP16 = frozenset({1, 10})
_FLOATS = _FP32_FP16 | {16}
_INTS = frozenset({6, 7})
_BOOL = frozenset({9})
_UINT8 = frozenset({2})
_SMALL = frozenset({17, 22, 23})


@dataclass(frozen=True, kw_only=True)
class Operator:
    """What is known of one operator of ONNX's own set."""

    types: frozenset[int]
    """TensorProto.DataType of its data (not of shapes, axes and indices beside them)."""
    since: tuple[int, int] = OLDEST
    """First version that takes it, of those from `OLDEST` on."""


_BY_TYPES: Mapping[frozenset[int], str] = {
    _FLOATS: """
        Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Conv ConvTranspose Cos Cosh
        CumSum Dropout Einsum Elu Erf Exp Floor GRU Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool
        GroupNormalization HardSigmoid HardSwish Hardmax ImageScaler InstanceNormalization IsInf LRN LSTM
        LayerNormalization LeakyRelu Log LogSoftmax LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization
        PRelu ParametricSoftplus QuantizeLinear RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike
        Reciprocal Resize Round ScaledTanh Scan Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh
        ThresholdedRelu Upsample
    """,
    _FLOATS | _INTS: """
        Abs Add ArgMax ArgMin DepthToSpace Div Equal Gelu Greater GreaterOrEqual IsNaN Less LessOrEqual Max Mean Min Mod
        Mul Neg Pad Pow Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
        ReduceSum ReduceSumSquare Relu Scatter ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum TopK
    """,
    _FLOATS | _INTS | _BOOL: """
        Concat Expand EyeLike Flatten Gather GatherElements GatherND Identity If Loop OneHot Reshape ReverseSequence
        Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where
    """,
    _FLOATS | _INTS | _BOOL | _SMALL: "Constant ConstantOfShape",
    _FLOATS | _INTS | _BOOL | _UINT8: "Cast CastLike",
    _FP32_FP16: "BlackmanWindow DeformConv GridSample HammingWindow HannWindow Mish NonMaxSuppression NonZero RoiAlign",
    _BOOL: "And Not Or Xor",
    frozenset({1}): "STFT",
    _SMALL | {3}: "DequantizeLinear",
}

OPERATORS: Mapping[str, Operator] = {
    **{name: Operator(types=types) for types, names in _BY_TYPES.items() for name in names.split()},
    "Attention": Operator(types=_FLOATS | {3, 17}, since=(10, 14)),
    "RMSNormalization": Operator(types=_FLOATS, since=(10, 15)),
    "RotaryEmbedding": Operator(types=_FLOATS, since=(10, 15)),
    "TensorScatter": Operator(types=_FLOATS | {6}, since=(10, 15)),
    "Swish": Operator(types=_FLOATS, since=(11, 0)),
    "DFT": Operator(types=_FP32_FP16, since=(11, 2)),
}
"""By name. What is not here is not taken, unless a plugin of that name is registered."""
