"""What building and running share: enumerations, logger, shapes, host memory, plans."""

import enum
import json
from dataclasses import dataclass, field

VERSION = "11.4.0.26"
MAGIC = b"stand-in plan\n"
API = [
    "AttentionNormalizationOp",
    "BuilderFlag",
    "DataType",
    "Dims",
    "ExecutionContextAllocationStrategy",
    "HardwareCompatibilityLevel",
    "IHostMemory",
    "ILogger",
    "IProgressMonitor",
    "LayerType",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "ProfilingVerbosity",
    "TensorIOMode",
    "TensorLocation",
    "Weights",
]


def _enum(name, members):
    return enum.IntEnum(name, members.split(), start=0)


DataType = _enum("DataType", "FLOAT HALF INT8 INT32 BOOL UINT8 FP8 BF16 INT64 INT4")
BuilderFlag = _enum(
    "BuilderFlag",
    "DEBUG GPU_FALLBACK REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME "
    "STRIP_PLAN REFIT_IDENTICAL WEIGHT_STREAMING",
)
NetworkDefinitionCreationFlag = _enum("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH STRONGLY_TYPED")
HardwareCompatibilityLevel = _enum("HardwareCompatibilityLevel", "NONE AMPERE_PLUS SAME_COMPUTE_CAPABILITY")
ProfilingVerbosity = _enum("ProfilingVerbosity", "LAYER_NAMES_ONLY NONE DETAILED")
MemoryPoolType = _enum("MemoryPoolType", "WORKSPACE TACTIC_DRAM")
TensorIOMode = _enum("TensorIOMode", "NONE INPUT OUTPUT")
TensorLocation = _enum("TensorLocation", "DEVICE HOST")
ExecutionContextAllocationStrategy = _enum(
    "ExecutionContextAllocationStrategy", "STATIC ON_PROFILE_CHANGE USER_MANAGED"
)
LayerType = _enum("LayerType", "CONVOLUTION ELEMENTWISE ATTENTION_INPUT ATTENTION_OUTPUT OTHER")
AttentionNormalizationOp = _enum("AttentionNormalizationOp", "NONE SOFTMAX")


class ILogger:
    Severity = _enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")

    def __init__(self):
        pass


for _member in ILogger.Severity:
    setattr(ILogger, _member.name, _member)


class IProgressMonitor:
    def __init__(self):
        pass


class Dims(tuple):
    """A shape; TensorRT's is a sequence, too."""

    __slots__ = ()

    def __new__(cls, shape=()):
        return super().__new__(cls, (int(size) for size in shape))


class IHostMemory(bytes):
    """Memory of the library's, read through the buffer protocol."""

    @property
    def nbytes(self):
        return len(self)


class Weights:
    def __init__(self, dtype, ptr=0, count=0):
        self.dtype, self.ptr, self.size = dtype, ptr, count

    @property
    def nbytes(self):
        return self.size * {"FLOAT": 4, "HALF": 2, "INT64": 8, "INT32": 4}[self.dtype.name]


@dataclass
class Faults:
    """What goes wrong; nothing, unless a test says so."""

    free: int | None = 140 << 30
    """Bytes of the GPU that are free."""
    parser_errors: list = field(default_factory=list)
    """(node, operator, words)"""
    build_errors: list = field(default_factory=list)
    """Errors that are logged, after which the builder gives None."""
    attention_needs_decomposing: bool = False
    """No fused kernel fits: an attention that is not decomposable fails the build."""
    warnings: list = field(default_factory=list)
    """Logged while building."""
    wrong_dtype: dict = field(default_factory=dict)
    """Name of a tensor to what the engine has instead."""
    step_seconds: float = 0.0
    """How long a step of the build takes."""
    refuse_profile: bool = False
    cannot_open: str = ""
    """Logged when a plan is opened, which then fails."""
    no_context: bool = False
    enqueue_error: str = ""
    refit_error: str = ""
    missing_weights: list = field(default_factory=list)
    scale: dict = field(default_factory=dict)
    """By ONNX file ("denoise/model.onnx"), what the outputs of engines that are built of it are multiplied by: they
    compute wrongly."""
    builds: list = field(default_factory=list)
    """ONNX files of all builds so far, and what they were built with."""

    def reset(self):
        self.__init__()


faults = Faults()


def write_plan(note):
    return IHostMemory(MAGIC + json.dumps(note).encode())


def read_plan(data):
    """The note of a plan; None where it is none."""
    data = bytes(data)
    if not data.startswith(MAGIC):
        return None
    return json.loads(data[len(MAGIC) :])
