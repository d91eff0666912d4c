"""The TensorRT backend. In: a bundle's plans, built for this machine. Out: engines that run on device memory."""

from __future__ import annotations

from engines.base import EngineSettings, Footprint, Runner
from engines.bundle import Bundle
from engines.errors import EngineUnavailableError
from engines.profiles import Profile

_REASON = "this version runs no tensorrt engines yet; use --engine onnxruntime"


class TensorRT:
    """See `engines.base.Backend`."""

    name = "tensorrt"

    def open(self, bundle: Bundle, graph: str, settings: EngineSettings) -> Runner:
        """See `engines.base.Backend.open`."""
        raise EngineUnavailableError(_REASON)

    def prepare(self, settings: EngineSettings) -> str:
        """See `engines.base.Backend.prepare`."""
        raise EngineUnavailableError(_REASON)

    def place(self, settings: EngineSettings) -> str:
        """See `engines.base.Backend.place`."""
        raise EngineUnavailableError(_REASON)

    def profiles(self, bundle: Bundle, settings: EngineSettings) -> tuple[Profile, ...]:
        """See `engines.base.Backend.profiles`."""
        raise EngineUnavailableError(_REASON)

    def usable(self, bundle: Bundle, settings: EngineSettings) -> bool:
        """See `engines.base.Backend.usable`."""
        return False

    def footprint(self, bundle: Bundle, graph: str, settings: EngineSettings) -> Footprint:
        """See `engines.base.Backend.footprint`."""
        raise EngineUnavailableError(_REASON)

    def trim(self) -> None:
        """See `engines.base.Backend.trim`."""
