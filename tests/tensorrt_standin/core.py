"""What building and running share: enumerations, logger, shapes, host memory, plans."""

import contextlib
import enum
import json
import threading
import weakref
from dataclasses import dataclass, field

import numpy as np

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
    "PreviewFeature",
    "ProfilingVerbosity",
    "TensorIOMode",
    "TensorLocation",
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
PreviewFeature = _enum("PreviewFeature", "ALIASED_PLUGIN_IO_10_03 RUNTIME_ACTIVATION_RESIZE_10_10")
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
    not_made: dict = field(default_factory=dict)
    """Name of a class to what is logged when its factory gives nothing, which the bindings make a TypeError of."""
    refused: dict = field(default_factory=dict)
    """Name of a function to the text of the RuntimeError that the bindings raise."""
    no_memory_size: bool = False
    """A context does not say what its shapes need."""
    memory_refused: str = ""
    """Logged instead of taking device memory."""
    enqueue_error: str = ""
    unnamed_constants: bool = False
    """A refitter of ONNX files counts constants that have no name as weights that it does not know."""
    refit_error: str = ""
    missing_weights: list = field(default_factory=list)
    scale: dict = field(default_factory=dict)
    """By ONNX file ("denoise/model.onnx"), what the outputs of engines that are built of it are multiplied by: they
    compute wrongly."""
    builds: list = field(default_factory=list)
    """ONNX files of all builds so far, and what they were built with."""
    freed_early: list = field(default_factory=list)
    """Names of classes whose objects were freed before their work on a stream was done."""
    freed_elsewhere: list = field(default_factory=list)
    """Names of classes whose objects were freed without their GPU being the thread's current one."""

    def reset(self):
        self.__init__()


faults = Faults()


class CurrentGpu:
    """Which GPU is a thread's current one."""

    def __init__(self):
        self._of_thread = threading.local()

    @contextlib.contextmanager
    def during(self, index):
        before = getattr(self._of_thread, "index", None)
        self._of_thread.index = index
        try:
            yield
        finally:
            self._of_thread.index = before

    def known(self):
        return getattr(self._of_thread, "index", None) is not None


current_gpu = CurrentGpu()


def freed(name):
    if not current_gpu.known():
        faults.freed_elsewhere.append(name)


class OnGpu:
    """What holds device memory, or a context of CUDA: it is made and freed on its GPU. As of the bindings, there is no
    object where the library gives none.
    """

    def __new__(cls, *arguments):
        name = cls.__name__
        if name in faults.not_made:
            next(a for a in arguments if isinstance(a, ILogger)).log(ILogger.ERROR, faults.not_made[name])
            raise TypeError(f"pybind11::init(): factory function returned nullptr: {name}")
        assert current_gpu.known(), f"{name} is made without a GPU"
        made = super().__new__(cls)
        made.memory = np.empty(0)  # goes with the object: the garbage collector knows no arrays, and ends none before
        weakref.finalize(made.memory, freed, name).atexit = False
        return made


def refuse(name):
    """What the bindings do where the library's function gives false and they expect true."""
    if name in faults.refused:
        raise RuntimeError(faults.refused[name])


def write_plan(note):
    return IHostMemory(MAGIC + json.dumps(note).encode())


def read_plan(data):
    """The note of a plan; None where it is none."""
    data = bytes(data)
    if not data.startswith(MAGIC):
        return None
    return json.loads(data[len(MAGIC) :])
