"""Noise sources. In: a seed, or the caller's own tensors. Out: standard normals, draw by draw.

The order of draws is the reference implementation's: the posterior, the start, then one a step, the last included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from engines.errors import SettingsError
from runtime.kernels import Tensor, TorchCpuGenerator, philox_normal, tensor_from

SEED_LIMIT = 2**64


class NoiseSource(Protocol):
    """Gives one tensor of normals after the other."""

    def fill(self, out: Tensor) -> None:
        """Writes the next draw into `out`, float32 [1, 4, H, W]."""


class Philox:
    """Counter-based normals: bit-equal on every machine and device, whatever the threads or tiles."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._draw = 0

    def fill(self, out: Tensor) -> None:
        """See `NoiseSource.fill`."""
        philox_normal(out, self.seed, self._draw)
        self._draw += 1


class TorchCpu:
    """The normals of `torch.manual_seed(seed)` on a CPU, to 5e-6: for comparison with the reference."""

    def __init__(self, seed: int) -> None:
        self._generator = TorchCpuGenerator(seed)

    def fill(self, out: Tensor) -> None:
        """See `NoiseSource.fill`."""
        self._generator.normal(out)


class Given:
    """Tensors of the caller: buffer protocol or DLPack, float32, each of the latent's shape."""

    def __init__(self, tensors: Sequence[Any]) -> None:
        self._tensors = list(tensors)
        self._draw = 0

    def fill(self, out: Tensor) -> None:
        """See `NoiseSource.fill`."""
        if self._draw == len(self._tensors):
            raise SettingsError(
                f"noise holds {len(self._tensors)} tensors, expected steps + 2: posterior, start, one a step"
            )
        try:
            given = tensor_from(self._tensors[self._draw])
            out.copy_from(given)
        except (TypeError, ValueError, BufferError) as error:
            raise SettingsError(
                f"noise tensor {self._draw} does not fit: {error}; expected float32 {list(out.shape)}"
            ) from error
        self._draw += 1


def fill_items(source: NoiseSource, out: Tensor) -> None:
    """One draw for every item of `out`, float32 [B, 4, H, W]: pictures of a batch are those that they are alone."""
    if out.shape[0] == 1 or isinstance(source, Philox):
        source.fill(out)
        return
    one = Tensor((1, *out.shape[1:]))
    source.fill(one)
    for item in range(out.shape[0]):
        out.slice(item).copy_from(one.slice(0))


NOISE_SOURCES: dict[str, Callable[[int], NoiseSource]] = {"philox": Philox, "torch-cpu": TorchCpu}


def noise_source(noise: str | Sequence[Any], seed: int) -> NoiseSource:
    """The source by name, or of the caller's tensors.

    Raises:
        SettingsError: no source of that name, or a seed outside 0..2**64-1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < SEED_LIMIT:
        raise SettingsError(f"seed must be a whole number in 0..2**64-1, not {seed!r}")
    if isinstance(noise, Sequence) and not isinstance(noise, str):
        return Given(noise)
    if noise not in NOISE_SOURCES:
        raise SettingsError(f"noise must be {' or '.join(NOISE_SOURCES)} or a list of tensors, not {noise!r}")
    return NOISE_SOURCES[noise](seed)
