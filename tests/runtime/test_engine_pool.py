"""Engines within a memory budget: what is open when, and what is refused."""

import dataclasses
import os

import numpy as np
import pytest

import runtime
from engines.backends import backend_named
from engines.base import EngineSettings
from engines.bundle import FileRecord, open_bundle
from engines.errors import EngineError, EngineUnavailableError, MemoryBudgetError, SettingsError
from engines.files import sha256_file
from engines.memory import resident_memory
from runtime.engine_pool import EnginePool
from runtime.kernels import Tensor
from tests.tiny import write_tiny_bundle

WEIGHTS = 400 << 20
"""Bytes of weights that each graph claims: more than anything else in the process changes by."""
PHOTO = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
PIXELS = 8 * 8


def padded(folder):
    """Gives every graph of the bundle a file that is as large as weights, and empty."""
    manifest = open_bundle(folder).manifest
    files, digest = dict(manifest.files), None
    for graph in manifest.graphs:
        path = folder / "onnx" / graph / "padding.bin"
        path.touch()
        os.truncate(path, WEIGHTS)
        digest = digest or sha256_file(path)
        files[f"onnx/{graph}/padding.bin"] = FileRecord(sha256=digest, size=WEIGHTS)
    dataclasses.replace(manifest, files=files).write(folder)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return padded(write_tiny_bundle(tmp_path_factory.mktemp("pool") / "bundle"))


def budget(engines):
    """What `engines` open engines take, and half of one more."""
    return resident_memory() + int((engines + 0.5) * 1.05 * WEIGHTS)


def pool_of(bundle, limit):
    return EnginePool(backend_named("onnxruntime"), open_bundle(bundle), EngineSettings(device="cpu"), limit)


def test_without_a_budget_everything_is_open(bundle):
    pool = pool_of(bundle, None)
    assert set(pool.open_graphs) == {"preprocess", "encode", "denoise", "decode"}
    pool.close()
    assert pool.open_graphs == ()


@pytest.mark.parametrize("engines", [1, 2, 3, 4])
def test_the_picture_does_not_depend_on_the_budget(bundle, engines):
    with runtime.Upscaler(bundle, device="cpu") as free:
        expected = np.asarray(memoryview(free(PHOTO).image))
    with runtime.Upscaler(bundle, device="cpu", max_memory=budget(engines)) as upscaler:
        for _ in range(2):
            np.testing.assert_array_equal(np.asarray(memoryview(upscaler(PHOTO).image)), expected)
            assert len(upscaler._ways.asked.pool.open_graphs) == engines
        assert "onnxruntime" in upscaler.description


def denoise_tensors():
    latents = {name: Tensor((1, 4, 8, 8)) for name in ("latent", "condition", "output")}
    return latents | {"timestep": Tensor((1,)), "control_scale": Tensor((1,))}


def test_the_engine_called_longest_ago_is_closed(bundle):
    pool = pool_of(bundle, budget(2))
    image, enlarged = Tensor((1, 3, 16, 16)), Tensor((1, 3, 64, 64))
    mean, std, latent = (Tensor((1, 4, 8, 8)) for _ in range(3))
    calls = {
        "preprocess": pool.bind("preprocess", {"image": image, "preprocessed": enlarged}, 0, PIXELS),
        "encode": pool.bind("encode", {"image": enlarged, "latent_mean": mean, "latent_std": std}, 0, PIXELS),
        "decode": pool.bind("decode", {"latent": latent, "image": enlarged}, 0, PIXELS),
    }
    assert pool.open_graphs == ()
    seen = []
    for name in ("preprocess", "encode", "preprocess", "decode", "encode"):
        calls[name].run()
        seen.append(pool.open_graphs)
    assert seen == [
        ("preprocess",),
        ("preprocess", "encode"),
        ("encode", "preprocess"),
        ("preprocess", "decode"),
        ("decode", "encode"),
    ]


def test_a_budget_below_one_engine_is_refused(bundle):
    with pytest.raises(MemoryBudgetError, match=r"max_memory is .* graph preprocess alone needs about .*; give more"):
        runtime.Upscaler(bundle, device="cpu", max_memory=budget(0))


def test_a_picture_beyond_the_budget_is_refused(bundle):
    with runtime.Upscaler(bundle, device="cpu", max_memory=budget(1)) as upscaler:
        assert upscaler(PHOTO).image.shape == (64, 64, 3)
        large = np.zeros((1024, 1024, 3), np.uint8)
        with pytest.raises(MemoryBudgetError, match="for a picture of this size"):
            upscaler(large, tile=None)
        assert not upscaler._ways.asked.pool._bound  # no buffers of either size are kept
        assert upscaler(PHOTO).image.shape == (64, 64, 3)


def test_buffers_are_checked_before_anything_is_opened(bundle):
    pool = pool_of(bundle, budget(2))
    with pytest.raises(EngineError, match="denoise"):
        pool.bind("denoise", denoise_tensors() | {"latent": Tensor((1, 4, 8, 4))}, 0, PIXELS)
    assert pool.open_graphs == ()


@pytest.mark.parametrize("size", ["much", "", 0, -1, 1.5, True])
def test_sizes_that_are_none(bundle, size):
    with pytest.raises(SettingsError, match=r"size of memory|max_memory"):
        runtime.Upscaler(bundle, max_memory=size)


def test_calls_of_one_graph_keep_to_their_own_buffers(bundle):
    pool = pool_of(bundle, None)
    first, second = denoise_tensors(), denoise_tensors()
    calls = [pool.bind("denoise", tensors, 0, PIXELS) for tensors in (first, second)]
    for tensors, value in ((first, 1.0), (second, 2.0)):
        tensors["latent"].fill(value)
        tensors["condition"].fill(0.0)
        tensors["timestep"].fill(1000.0)
    for i in (0, 1, 0):
        calls[i].run()
    outputs = [float(np.asarray(memoryview(tensors["output"])).mean()) for tensors in (first, second)]
    assert outputs == pytest.approx([1.0, 2.0])


@pytest.mark.parametrize("limit", [None, "20GiB"])
def test_a_missing_device_is_told_at_once(bundle, limit):
    with pytest.raises(EngineUnavailableError, match="device"):
        runtime.Upscaler(bundle, device="abacus", max_memory=limit)


def test_memory_of_intermediate_results_is_given_back(tmp_path):
    pool = pool_of(write_tiny_bundle(tmp_path / "bundle"), None)
    shape = (1, 4, 1024, 1024)
    tensors = {name: Tensor(shape) for name in ("latent", "condition", "output")}
    tensors |= {"timestep": Tensor((1,)), "control_scale": Tensor((1,))}
    for tensor in tensors.values():
        tensor.fill(1.0)
    pool.bind("denoise", tensors, 0, 1024 * 1024).run()
    before = resident_memory()
    backend_named("onnxruntime").trim()
    assert before - resident_memory() > 16 << 20  # at least one intermediate tensor
