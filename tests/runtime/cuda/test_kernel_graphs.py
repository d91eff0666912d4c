"""A captured run of the sampler: replays equal plain launches bit for bit, and follow what device memory holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.runtime.cuda.gpu import PLAN, Array, Gpu, Sampler, random, same_bits

SHAPE = (2, 4, 9, 21)
PICTURE = (1, 3, 18, 42)


class Run:
    """Start, three steps of rising order and a picture, as one sequence of launches."""

    def __init__(self, gpu: Gpu, drawn: bool) -> None:
        self.gpu = gpu
        self.sampler = Sampler(gpu)
        self.inputs = [gpu.up(random(*SHAPE, seed=i)) for i in range(2)]
        self.noise = None if drawn else [gpu.up(random(*SHAPE, seed=2 + i)) for i in range(2)]
        self.x, self.x0_hat, *self.ring = (gpu.garbage(SHAPE) for _ in range(5))
        self.decoded, self.fixed = gpu.up(random(*PICTURE, seed=5)), gpu.garbage(PICTURE)
        self.style = gpu.up(random(*PICTURE, seed=6))
        self.work = gpu.garbage((gpu.cuda.adain_work(PICTURE),), "float64")
        self.pixels = gpu.garbage((17, 41, 3), "uint8")

    def launch(self) -> None:
        cuda, stream, sampler = self.gpu.cuda, self.gpu.stream, self.sampler
        stream.zero(sampler.largest)
        sampler.start(self.x, self.x0_hat, *self.inputs, self.noise)
        a, b, c = self.ring
        for row, ring in enumerate(((a,), (b, a), (c, b, a)), 1):
            sampler.step(self.x, self.inputs[row % 2], self.x0_hat, ring, self.noise and self.noise[0], row)
        cuda.wavelet_fix(stream, self.decoded, self.style, self.fixed)
        cuda.adain_fix(stream, self.fixed, self.style, self.decoded, self.work)
        cuda.planar_to_image(stream, self.decoded, self.pixels, sampler.largest, len(PLAN))

    def results(self) -> list[Array]:
        tensors: list[Any] = [self.x, self.x0_hat, *self.ring, self.fixed, self.pixels, self.sampler.timestep]
        return [*map(self.gpu.down, tensors), self.sampler.seen()]


def captured(run: Run) -> Any:
    run.gpu.stream.begin_capture()
    run.launch()
    return run.gpu.stream.end_capture()


@pytest.mark.parametrize("drawn", [True, False], ids=["drawn", "given"])
def test_a_replay_is_the_plain_launches(gpu: Gpu, drawn: bool) -> None:
    plain, replayed = Run(gpu, drawn), Run(gpu, drawn)
    graph = captured(replayed)
    assert graph.kernels == 4 + 1 + 2 + 1
    for _ in range(2):  # the second reads the decoded picture of the first
        plain.launch()
        graph.launch(gpu.stream)
        for one, other in zip(plain.results(), replayed.results(), strict=True):
            same_bits(one, other)


def test_replays_follow_seed_and_plan_in_device_memory(gpu: Gpu) -> None:
    run = Run(gpu, drawn=True)
    graph = captured(run)
    other_plan = PLAN.copy()
    other_plan[1:, 4:6] += np.float32(0.25)
    other_plan[3, 0] = 30
    latents = []
    for seed, plan in ((1, PLAN), (2, PLAN), (1, other_plan), (1, PLAN)):
        gpu.put(run.sampler.seed, np.array([seed], np.int64))
        gpu.put(run.sampler.plan, plan)
        graph.launch(gpu.stream)
        latents.append(gpu.down(run.x))
        assert gpu.down(run.sampler.timestep) == [plan[3, 0]]
        plain = Run(gpu, drawn=True)
        plain.sampler = Sampler(gpu, plan, seed)
        plain.launch()
        same_bits(latents[-1], gpu.down(plain.x))
    same_bits(latents[0], latents[3])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (latents[one] != latents[other]).mean() > 0.9


def test_every_kernel_but_adain_is_one_launch(gpu: Gpu) -> None:
    floats, halves = gpu.up(random(1, 3, 5, 7)), gpu.garbage((1, 3, 5, 7), "float16")
    image, window_y, window_x = gpu.up(np.zeros((5, 7, 3), np.uint8)), gpu.up(random(5)), gpu.up(random(7))
    out, seed, cuda, stream = gpu.garbage((1, 3, 5, 7)), gpu.up(np.array([1], np.int64)), gpu.cuda, gpu.stream
    moves = gpu.up(random(3, 3))
    for call in (
        lambda: cuda.cast(stream, floats, halves),
        lambda: cuda.cast(stream, halves, out),
        lambda: cuda.philox_normal(stream, out, seed, 0),
        lambda: cuda.image_to_planar(stream, image, out),
        lambda: cuda.tile_blend(stream, floats, out, window_y, window_x, 0, 0),
        lambda: cuda.crop_to_planar(stream, image, 1, 1, out),
        lambda: cuda.tile_take(stream, floats, out, 0, 0),
        lambda: cuda.match_planes(stream, out, moves),
    ):
        stream.begin_capture()
        call()
        assert stream.end_capture().kernels == 1
