"""Device memory for tests. In: a native module. Out: tensors on its first GPU, with what surrounds them watched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

GARBAGE = 0xA5
"""Of every byte that a kernel is to write; as floats small negative numbers."""


@dataclass
class Gpu:
    """A stream of a native module, and the memory that was handed out."""

    native: Any
    stream: Any = field(init=False)
    watched: list[Any] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.stream = self.native.cuda.Stream()

    @property
    def cuda(self) -> Any:
        return self.native.cuda

    def up(self, array: Array) -> Any:
        """A device tensor between two of its own size, which are to stay as they are; aligned as its size makes it."""
        return self._between(np.ascontiguousarray(array))

    def garbage(self, shape: tuple[int, ...], dtype: str = "float32") -> Any:
        """A device tensor that holds no value of use."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self._between(np.full(size, GARBAGE, np.uint8).view(dtype).reshape(shape))

    def down(self, tensor: Any) -> Array:
        """A copy in host memory, after all work of the stream."""
        host = self.native.Tensor(tensor.shape, tensor.dtype)
        self.stream.copy(host, tensor)
        self.stream.synchronize()
        return np.array(host)

    def put(self, tensor: Any, array: Array) -> None:
        """Writes over a device tensor."""
        self.stream.copy(tensor, self.native.tensor_from(np.ascontiguousarray(array)))
        self.stream.synchronize()

    def check_surroundings(self) -> None:
        """Nothing was written beside the tensors."""
        for whole in self.watched:
            for side in (0, 2):
                assert (self.down(whole.slice(side)).reshape(-1).view(np.uint8) == GARBAGE).all()

    def _between(self, array: Array) -> Any:
        whole = np.full((3, array.nbytes), GARBAGE, np.uint8)
        whole[1] = array.reshape(-1).view(np.uint8)
        held = self.native.Tensor((3, *array.shape), str(array.dtype), "cuda")
        self.put(held, whole.reshape(-1).view(array.dtype).reshape(held.shape))
        self.watched.append(held)
        return held.slice(1)


def random(*shape: int, seed: int = 0, scale: float = 1) -> npt.NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def same_bits(got: Array, expected: Array) -> None:
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    different = np.flatnonzero(got.reshape(-1).view(np.uint8) != expected.reshape(-1).view(np.uint8)) // got.itemsize
    assert not different.size, f"{len(different)} bytes differ, first of element {different[0]} of {got.size}"


def table(*rows: tuple[float, ...]) -> npt.NDArray[np.float32]:
    """A plan: (timestep, p_x, p_out, p_hat, c_x, c_hat, c_p0, c_p1, c_p2, c_z) a row."""
    plan = np.full((len(rows), 12), np.nan, np.float32)
    plan[:, :10] = rows
    return plan


START = (0, 0, 0, 0, 0, 0.3, 0, 0, 0, 0.9)
PLAN = table(
    START,
    (900, 1.5, -0.5, 0.1, 0.2, 0.3, 0.5, 0, 0, 0.75),
    (500, 1.1, -0.7, 0.0, 0.1, 0.2, 0.3, 0.4, 0, 0.6),
    (20, 1.2, 0.25, -0.3, 0.9, -0.2, 0.5, -0.25, 0.125, 0.0),
)


class Sampler:
    """A plan in device memory, and what start and solver_step write beside the latents."""

    def __init__(self, gpu: Gpu, plan: Array = PLAN, seed: int = 7) -> None:
        self.gpu = gpu
        self.plan = gpu.up(plan)
        self.seed = gpu.up(np.array([seed], np.int64))
        self.timestep = gpu.garbage((1,))
        self.largest = gpu.up(np.zeros(len(plan) + 1, np.float32))

    def start(self, x: Any, x0_hat: Any, mean: Any, std: Any, noise: Any) -> None:
        self.gpu.cuda.start(
            self.gpu.stream, x, x0_hat, mean, std, noise, self.plan, self.seed, self.timestep, self.largest
        )

    def step(self, x: Any, output: Any, x0_hat: Any, ring: Any, noise: Any, row: int) -> None:
        self.gpu.cuda.solver_step(
            self.gpu.stream, x, output, x0_hat, ring, noise, self.plan, row, self.seed, self.timestep, self.largest
        )

    def seen(self) -> Array:
        return self.gpu.down(self.largest)
