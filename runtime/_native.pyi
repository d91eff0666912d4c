"""The C++ kernels. In: `Tensor`s. Out: the same `Tensor`s, written in place. Imports neither NumPy nor torch.

Everywhere: tensors are C-contiguous memory of the CPU, NCHW; one on a GPU is a TypeError here, and goes to `cuda`.
Results are the same bits on every x86-64 and arm64 processor and for any number of threads. The GIL is released while
a kernel runs, and any number of Python threads may call at once, as long as none writes what another reads. An
argument of the wrong type or dtype is a TypeError, one of the wrong shape, range or memory a ValueError; the text
names the argument, what it was and what was expected.

Where a kernel returns the largest absolute value, that is NaN if any value was NaN, else infinity if any was infinite,
and 0.0 of no values. It is taken on the way, as a maximum of integers, without a second pass.
"""

from collections.abc import Sequence
from typing import final

from typing_extensions import CapsuleType

from runtime._native_cuda import Cuda

__version__: str

cuda: Cuda | None
"""Streams, graphs and kernels for NVIDIA GPUs; None where they were not compiled in."""

@final
class CudaError(RuntimeError):
    """CUDA refuses: no CUDA in this build, no driver, no such GPU, a failed kernel; the text says what to do."""

@final
class Tensor:
    """Memory with a shape and a dtype, of the CPU or a GPU; 64-byte aligned, C-contiguous, zeroed, of a fixed address.

    On the CPU it supports the buffer protocol (writable) and DLPack (0 and 1.0, writable): `numpy.from_dlpack(t)`,
    `numpy.asarray(t)` and `torch.from_dlpack(t)` share its memory and keep it alive. On a GPU it supports DLPack alone.
    """

    def __init__(self, shape: Sequence[int], dtype: str = "float32", device: str = "cpu") -> None:
        """At most 16 sides of 0 or more; dtype "float32", "uint8", "uint16", "float16", "int64" or
        "float64"; device "cpu", "pinned" or "pinned:N" (of the CPU, and copied to and from every GPU at full speed;
        made in the context of GPU N, else of the thread's current one), "cuda" or "cuda:N".

        Raises:
            ValueError: a negative side, too many sides, an unknown dtype or device.
            TypeError: the shape is no sequence of integers.
            MemoryError: so much memory cannot be had, or addressed.
            CudaError: there is no such GPU, or none at all.
        """

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def size(self) -> int:
        """Number of elements."""

    @property
    def nbytes(self) -> int: ...
    @property
    def ptr(self) -> int:
        """Address of the first element, on its device; valid as long as this tensor lives."""

    @property
    def device(self) -> str:
        """Either "cpu", for pinned memory too, or "cuda:N"."""

    @property
    def pinned(self) -> bool:
        """Whether it is pinned memory of the CPU."""

    def fill(self, value: float) -> None:
        """Sets every element, rounded once to the dtype; float16 overflows to infinity.

        Raises:
            ValueError: an integer dtype, and the value is no integer or out of its range.
            BufferError: this tensor is on a GPU.
        """

    def copy_from(self, obj: object) -> None:
        """Copies an array with the buffer protocol or DLPack; any strides, and it may overlap this tensor.

        Raises:
            TypeError: obj has neither protocol, or another dtype (big-endian is another dtype).
            ValueError: obj has another shape; the text names both.
            BufferError: obj or this tensor is not in memory that a CPU reads, or obj does not give its memory away.
        """

    def slice(self, index: int) -> Tensor:
        """The index-th item of the leading axis (negative: from the end); shares memory and keeps it alive.

        Raises:
            IndexError: there is no such item.
            ValueError: the tensor has no axes.
        """

    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> CapsuleType:
        """A versioned capsule when max_version is (1, 0) or more, else a legacy one; a copy when copy is True.

        On a GPU, all work of the GPU is waited for first, unless stream is -1.

        Raises:
            BufferError: another device was asked for, or a stream for memory of the CPU.
            ValueError: stream is 0, which could be either of two.
        """

    @property
    def __array_interface__(self) -> dict[str, object]:
        """Shape, type and address, for `PIL.Image.fromarray(t)`; the address is valid as long as this tensor lives.

        Raises:
            BufferError: this tensor is on a GPU.
        """

    def __dlpack_device__(self) -> tuple[int, int]:
        """(1, 0): the CPU, for pinned memory too; (2, N): a GPU."""

def tensor_from(obj: object) -> Tensor:
    """A copy of an array with the buffer protocol or DLPack, of its shape and dtype.

    Errors as of `Tensor.copy_from` and `Tensor`.
    """

def philox_4x32_10(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """One block of Philox 4x32-10 (Salmon et al., SC 2011); all words in 0..2**32 - 1."""

def philox_normal(out: Tensor, seed: int, draw: int, y0: int = 0, x0: int = 0) -> None:
    """Standard normals into float32 [B, C, H, W], the same for every item of the batch.

    The value at (c, y, x) depends on (seed, draw, c, y0 + y, x0 + x) alone: it is that of words 0 and 1 of
    philox_4x32_10((x0 + x, y0 + y, c, draw), (seed low, seed high)) by Box-Muller. |value| <= 6.77, never NaN.

    Args:
        out: written.
        seed: -2**63..2**64 - 1, taken modulo 2**64.
        draw: 0..2**32 - 1, which of a run's random tensors this is.
        y0, x0: position of out's corner in the whole; y0 + H and x0 + W at most 2**32.
    """

@final
class TorchCpuGenerator:
    """The stream of normals that torch.manual_seed(seed) and torch.randn(...) on a CPU give in float32, to 5e-6.

    One generator serves one caller at a time; others wait.
    """

    def __init__(self, seed: int) -> None:
        """Seed of -2**63..2**64 - 1, of which the low 32 bits count, as in PyTorch."""

    def normal(self, out: Tensor) -> None:
        """Fills a float32 tensor of any shape with what torch.randn(out.shape) would return next.

        As in PyTorch, a tensor of fewer than 16 elements is drawn in another way than a larger one. (That way goes
        through the C library's sine, so the last bit may differ between systems.)
        """

def start(
    x: Tensor,
    x0_hat: Tensor,
    latent_mean: Tensor,
    latent_std: Tensor,
    noise_posterior: Tensor,
    noise_start: Tensor,
    c_hat: float,
    c_z: float,
) -> float:
    """Samples the posterior and makes the first latent; all tensors float32 of one shape.

        x0_hat = latent_mean + latent_std * noise_posterior        (written)
        x      = c_hat * x0_hat + c_z * noise_start                (written)

    x and x0_hat may share memory with no other argument. Coefficients are rounded to float32.

    Returns:
        The largest absolute value in x and x0_hat.
    """

def solver_step(
    x: Tensor,
    output: Tensor,
    x0_hat: Tensor,
    predictions: Sequence[Tensor],
    noise: Tensor | None,
    p_x: float,
    p_out: float,
    p_hat: float,
    c_x: float,
    c_hat: float,
    c_p: Sequence[float],
    c_z: float,
) -> float:
    """One row of a `solvers.Plan` in one pass, in float32 with fused multiply-adds; all tensors of one shape.

        p  = p_x * x + p_out * output + p_hat * x0_hat             (written to predictions[0])
        x <- c_x * x + c_hat * x0_hat + sum(c_p[i] * predictions[i]) + c_z * noise

    Args:
        x: the latent; read and written.
        output: what the network predicted.
        x0_hat: the posterior's sample.
        predictions: newest first, at least as many as c_p has numbers; those beyond are not looked at.
        noise: fresh noise; None is allowed, and a tensor is not read, when c_z is 0.
        p_x, p_out, p_hat, c_x, c_hat, c_z: finite in float32.
        c_p: 1 to 3 numbers, newest first.

    x and predictions[0] may share memory with no other argument.

    Returns:
        The largest absolute value in the new x and p.
    """

def image_to_planar(src: object, out: Tensor, item: int = 0) -> None:
    """8- or 16-bit pixels to planes in [0, 1], padded right and bottom.

    Args:
        src: uint8 or uint16 [h, w, 1, 3 or 4] (a single channel is repeated, a fourth is ignored), h and w of 1 or
            more, any strides; an object with the buffer protocol or DLPack.
        out: float32 [B, 3, H, W], H >= h, W >= w, of which that item is written: value / 255 or / 65535, and beyond the
            image its reflection about the last row and column, which are not repeated; folded back as often as needed,
            a side of 1 replicated.
    """

def crop_to_planar(src: object, y: int, x: int, out: Tensor, item: int = 0) -> None:
    """A window of 8- or 16-bit pixels to planes in [0, 1]: `image_to_planar` of the whole, from row y and column x on.

    Args:
        src: as of `image_to_planar`.
        y, x: 0 to 2^29; beyond the image it is continued by its reflection.
        out: float32 [B, 3, H, W] of any size, of which that item is written.
    """

def planar_to_image(src: Tensor, out: Tensor, item: int = 0) -> float:
    """Planes to 8- or 16-bit pixels, cropped to the top-left corner.

    Args:
        src: float32 [B, 3, H, W], of which that item is read.
        out: uint8 or uint16 [h, w, 1 or 3], h <= H, w <= W; written: clamped to [0, 1], times 255 or 65535 in float32,
            rounded half to even. A single channel is 0.299 red + 0.587 green + 0.114 blue of the clamped values. NaN
            and infinities are written as 0.

    Returns:
        The largest absolute value within the crop, before clamping.
    """

def change_depth(src: Tensor, out: Tensor) -> None:
    """Pixels of one depth in the other, rounded to the nearest; 255 and 65535 are both white.

    Args:
        src: uint8 or uint16 of any shape.
        out: the other of the two, of that shape; written: value * 257, or value / 257.
    """

def cast(src: Tensor, out: Tensor) -> None:
    """float32 to float16, half to even and beyond the range to infinity, or float16 to float32; of one shape."""

def tile_blend(tile: Tensor, canvas: Tensor, window_y: Tensor, window_x: Tensor, y: int, x: int, item: int = 0) -> None:
    """canvas[0, c, y + i, x + j] += window_y[i] * window_x[j] * tile[item, c, i, j]

    Args:
        tile: float32 [B, C, h, w].
        canvas: float32 [1, C, H, W]; read and written.
        window_y, window_x: float32 [h] and [w].
        y, x: where the tile's corner lies; it must lie within the canvas.
    """

def tile_take(canvas: Tensor, tile: Tensor, y: int, x: int, item: int = 0) -> None:
    """tile[item, c, i, j] = canvas[0, c, y + i, x + j], and 0 beyond the canvas

    Args:
        canvas: float32 [1, C, H, W].
        tile: float32 [B, C, h, w]; that item is written.
        y, x: where the tile's corner lies, 0 to H and to W.
    """

def tile_moments(tile: Tensor, sums: Tensor, window_y: Tensor, window_x: Tensor, item: int = 0) -> None:
    """sums[c, 0] += window_y[i] * window_x[j] * tile[item, c, i, j], and sums[c, 1] of the value's square, over i and j

    Args:
        tile: float32 [B, C, h, w].
        sums: float64 [C, 2]; read and written. The same whatever the number of threads.
        window_y, window_x: float32 [h] and [w].
    """

def match_planes(planes: Tensor, moves: Tensor) -> None:
    """planes[b, c] = (planes[b, c] - moves[c, 0]) * moves[c, 1] + moves[c, 2]: `adain_fix` by known statistics.

    Args:
        planes: float32 [B, C, H, W]; read and written.
        moves: float32 [C, 3]: the mean, the gain, the mean that it gets.
    """

def wavelet_fix(content: Tensor, style: Tensor) -> None:
    """content += blur^5(style - content): keeps content's high frequencies, takes style's low ones.

    Args:
        content: float32 [B, C, H, W]; read and written. H and W of any size.
        style: float32 of the same shape.

    The blur has five levels, 3x3 binomials of dilation 1, 2, 4, 8, 16 with replicated borders. Needs memory for two
    planes [H, W] meanwhile (MemoryError when there is none). Source: the wavelet color fix of StableSR and DoSSR.
    """

def adain_fix(content: Tensor, style: Tensor) -> None:
    """Gives each plane of content the mean and standard deviation of style's plane.

    Args:
        content: float32 [B, C, H, W]; read and written.
        style: float32 of the same shape.

    Variances are unbiased, with 1e-5 added; that of a single pixel counts as 0. Statistics are taken in float64.
    Source: adaptive instance normalisation (Huang and Belongie, 2017) as StableSR and DoSSR use it.
    """

def num_threads() -> int:
    """Threads that a kernel may use, the caller's included; at first the cores this process may run on."""

def set_num_threads(n: int) -> None:
    """Sets num_threads, 1..1024, for all kernels of this process. Changes no result."""

def _set_simd(allowed: bool) -> bool:
    """For tests: allows (default) or forbids the AVX2 loops. Returns whether they now run. Changes no result."""
