"""`upscale` and `close`: one cached Upscaler for each bundle, engine and device. In: an image. Out: an image."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.control import Control, OnProgress
from runtime.default_bundle import default_bundle
from runtime.tiles import AUTO
from runtime.upscaler import Upscaler

_Key = tuple[str, str, str]
_upscalers: dict[_Key, Upscaler] = {}
_opening: dict[_Key, threading.Lock] = {}
_lock = threading.Lock()


def upscale(
    image: object,
    *,
    bundle: str | Path | None = None,
    scale: float = 4,
    steps: int | None = None,
    order: int | None = None,
    seed: int = 42,
    noise: str | Sequence[Any] = "philox",
    color_fix: str = "wavelet",
    tile: int | str | None = AUTO,
    tile_overlap: int | None = None,
    tile_batch: int | None = None,
    engine: str = "auto",
    device: str = "auto",
    on_progress: OnProgress | None = None,
    timeout: float | None = None,
    control: Control | None = None,
) -> Any:
    """Restores and enlarges one picture.

    The first call with a bundle, engine and device opens them, later ones load nothing. Thread-safe.

    Args:
        image: a path, the bytes of an image file, a PIL image, or a buffer or DLPack object, uint8 or uint16
            [h, w, 3 or 4].
        bundle: folder of an exported model; None: the one that the environment variable DOSSR_BUNDLE names, else the
            demo model that ships.
        scale, steps, order, seed, noise, color_fix, tile, tile_overlap, tile_batch, on_progress, timeout, control:
            see `Upscaler.__call__`.
        engine, device: see `Upscaler`.

    Returns:
        PIL.Image.Image, of 16-bit pictures with several channels in 8 bits (`Upscaler` gives them whole); for a buffer
        input a `runtime.Image8`, uint8 or uint16 as the input, [H, W, 3 or 4] (buffer protocol and DLPack).

    Raises:
        DossrError: see `Upscaler` and `Upscaler.__call__`.
    """
    folder = default_bundle() if bundle is None else Path(bundle)
    upscaler = _cached((str(folder.resolve()), engine, device))
    return upscaler(
        image,
        scale=scale,
        steps=steps,
        order=order,
        seed=seed,
        noise=noise,
        color_fix=color_fix,
        tile=tile,
        tile_overlap=tile_overlap,
        tile_batch=tile_batch,
        on_progress=on_progress,
        timeout=timeout,
        control=control,
    ).image


def _cached(key: _Key) -> Upscaler:
    with _lock:
        opening = _opening.setdefault(key, threading.Lock())
    with opening:  # two threads that ask for one bundle open it once; other bundles do not wait
        with _lock:
            found = _upscalers.get(key)
        if found is None:
            folder, engine, device = key
            found = Upscaler(folder, engine=engine, device=device)
            with _lock:
                _upscalers[key] = found
        return found


def close() -> None:
    """Closes every Upscaler that `upscale` keeps, and frees their memory; the next call opens them again."""
    with _lock:
        closing = list(_upscalers.values())
        _upscalers.clear()
    for upscaler in closing:
        upscaler.close()
