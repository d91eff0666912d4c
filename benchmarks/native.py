"""Times every kernel of runtime._native on stated shapes. Out: a table of milliseconds, the best and the median run.

python -m benchmarks.native [--threads N] [--no-simd]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from runtime import _native
from runtime._native import Tensor, TorchCpuGenerator

LATENT = (1, 4, 64, 64)
LARGE_LATENT = (1, 4, 256, 256)
PICTURE = (1, 3, 512, 512)
LARGE_PICTURE = (1, 3, 2048, 2048)


def milliseconds(call: Callable[[], object]) -> tuple[float, float]:
    """The best and the median of at least 5 calls, or as many as half a second holds."""
    call()
    times: list[float] = []
    while len(times) < 5 or (sum(times) < 0.5 and len(times) < 1000):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times) * 1e3, statistics.median(times) * 1e3


def noise(shape: tuple[int, ...], draw: int = 0) -> Tensor:
    out = Tensor(shape)
    _native.philox_normal(out, 42, draw)
    return out


def step(shape: tuple[int, ...]) -> Callable[[], object]:
    x, output, x0_hat, fresh, *ring = (noise(shape, draw) for draw in range(7))
    return lambda: _native.solver_step(x, output, x0_hat, ring, fresh, 1.1, -0.5, 0.0, 0.3, 0.2, (0.5, -0.1, 0.01), 0.1)


def start(shape: tuple[int, ...]) -> Callable[[], object]:
    x, x0_hat, mean, std, posterior, fresh = (noise(shape, draw) for draw in range(6))
    return lambda: _native.start(x, x0_hat, mean, std, posterior, fresh, 0.5, 0.9)


def to_planar(side: int) -> Callable[[], object]:
    image, out = Tensor((side, side, 3), "uint8"), Tensor((1, 3, side + 8, side + 8))
    return lambda: _native.image_to_planar(image, out)


def to_image(shape: tuple[int, ...]) -> Callable[[], object]:
    planes, out = noise(shape), Tensor((*shape[2:], 3), "uint8")
    return lambda: _native.planar_to_image(planes, out)


def fix(function: Callable[[Tensor, Tensor], None], shape: tuple[int, ...]) -> Callable[[], object]:
    content, style = noise(shape), noise(shape, 1)
    return lambda: function(content, style)


def philox(shape: tuple[int, ...]) -> Callable[[], object]:
    out = Tensor(shape)
    return lambda: _native.philox_normal(out, 42, 0)


def torch_cpu(count: int) -> Callable[[], object]:
    generator, out = TorchCpuGenerator(42), Tensor((count,))
    return lambda: generator.normal(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=_native.num_threads())
    parser.add_argument("--no-simd", action="store_true", help="the baseline loops instead of AVX2")
    arguments = parser.parse_args()
    _native.set_num_threads(arguments.threads)
    simd = _native._set_simd(not arguments.no_simd)
    rows = {
        f"philox_normal {LATENT}": philox(LATENT),
        f"philox_normal {LARGE_LATENT}": philox(LARGE_LATENT),
        "TorchCpuGenerator 65,536 values": torch_cpu(65536),
        f"start {LATENT}": start(LATENT),
        f"start {LARGE_LATENT}": start(LARGE_LATENT),
        f"solver_step order 3 {LATENT}": step(LATENT),
        f"solver_step order 3 {LARGE_LATENT}": step(LARGE_LATENT),
        "image_to_planar 128x128": to_planar(128),
        "image_to_planar 512x512": to_planar(512),
        f"planar_to_image {PICTURE}": to_image(PICTURE),
        f"planar_to_image {LARGE_PICTURE}": to_image(LARGE_PICTURE),
        f"wavelet_fix {PICTURE}": fix(_native.wavelet_fix, PICTURE),
        f"wavelet_fix {LARGE_PICTURE}": fix(_native.wavelet_fix, LARGE_PICTURE),
        f"adain_fix {PICTURE}": fix(_native.adain_fix, PICTURE),
        f"adain_fix {LARGE_PICTURE}": fix(_native.adain_fix, LARGE_PICTURE),
    }
    print(f"runtime._native {_native.__version__}, {arguments.threads} threads, AVX2 {'on' if simd else 'off'}")
    print(f"{'kernel':<46}{'best ms':>10}{'median ms':>11}")
    for name, call in rows.items():
        best, median = milliseconds(call)
        print(f"{name:<46}{best:>10.3f}{median:>11.3f}")


if __name__ == "__main__":
    main()
