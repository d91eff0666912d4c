"""Opened engines that work on device memory, called with arrays. In: a runner, arrays. Out: arrays.

The runtime's own memory, copies and stream are used, so that what is verified runs as pictures do.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from engines.base import Runner
from engines.errors import EngineError, EngineUnavailableError
from export.figures import Array


def unavailable(place: str) -> str:
    """Why engines cannot be run at that place, cuda:N; empty where they can."""
    try:
        from runtime import cuda, kernels

        with kernels.named_errors():
            return cuda.unavailable(place)
    except (EngineUnavailableError, EngineError) as error:
        return str(error)


class DeviceStream:
    """A stream of a GPU, and memory beside it.

    Args:
        place: cuda:N.

    Raises:
        EngineError: `unavailable` there.
    """

    def __init__(self, place: str) -> None:
        from runtime.cuda import Cuda
        from runtime.kernels import named_errors

        with named_errors():
            self._device = Cuda(place)
        self.ptr = self._device.stream
        """Its address."""

    def call(self, runner: Runner, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Runs a graph once.

        Args:
            runner: opened for this stream.
            inputs: float32, by name.
            outputs: as `inputs`; are written.

        Raises:
            EngineError: the engine or CUDA failed.
            MemoryBudgetError: there is not so much memory.
        """
        from runtime.kernels import Tensor, named_errors, tensor_from

        device = self._device
        with named_errors():
            there = {name: device.tensor(array.shape) for name, array in (*inputs.items(), *outputs.items())}
            for name, array in inputs.items():
                device.work.copy(there[name], tensor_from(array))
            call = runner.bind(there)  # it lives until its work is done
            call.run()
            device.work.synchronize()
            for name, array in outputs.items():
                here = Tensor(array.shape)
                device.work.copy(here, there[name])
                device.work.synchronize()
                array[...] = np.asarray(here)
