"""The table of devices. In: a place ("cpu", "cuda:0"). Out: a `Device`."""

from __future__ import annotations

import logging

from runtime import cuda
from runtime.device import Device
from runtime.host import Host
from runtime.kernels import named_errors

_log = logging.getLogger("dossr")


def open_device(place: str) -> Device:
    """The device of an engine whose buffers are at `place`. Where our kernels do not run there it is the host, which is
    said: the engine then copies.

    Raises:
        EngineError: CUDA failed.
    """
    if place == "cpu":
        return Host()
    with named_errors():
        reason = cuda.unavailable(place)
    if reason:
        _log.warning("pictures are copied between host and %s at every engine call, which is slow: %s", place, reason)
        return Host()
    with named_errors():
        return cuda.Cuda(place)
