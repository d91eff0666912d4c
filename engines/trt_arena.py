"""Memory for intermediate results. In: what each engine needs. Out: one block for all that run one after another on one
stream: the maximum of their needs, not the sum.
"""

from __future__ import annotations

from collections.abc import Callable

from engines.base import DEVICE_SETUP, Buffer
from engines.errors import EngineError

_ALIGNMENT = 256
"""Of the block's address, which TensorRT asks for and cudaMalloc gives."""


class Arena:
    """A block that grows. Not for two threads at once.

    Args:
        memory: makes so many bytes of device memory.
    """

    def __init__(self, memory: Callable[[int], Buffer]) -> None:
        self._memory = memory
        self._block: Buffer | None = None
        self.version = 0
        """Changes when the block moves."""

    @property
    def ptr(self) -> int:
        """Address of the block; 0 where there is none."""
        return self._block.ptr if self._block is not None else 0

    @property
    def nbytes(self) -> int:
        """Bytes of the block."""
        return self._block.nbytes if self._block is not None else 0

    def reserve(self, nbytes: int) -> None:
        """Makes the block at least so large. The old one is given back first, which waits until the device has done
        what it was given (cudaFree): what is on the stream may be working in it.

        Raises:
            EngineError: the memory is not aligned.
            MemoryBudgetError: it does not fit.
        """
        if nbytes <= self.nbytes:
            return
        self.free()
        with DEVICE_SETUP:
            self._block = self._memory(nbytes)
        self.version += 1
        if self.ptr % _ALIGNMENT:
            raise EngineError(f"device memory at {self.ptr:#x} is not aligned to {_ALIGNMENT} bytes; report this")

    def free(self) -> None:
        """Gives the block back; who needs it reserves it again."""
        if self._block is not None:
            with DEVICE_SETUP:
                self._block = None
            self.version += 1
