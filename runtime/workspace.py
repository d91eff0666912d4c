"""Buffers and bound engine calls for one size of picture. In: opened graphs and a size. Out: calls that only need
`run()`. Everything that a picture needs is allocated here, once a size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from engines.bundle import Manifest
from engines.errors import ImageTooLargeError
from engines.graphs import LATENT_CHANNELS, LOW_RES_MULTIPLE, UPSCALE, VAE_FACTOR, resolve_shape
from engines.profiles import Profile, Size, axis_sizes, choose_profile
from runtime.device import Device, SamplerState
from runtime.engine_pool import EnginePool, PooledCall
from runtime.kernels import Tensor
from runtime.recording import Recordings


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Tensors (float32, on the device) and calls of one size and batch."""

    device: Device
    low_res: Tensor
    """[B, 3, h, w], padded to multiples of 16."""
    preprocessed: Tensor
    """[B, 3, 4h, 4w], and so `decoded`."""
    decoded: Tensor
    latent_mean: Tensor
    latent_std: Tensor
    condition: Tensor
    state: SamplerState
    calls: Mapping[str, PooledCall]
    recordings: Recordings | None = None
    """Of batches of this size; None: they are always put on the device call by call."""

    @property
    def size(self) -> Size:
        """(B, H, W) of its latents."""
        batch, _, height, width = self.state.latent.shape
        return batch, height, width

    def run(self, graph: str) -> None:
        """Runs one graph on the bound buffers; a graph that the bundle does not have is passed over."""
        if call := self.calls.get(graph):
            call.run()

    @property
    def denoise(self) -> tuple[Callable[[], None], ...]:
        """The engine calls of one step, in order."""
        return tuple(self.calls[name].run for name in ("denoise", "controlnet", "unet") if name in self.calls)


def working_size(profiles: Sequence[Profile], width: int, height: int, batch: int = 1) -> Size:
    """The size that `batch` low-resolution pictures are worked on at: theirs, or the smallest that an engine takes.

    Raises:
        ImageTooLargeError: the picture is larger than every profile takes, in that number.
    """
    needed = (batch, *latent_size_needed(width, height))
    chosen = choose_profile(profiles, needed)
    if chosen is None:
        low = VAE_FACTOR // UPSCALE
        largest = [f"{low * W}x{low * H}" for B, H, W in (profile.max for profile in profiles) if batch <= B]
        raise ImageTooLargeError(
            f"the picture is {width}x{height}, this bundle takes at most {' or '.join(dict.fromkeys(largest))}; crop "
            "it, let it be cut into tiles (of engines from 32x32 on), export with a larger --static shape or without "
            "one, or build TensorRT engines of a larger --profile"
        )
    return profiles[chosen].padded(needed)


def largest_batch(profiles: Sequence[Profile], width: int, height: int) -> int:
    """How many pictures of that size are worked on together at most; 1 where none is."""
    one = (1, *latent_size_needed(width, height))
    return max((profile.max[0] for profile in profiles if profile.covers(one)), default=1)


def latent_size_needed(width: int, height: int) -> tuple[int, int]:
    """(H, W) of the latent of a picture padded to multiples of 16, which the networks need."""
    low = VAE_FACTOR // UPSCALE
    H, W = (-(-pixels // LOW_RES_MULTIPLE) * LOW_RES_MULTIPLE // low for pixels in (height, width))
    return H, W


def buffer_bytes(manifest: Manifest, size: Size) -> int:
    """Bytes of a workspace's buffers."""
    batch, H, W = size
    sizes = axis_sizes(size)
    pictures = 3 * (sizes["h"] * sizes["w"] + 2 * VAE_FACTOR * H * VAE_FACTOR * W)
    latents = (10 + manifest.separate_condition) * LATENT_CHANNELS * H * W
    residuals = manifest.graphs["controlnet"].spec.outputs if "controlnet" in manifest.graphs else ()
    return 4 * (batch * (pictures + latents) + sum(prod(resolve_shape(spec.shape, sizes)) for spec in residuals))


def make_workspace(
    manifest: Manifest, pool: EnginePool, device: Device, size: Size, *, record: bool = False
) -> Workspace:
    """Allocates the buffers of that size on the device and binds every graph to them; `record`: see
    `Workspace.recordings`.

    Raises:
        MemoryBudgetError: some graph at this size takes more than the pool's budget.
    """
    batch, H, W = size
    sizes = axis_sizes(size)

    def new_latent() -> Tensor:
        return device.tensor((batch, LATENT_CHANNELS, H, W))

    preprocessed, decoded = (device.tensor((batch, 3, VAE_FACTOR * H, VAE_FACTOR * W)) for _ in range(2))
    low_res = device.tensor((batch, 3, sizes["h"], sizes["w"]))
    mean, std = new_latent(), new_latent()
    condition = new_latent() if manifest.separate_condition else mean
    control_scale = device.vector((1.0,))
    state = SamplerState(
        latent=new_latent(),
        x0_hat=new_latent(),
        output=new_latent(),
        timestep=device.tensor((1,)),
        predictions=(new_latent(), new_latent(), new_latent()),
        noise=new_latent(),
        noise_posterior=new_latent(),
    )
    by_graph = {
        "preprocess": {"image": low_res, "preprocessed": preprocessed},
        "encode": {"image": preprocessed, "latent_mean": mean, "latent_std": std},
        "condition": {"image": preprocessed, "condition": condition},
        "decode": {"latent": state.latent, "image": decoded},
    }
    network = {
        "latent": state.latent,
        "condition": condition,
        "timestep": state.timestep,
        "control_scale": control_scale,
        "output": state.output,
    }
    residuals = {
        spec.name: device.tensor(resolve_shape(spec.shape, sizes))
        for spec in (manifest.graphs["controlnet"].spec.outputs if "controlnet" in manifest.graphs else ())
    }
    by_graph |= dict.fromkeys(("denoise", "controlnet", "unet"), network | residuals)
    tensors = {tensor.ptr: tensor for bound in by_graph.values() for tensor in bound.values()}
    buffers = sum(tensor.nbytes for tensor in tensors.values())
    calls = {}
    for name, entry in manifest.graphs.items():
        names = [spec.name for spec in (*entry.spec.inputs, *entry.spec.outputs)]
        calls[name] = pool.bind(name, {n: t for n, t in by_graph[name].items() if n in names}, buffers, batch * H * W)
    recordings = device.recordings(tuple(calls.values())) if record else None
    if recordings is not None:  # the memory that engines share has its size then before any of them runs
        for call in calls.values():
            call.bind()
    return Workspace(
        device=device,
        low_res=low_res,
        preprocessed=preprocessed,
        decoded=decoded,
        latent_mean=mean,
        latent_std=std,
        condition=condition,
        state=state,
        calls=calls,
        recordings=recordings,
    )
