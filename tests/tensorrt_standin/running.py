"""Runtime, engines, contexts: ONNX Runtime's CPU provider runs the file of the plan's note, on the bound addresses."""

import ctypes
import weakref

import numpy as np
import onnxruntime

from tests.tensorrt_standin.core import (
    VERSION,
    DataType,
    Dims,
    ExecutionContextAllocationStrategy,
    ILogger,
    OnGpu,
    TensorIOMode,
    TensorLocation,
    faults,
    read_plan,
    refuse,
)

API = ["ICudaEngine", "IExecutionContext", "Refitter", "Runtime"]
ARENA_BYTES_A_PIXEL = 64
"""Device memory that a context needs for each element of its inputs."""
_NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "INT64": np.int64}


def run_now(_stream, work):
    """How work is put on a stream; CUDA's stand-in replaces it, so that graphs are recorded of it."""
    work()


on_stream = [run_now]


class Runtime(OnGpu):
    def __init__(self, logger):
        self._logger = logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, data):
        note = read_plan(data)
        reason = faults.cannot_open
        if note is None:
            reason = "Magic tag does not match"
        elif "VERSION_COMPATIBLE" in note["flags"] and not self.engine_host_code_allowed:
            reason = "Cannot deserialize engine with lean runtime: host code is not allowed"
        elif note["version"] != VERSION and "VERSION_COMPATIBLE" not in note["flags"]:
            reason = f"The engine plan file is not compatible with this version of TensorRT, expecting {VERSION}"
        if reason:
            self._logger.log(ILogger.ERROR, reason)
            return None
        return ICudaEngine(note, self._logger)


class ICudaEngine(OnGpu):
    def __init__(self, note, logger):
        self.note, self.logger = note, logger
        self.complete = "STRIP_PLAN" not in note["flags"]
        self.weight_streaming_budget_v2 = 0
        self._session = None

    num_layers = property(lambda self: self.note["layers"])
    num_io_tensors = property(lambda self: len(self.note["inputs"]) + len(self.note["outputs"]))
    num_optimization_profiles = property(lambda self: max(len(self.note["profiles"]), 1))
    device_memory_size_v2 = property(lambda self: 4096)

    def get_device_memory_size_for_profile_v2(self, index):
        if not self.note["profiles"]:
            shapes = self.note["inputs"].values()
        else:
            profile = self.note["profiles"][index]
            shapes = [profile[name][2] if name in profile else shape for name, shape in self.note["inputs"].items()]
        return ARENA_BYTES_A_PIXEL * sum(int(np.prod(shape)) for shape in shapes)

    streamable_weights_size = property(lambda self: 1 << 20 if "WEIGHT_STREAMING" in self.note["flags"] else 0)

    def get_tensor_name(self, index):
        return [*self.note["inputs"], *self.note["outputs"]][index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name in self.note["inputs"] else TensorIOMode.OUTPUT

    def get_tensor_location(self, _name):
        return TensorLocation.DEVICE

    def get_tensor_dtype(self, name):
        return DataType[self.note["dtypes"][name]]

    def get_tensor_shape(self, name):
        return Dims((self.note["inputs"] | self.note["outputs"])[name])

    def get_tensor_profile_shape(self, name, index):
        return [Dims(shape) for shape in self.note["profiles"][index][name]]

    def create_execution_context(self, strategy=ExecutionContextAllocationStrategy.STATIC):
        return None if faults.no_context else IExecutionContext(self, strategy)

    def session(self):
        if self._session is None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 2
            self._session = onnxruntime.InferenceSession(self.note["onnx"], options, ["CPUExecutionProvider"])
        return self._session


class IExecutionContext(OnGpu):
    def __init__(self, engine, strategy):
        self.engine = engine
        self._managed = strategy == ExecutionContextAllocationStrategy.USER_MANAGED
        self._memory = None
        self._profile = 0
        self._shapes, self._addresses = {}, {}
        self._captured = []

    def set_optimization_profile_async(self, index, _stream):
        refuse("set_optimization_profile_async")
        self._profile = index
        return True

    def set_input_shape(self, name, shape):
        wanted = tuple(shape)
        fixed = self.engine.note["inputs"][name]
        if -1 not in fixed and wanted != tuple(fixed):
            self.engine.logger.log(ILogger.ERROR, f"Static dimension mismatch while setting input shape for {name}")
            return False
        if self.engine.note["profiles"] and name in self.engine.note["profiles"][self._profile]:
            least, _, most = self.engine.note["profiles"][self._profile][name]
            if not all(a <= size <= b for a, size, b in zip(least, wanted, most, strict=True)):
                self.engine.logger.log(ILogger.ERROR, f"Supplied dimensions {wanted} for {name} are out of the profile")
                return False
        self._shapes[name] = wanted
        return True

    def infer_shapes(self):
        refuse("infer_shapes")
        return sorted(self.engine.note["inputs"].keys() - self._shapes.keys())

    def get_tensor_shape(self, name):
        """Of an output: as the file's symbolic dimensions say."""
        sizes = {}
        for value in self.engine.session().get_inputs():
            for dim, size in zip(value.shape, self._shapes[value.name], strict=True):
                if isinstance(dim, str):
                    sizes[dim] = size
        found = next(value for value in self.engine.session().get_outputs() if value.name == name)
        for axis in "HWhw":
            for factor, dim in ((8, f"8*{axis}"), (4, f"4*{axis}")):
                if axis in sizes:
                    sizes.setdefault(dim, factor * sizes[axis])
                elif dim in sizes:
                    sizes.setdefault(axis, sizes[dim] // factor)
        return Dims(dim if isinstance(dim, int) else sizes[dim] for dim in found.shape)

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return address != 0

    def update_device_memory_size_for_shapes(self):
        if faults.no_memory_size:
            return 0
        return self._needed()

    def _needed(self):
        return ARENA_BYTES_A_PIXEL * sum(int(np.prod(shape)) for shape in self._shapes.values())

    def set_device_memory(self, address, size):
        """Says in the log alone that it is refused."""
        reason = faults.memory_refused
        if not address or size < self._needed():
            reason = f"Parameter check failed: {size} bytes at {address}, {self._needed()} are needed"
        if reason:
            self.engine.logger.log(ILogger.ERROR, f"IExecutionContext::setDeviceMemoryV2: {reason}")
        else:
            self._memory = address

    def execute_async_v3(self, stream):
        if faults.enqueue_error:
            self.engine.logger.log(ILogger.ERROR, faults.enqueue_error)
            return False
        assert self.engine.complete, "a stripped engine was run without its weights"
        assert not self._managed or self._memory, "no device memory was set"
        alive = weakref.ref(self)

        def work():
            if (context := alive()) is None:
                faults.freed_early.append("IExecutionContext")
            else:
                context._run()

        self._captured.append(on_stream[0](stream, work))
        return True

    def _run(self):
        note = self.engine.note
        inputs = {name: self._array(name, self._shapes[name]) for name in note["inputs"]}
        names = list(note["outputs"])
        for name, result in zip(names, self.engine.session().run(names, inputs), strict=True):
            self._array(name, result.shape)[...] = result * note["scale"]

    def _array(self, name, shape):
        kind = np.dtype(_NUMPY[self.engine.note["dtypes"][name]])
        count = int(np.prod(shape))
        memory = (ctypes.c_char * (count * kind.itemsize)).from_address(self._addresses[name])
        return np.frombuffer(memory, kind).reshape(shape)


class Refitter(OnGpu):
    def __init__(self, engine, logger):
        self._engine, self._logger = engine, logger
        self.given = set()

    def get_all_weights(self):
        return list(self._engine.note["weights"])

    def get_missing_weights(self):
        return sorted({*self.get_all_weights(), *faults.missing_weights} - self.given)

    def refit_cuda_engine(self):
        if faults.refit_error:
            self._logger.log(ILogger.ERROR, faults.refit_error)
            return False
        self._engine.complete = not self.get_missing_weights()
        return self._engine.complete
