"""The table of graphs and its symbolic dimensions."""

import pytest

from engines import graphs
from engines.errors import BundleSchemaError


@pytest.mark.parametrize(
    ("dim", "parsed"), [("B", ("B", 1, 1)), ("8*H", ("H", 8, 1)), ("W/4", ("W", 1, 4)), ("4*h", ("h", 4, 1))]
)
def test_dimensions(dim, parsed):
    assert graphs.parse_dim(dim) == parsed


@pytest.mark.parametrize("dim", ["", "8*", "*H", "H/", "H/x", "x*H", "0*H", "H+1", "-1"])
def test_dimensions_that_are_none(dim):
    with pytest.raises(BundleSchemaError, match="a dimension is an int or like"):
        graphs.parse_dim(dim)


def test_shapes_resolve():
    sizes = {"B": 2, "H": 16, "W": 24}
    assert graphs.resolve_shape(graphs.DECODE.outputs[0].shape, sizes) == (2, 3, 128, 192)
    assert graphs.DECODE.axes == ("B", "H", "W")


def test_static_axes_are_pinned():
    axes = graphs.axis_ranges((64, 48))
    assert axes["B"].max == 1
    assert (axes["H"].min, axes["H"].max, axes["W"].opt) == (64, 64, 48)
    assert (axes["h"].min, axes["w"].max) == (128, 96)


def test_split_passes_every_residual():
    controlnet, unet = graphs.split_denoise([(320, 1), (320, 2), (1280, 8)])
    assert controlnet.outputs == unet.inputs[2:]
    assert controlnet.outputs[1].shape == ("B", 320, "H/2", "W/2")
    assert graphs.resolve_shape(controlnet.outputs[2].shape, {"B": 1, "H": 64, "W": 32}) == (1, 1280, 8, 4)
    assert unet.outputs == graphs.DENOISE.outputs
