"""A bundle's ways of restoring, as the evaluation takes them. In: a bundle folder. Out: functions on NumPy arrays.

Whole restorations go through `runtime.Upscaler`; single graphs through the same backend.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np

from engines.backends import backend_named
from engines.base import EngineSettings, Runner
from engines.bundle import open_bundle
from engines.graphs import resolve_shape
from runtime.kernels import Tensor
from runtime.upscaler import Upscaler
from training.crops import Bytes, Picture, planar

SEED = 42


class BundleStages:
    """An opened bundle. Use it in a `with` block, or call `close`.

    Raises:
        BundleError: the bundle is missing or damaged.
        EngineError: the engine is missing or refuses a graph.
        SettingsError: threads out of range.
    """

    def __init__(self, bundle: str | Path, *, threads: int | None = None) -> None:
        self._upscaler = Upscaler(bundle, engine="onnxruntime", device="cpu", threads=threads)
        backend, opened = backend_named("onnxruntime"), open_bundle(bundle)
        settings = EngineSettings(device="cpu", threads=threads)
        self._specs = {name: opened.manifest.graphs[name].spec for name in ("preprocess", "encode", "decode")}
        self._runners: dict[str, Runner] = {name: backend.open(opened, name, settings) for name in self._specs}

    def restorer(self, steps: int, order: int) -> Callable[[Bytes], Picture]:
        """The whole model with Philox noise of seed 42 and the wavelet color fix.

        Returns:
            uint8 [h, w, 3] to float32 [3, 4h, 4w] in [0, 1], of 8 bits.
        """

        def restore(low_res: Bytes) -> Picture:
            result = self._upscaler(
                np.ascontiguousarray(low_res), steps=steps, order=order, seed=SEED, noise="philox", color_fix="wavelet"
            )
            return planar(np.asarray(result.pixels))

        return restore

    def preprocess(self, low_res: Bytes) -> Picture:
        """RRDBNet alone.

        Args:
            low_res: uint8 [h, w, 3], sides multiples of 16.

        Returns:
            float32 [3, 4h, 4w] in [0, 1].
        """
        return self._run("preprocess", {"image": planar(low_res)})["preprocessed"]

    def reconstruct(self, image: Picture) -> Picture:
        """Through the VAE and back: the decoder on the encoder's mean, clamped.

        Args:
            image: float32 [3, h, w] in [0, 1], sides multiples of 64.

        Returns:
            The same shape and range.
        """
        mean = self._run("encode", {"image": image})["latent_mean"]
        return self._run("decode", {"latent": mean})["image"].clip(0, 1)

    def _run(self, graph: str, inputs: Mapping[str, Picture]) -> dict[str, Picture]:
        """One graph on one picture; the batch axis is put on and taken off here."""
        spec = self._specs[graph]
        sizes = {"B": 1}
        tensors = {name: Tensor((1, *array.shape)) for name, array in inputs.items()}
        for given in spec.inputs:
            for dim, size in zip(given.shape[2:], inputs[given.name].shape[1:], strict=True):
                factor, _, axis = str(dim).rpartition("*")
                sizes[axis] = size // int(factor or 1)
            np.asarray(tensors[given.name])[0] = inputs[given.name]
        tensors |= {out.name: Tensor(resolve_shape(out.shape, sizes)) for out in spec.outputs}
        self._runners[graph].bind(tensors).run()
        return {out.name: np.asarray(tensors[out.name])[0] for out in spec.outputs}

    def close(self) -> None:
        """Frees the engines."""
        self._upscaler.close()
        for runner in self._runners.values():
            runner.close()

    def __enter__(self) -> BundleStages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()
