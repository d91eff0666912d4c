"""Probe graphs are valid models that compute what they say; ceilings are of this machine."""

import numpy as np
import onnx
import onnxruntime
import pytest

from engines.base import EngineSettings
from engines.errors import EngineUnavailableError
from runtime.bench import probe_graphs
from runtime.bench.ceilings import Ceilings, _Sizes, best, measure_ceilings

SMALL = _Sizes(product=64, channels=8, side=16, copy=1 << 16)


def run(model, **inputs):
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, inputs)[0]


def test_noise_is_normal():
    values = run(probe_graphs.noise((300, 300), probe_graphs.FLOAT))
    assert values.shape == (300, 300)
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.02


def test_product():
    a, b = np.random.default_rng(1).random((2, 9, 9), np.float32)
    np.testing.assert_allclose(run(probe_graphs.product(9, probe_graphs.FLOAT), a=a, b=b), a @ b, rtol=1e-5)


def test_convolution():
    image = np.zeros((1, 2, 5, 5), np.float32)
    image[0, 1, 2, 2] = 3
    filters = np.arange(36, dtype=np.float32).reshape(2, 2, 3, 3)
    out = run(probe_graphs.convolution(2, 5, probe_graphs.FLOAT), a=image, b=filters)
    np.testing.assert_array_equal(out[0, :, 1:4, 1:4], 3 * filters[:, 1, ::-1, ::-1])


def test_negation_of_halves():
    values = np.array([1, -2, 0.5], np.float16)
    np.testing.assert_array_equal(run(probe_graphs.negation(3, probe_graphs.HALF), a=values), -values)


@pytest.mark.parametrize("half", [False, True])
def test_ceilings_of_this_processor(half):
    found = measure_ceilings(EngineSettings(device="cpu", threads=2), half=half, sizes=SMALL)
    assert found.flops == max(found.product, found.convolution) > 1e6
    assert found.copy > 1e6
    assert found.precision == "fp32"  # a CPU computes fp16 bundles in float32
    assert "CPUExecutionProvider" in found.how


def test_the_better_of_two_ceilings():
    a = Ceilings(product=3.0, convolution=1.0, copy=5.0, precision="fp32", how="")
    b = Ceilings(product=2.0, convolution=4.0, copy=6.0, precision="fp32", how="")
    assert best(a, b) == Ceilings(product=3.0, convolution=4.0, copy=6.0, precision="fp32", how="")


def test_a_device_that_is_not_there():
    with pytest.raises(EngineUnavailableError, match="device must be"):
        measure_ceilings(EngineSettings(device="abacus"), half=False, sizes=SMALL)
