"""Types of `_native.cuda`, the part of the compiled module for NVIDIA GPUs. No module of this name exists: import
these for annotations alone, and take the classes and functions from `_native.cuda`.

Everywhere: the first argument is the `stream`; every tensor lies in the memory of its GPU (`device="cuda:N"`),
C-contiguous, NCHW; the call queues its work and returns, one launch unless said otherwise. Tensors must live until the
work is done, those of a captured `CudaGraph` as long as it is launched. What they hold may change between the launches
of a graph; numbers and shapes are those of the capture. Results are bit-equal to those of the CPU's function of that
name in `_native`, except `adain_fix` (1e-6).

Raises, everywhere: TypeError for a wrong dtype or a tensor that is elsewhere; ValueError for a wrong shape, range or
shared memory; `CudaError` for what CUDA refuses, with its words and what to do. CUDA may tell of a failed kernel only
in a later call.
"""

from collections.abc import Sequence
from typing import final, type_check_only

from runtime._native import Tensor

@type_check_only
@final
class CudaEvent:
    """A mark among a stream's work, as `CudaStream.record` makes it."""

    @property
    def done(self) -> bool:
        """Whether all work before it is done."""

    def synchronize(self) -> None:
        """Waits until it is done."""

    def seconds_since(self, earlier: CudaEvent) -> float:
        """Time on the GPU between two events of it; waits for this one.

        Raises:
            ValueError: `earlier` is of another GPU.
        """

@type_check_only
@final
class CudaGraph:
    """Captured work, launched as one; it must live until that is done."""

    def launch(self, stream: CudaStream) -> None:
        """Queues the work on a stream of the same GPU; ValueError for one of another."""

    @property
    def kernels(self) -> int:
        """Number of kernels in it."""

@type_check_only
@final
class CudaStream:
    """A queue of work for one GPU; what is queued runs in order, and not in step with any other stream."""

    def __init__(self, device: int = 0) -> None: ...
    @property
    def ptr(self) -> int:
        """The cudaStream_t, for engines and other libraries; valid as long as this object lives."""

    @property
    def device(self) -> str:
        """Its GPU, "cuda:N"."""

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Copies between tensors of one dtype and shape, of which one lies on this stream's GPU and the other anywhere.

        Asynchronous with pinned tensors; with other tensors of the CPU it may wait for the copy, without the GIL.
        """

    def zero(self, tensor: Tensor) -> None:
        """Sets all bytes of a tensor on this GPU to 0."""

    def record(self) -> CudaEvent:
        """An event after all that is queued so far."""

    def wait(self, event: CudaEvent) -> None:
        """Makes what is queued from now on wait for the event, of whichever GPU; the caller does not wait."""

    def synchronize(self) -> None:
        """Waits until all that is queued is done, without the GIL."""

    def mark(self) -> CudaEvent:
        """As `record`, to tell times by: while the stream captures, every launch of the graph records it. Its time is
        that of the last launch; nothing can wait for it.
        """

    def begin_capture(self) -> None:
        """From now on work is not run but recorded, and so is that of streams which wait for events of this one.

        Until `end_capture`, by the same thread, that thread can neither allocate on GPUs nor synchronize.
        """

    def end_capture(self) -> CudaGraph:
        """The recorded work; streams that joined must have been waited for by this one."""

@type_check_only
class Cuda:
    """What `_native.cuda` offers."""

    Stream: type[CudaStream]
    Event: type[CudaEvent]
    Graph: type[CudaGraph]

    architectures: tuple[str, ...]
    """What the kernels are compiled for: "sm_90" is machine code, "compute_90" PTX for the driver to compile."""
    runtime_version: tuple[int, int]
    """Major and minor version of the CUDA runtime that is linked in."""

    def memory(self, device: int) -> tuple[int, int]:
        """Free and total bytes of a GPU."""

    def runs_on(self, device: int) -> bool:
        """Whether the compiled kernels have code for that GPU."""

    def from_dlpack(self, obj: object, stream: CudaStream) -> Tensor:
        """Another library's array in the memory of the stream's GPU, shared and kept alive; C-contiguous.

        The stream waits for the array's producer. The producer does not wait for the stream: keep the tensor until the
        work that reads it is done. Of a read-only array, read the tensor only.

        Raises:
            TypeError: obj has no DLPack, or a dtype that Tensor has not.
            BufferError: the array is on another device, or is not given away.
            ValueError: it is strided.
        """

    def cast(self, stream: CudaStream, src: Tensor, out: Tensor) -> None:
        """float32 to float16, rounded half to even, or float16 to float32; one shape."""

    def philox_normal(self, stream: CudaStream, out: Tensor, seed: Tensor, draw: int, y0: int = 0, x0: int = 0) -> None:
        """As `_native.philox_normal`; seed: int64 [1], the 64 bits."""

    def start(
        self,
        stream: CudaStream,
        x: Tensor,
        x0_hat: Tensor,
        latent_mean: Tensor,
        latent_std: Tensor,
        noise: tuple[Tensor, Tensor] | None,
        plan: Tensor,
        seed: Tensor,
        timestep: Tensor,
        largest: Tensor,
    ) -> None:
        """As `_native.start`, with the coefficients of row 0 of the plan.

        Args:
            x, x0_hat: written; float32 [B, C, H, W], and so latent_mean and latent_std.
            noise: posterior's and start's, or None: Philox draws 0 and 1 of the seed, made in registers.
            plan: float32 [N + 1, 12]: timestep, p_x, p_out, p_hat, c_x, c_hat, c_p[3], c_z, 0, 0 of each row.
            seed: int64 [1], the 64 bits.
            timestep: float32 [1]; written: that of row 1.
            largest: float32 [N + 1] or longer, element 0 written: the larger of what it was and of the largest absolute
                value in x and x0_hat, infinity above all numbers and NaN above that.
        """

    def solver_step(
        self,
        stream: CudaStream,
        x: Tensor,
        output: Tensor,
        x0_hat: Tensor,
        predictions: Sequence[Tensor],
        noise: Tensor | None,
        plan: Tensor,
        row: int,
        seed: Tensor,
        timestep: Tensor,
        largest: Tensor,
    ) -> None:
        """As `_native.solver_step`, with the coefficients of that row, 1 to N, of the plan.

        Args:
            predictions: 1 to 3, newest first; as many weights count. The first is written, and so is x.
            noise: or None: Philox draw row + 1 of the seed, made in registers.
            timestep: written: that of the next row, where there is one.
            plan, seed, largest: as of `start`; element `row` of largest is written.
        """

    def image_to_planar(self, stream: CudaStream, src: Tensor, out: Tensor, item: int = 0) -> None:
        """As `_native.image_to_planar`, src being a tensor."""

    def crop_to_planar(self, stream: CudaStream, src: Tensor, y: int, x: int, out: Tensor, item: int = 0) -> None:
        """As `_native.crop_to_planar`, src being a tensor."""

    def planar_to_image(
        self, stream: CudaStream, src: Tensor, out: Tensor, largest: Tensor, index: int, item: int = 0
    ) -> None:
        """As `_native.planar_to_image`; element `index` of largest is written as by `start`."""

    def wavelet_fix(self, stream: CudaStream, content: Tensor, style: Tensor, out: Tensor) -> None:
        """As `_native.wavelet_fix`, written to out, which is none of the others."""

    def adain_work(self, shape: Sequence[int]) -> int:
        """Elements of `work` that `adain_fix` needs for [B, C, H, W]."""

    def adain_fix(self, stream: CudaStream, content: Tensor, style: Tensor, out: Tensor, work: Tensor) -> None:
        """As `_native.adain_fix`, written to out, which is none of the others; work: float64. Two launches."""

    def tile_blend(
        self,
        stream: CudaStream,
        tile: Tensor,
        canvas: Tensor,
        window_y: Tensor,
        window_x: Tensor,
        y: int,
        x: int,
        item: int = 0,
    ) -> None:
        """As `_native.tile_blend`."""

    def tile_take(self, stream: CudaStream, canvas: Tensor, tile: Tensor, y: int, x: int, item: int = 0) -> None:
        """As `_native.tile_take`."""

    def match_planes(self, stream: CudaStream, planes: Tensor, moves: Tensor) -> None:
        """As `_native.match_planes`."""
