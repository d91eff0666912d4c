"""Builder and parser: they read the ONNX file, keep what they are told, and write a note of it."""

import json
import time
from pathlib import Path

import onnx
from onnx import TensorProto

from tests.tensorrt_standin.core import (
    VERSION,
    BuilderFlag,
    DataType,
    Dims,
    IHostMemory,
    ILogger,
    LayerType,
    NetworkDefinitionCreationFlag,
    OnGpu,
    faults,
    refuse,
    write_plan,
)

API = ["Builder", "IAttentionInputLayer", "ILayer", "OnnxParser", "OnnxParserRefitter", "ParserError"]
TYPES = {
    TensorProto.FLOAT: DataType.FLOAT,
    TensorProto.FLOAT16: DataType.HALF,
    TensorProto.INT64: DataType.INT64,
}


class ParserError:
    def __init__(self, node, operator, words):
        self._node, self._operator, self._words = node, operator, words

    def node(self):
        return 7

    def node_name(self):
        return self._node

    def node_operator(self):
        return self._operator

    def desc(self):
        return self._words


class Attention:
    decomposable = False


class ILayer:
    def __init__(self, kind, name):
        self.type, self.name = kind, name
        self._attention = Attention()


class IAttentionInputLayer(ILayer):
    @property
    def attention(self):
        return self._attention


class Tensor:
    def __init__(self, value):
        self.name = value.name
        kind = value.type.tensor_type
        self.dtype = TYPES[kind.elem_type]
        self.shape = Dims(dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim)


class Network(OnGpu):
    def __init__(self, flags):
        assert flags == 1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        self.inputs, self.outputs, self.layers = [], [], []

    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))
    num_layers = property(lambda self: len(self.layers))

    def get_input(self, index):
        return self.inputs[index]

    def get_layer(self, index):
        return self.layers[index]


class OnnxParser(OnGpu):
    def __init__(self, network, logger):
        self._network, self._logger = network, logger
        self._errors = []

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index):
        return self._errors[index]

    def parse_from_file(self, path):
        if faults.parser_errors:
            self._errors = [ParserError(*error) for error in faults.parser_errors]
            self._logger.log(ILogger.ERROR, "In node 7 of the graph: parsing failed")
            return False
        model = onnx.load(path)  # with its weights, which have to be beside it
        self._network.path = str(Path(path).resolve())
        self._network.inputs = [Tensor(value) for value in model.graph.input]
        self._network.outputs = [Tensor(value) for value in model.graph.output]
        for node in model.graph.node:
            if node.op_type == "Attention":
                self._network.layers += [
                    ILayer(LayerType.ATTENTION_INPUT, node.name),
                    ILayer(LayerType.ATTENTION_OUTPUT, node.name),
                ]
            else:
                self._network.layers.append(ILayer(LayerType.OTHER, node.name))
        self._network.weights = [tensor.name for tensor in model.graph.initializer]
        return True


class Profile:
    def __init__(self):
        self.shapes = {}

    def set_shape(self, name, least, optimal, most):
        refuse("set_shape")
        self.shapes[name] = [list(least), list(optimal), list(most)]


class TimingCache:
    """Times by layer, of one version of the library."""

    def __init__(self, version, times):
        self.version, self.times = version, times

    def combine(self, other, ignore_mismatch):
        if other.version != self.version and not ignore_mismatch:
            return False
        self.times = {**other.times, **self.times}
        return True

    def serialize(self):
        return IHostMemory(json.dumps([self.version, self.times]).encode())


class Config(OnGpu):
    def __init__(self):
        self.flags_set = {BuilderFlag.TF32}
        self.pools, self.profiles, self.cache = {}, [], None
        self.builder_optimization_level = 3
        self.progress_monitor = None
        self.previews = set()

    def set_flag(self, flag):
        self.flags_set.add(flag)

    def clear_flag(self, flag):
        self.flags_set.discard(flag)

    def set_preview_feature(self, feature, enable):
        (self.previews.add if enable else self.previews.discard)(feature)

    def set_memory_pool_limit(self, pool, size):
        self.pools[pool] = size

    def add_optimization_profile(self, profile):
        if faults.refuse_profile:
            return -1
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, data):
        if not bytes(data):
            return TimingCache(VERSION, {})
        try:
            version, times = json.loads(bytes(data))
        except ValueError:
            return None
        return TimingCache(version, times)

    def set_timing_cache(self, cache, ignore_mismatch):
        if cache.version != VERSION and not ignore_mismatch:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self):
        return self.cache


class Builder(OnGpu):
    def __init__(self, logger):
        self._logger = logger

    def create_network(self, flags=0):
        return Network(flags)

    def create_builder_config(self):
        return Config()

    def create_optimization_profile(self):
        return Profile()

    def build_serialized_network(self, network, config):
        flags = {flag.name for flag in config.flags_set}
        faults.builds.append(
            {
                "onnx": network.path,
                "flags": sorted(flags),
                "previews": sorted(feature.name for feature in config.previews),
                "workspace": list(config.pools.values()),
                "level": config.builder_optimization_level,
                "hardware": config.hardware_compatibility_level.name,
                "cached": sorted(config.cache.times) if config.cache else None,
            }
        )
        if not self._walk(network, config):
            return None
        dynamic = any(-1 in tensor.shape for tensor in network.inputs)
        assert dynamic == bool(config.profiles), "dynamic inputs, and they alone, need profiles"
        for text in faults.warnings:
            self._logger.log(ILogger.WARNING, text)
        for layer in network.layers:
            boundary = layer.type == LayerType.ATTENTION_INPUT
            if boundary and faults.attention_needs_decomposing and not layer.attention.decomposable:
                self._logger.log(ILogger.ERROR, f"Could not find any implementation for node {layer.name}.")
                return None
        for text in faults.build_errors:
            self._logger.log(ILogger.ERROR, text)
        if faults.build_errors:
            return None
        dtypes = {tensor.name: tensor.dtype.name for tensor in (*network.inputs, *network.outputs)}
        return write_plan(
            {
                "onnx": network.path,
                "version": VERSION,
                "inputs": {tensor.name: list(tensor.shape) for tensor in network.inputs},
                "outputs": {tensor.name: list(tensor.shape) for tensor in network.outputs},
                "dtypes": dtypes | faults.wrong_dtype,
                "profiles": [profile.shapes for profile in config.profiles],
                "flags": sorted(flags),
                "layers": len(network.layers),
                "weights": network.weights,
                "scale": faults.scale.get("/".join(Path(network.path).parts[-2:]), 1.0),
            }
        )

    def _walk(self, network, config):
        """Phases and their steps, as a build tells them; whether it came to the end."""
        monitor = config.progress_monitor
        monitor.phase_start("Building Engine", None, 2)
        monitor.phase_start("Timing Graph", "Building Engine", max(network.num_layers, 1))
        for step, layer in enumerate(network.layers):
            time.sleep(faults.step_seconds)
            if config.cache is not None:
                config.cache.times[layer.name or str(step)] = 1.0
            if not monitor.step_complete("Timing Graph", step):
                return False
        monitor.phase_finish("Timing Graph")
        going = all(monitor.step_complete("Building Engine", step) for step in range(2))
        monitor.phase_finish("Building Engine")
        return going


class OnnxParserRefitter(OnGpu):
    def __init__(self, refitter, logger):
        self._refitter, self._logger = refitter, logger
        self._errors = [ParserError("", "", f"{name} is not in the file") for name in faults.missing_weights]

    def refit_from_file(self, path):
        for tensor in onnx.load(path).graph.initializer:
            self._refitter.given.add(tensor.name)
        if faults.unnamed_constants:
            self._errors = [ParserError("attend", "Attention", "refittable weights were not found")]
        return not self._errors and not faults.missing_weights

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index):
        return self._errors[index]
