"""Tensor: memory, buffer protocol, DLPack, copies. NumPy and torch are the independent consumers and producers."""

from __future__ import annotations

import ctypes
import gc
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.dlpack import from_dlpack

from runtime._native import Tensor, tensor_from

DTYPES = ("float32", "uint8", "uint16", "float16", "int64", "float64")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (1, 3, 5, 7)])
def test_memory_is_zeroed_aligned_and_shared(dtype: str, shape: tuple[int, ...]) -> None:
    tensor = Tensor(shape, dtype)
    expected = np.zeros(shape, dtype)
    assert (tensor.shape, tensor.dtype, tensor.size, tensor.nbytes) == (shape, dtype, expected.size, expected.nbytes)
    assert tensor.ptr % 64 == 0
    assert tensor.device == "cpu"
    for view in (np.asarray(tensor), np.from_dlpack(tensor), from_dlpack(tensor).numpy()):
        assert view.shape == shape
        assert view.dtype == expected.dtype
        assert not view.any()
        assert view.flags.writeable
        if view.size:
            assert view.ctypes.data == tensor.ptr


def test_memoryview() -> None:
    view = memoryview(Tensor((2, 3), "float16"))
    assert (view.shape, view.format, view.strides, view.readonly) == ((2, 3), "e", (6, 2), False)
    assert view.c_contiguous
    assert view.nbytes == 12


def test_writes_through_every_view_land_in_the_tensor() -> None:
    tensor = Tensor((2, 2))
    np.asarray(tensor)[0, 0] = 1
    np.from_dlpack(tensor)[0, 1] = 2
    from_dlpack(tensor)[1, 0] = 3
    memoryview(tensor).cast("B").cast("f")[3] = 4.0
    assert np.asarray(tensor).tolist() == [[1, 2], [3, 4]]


def test_views_keep_the_memory_alive() -> None:
    views: list[Any] = []
    for wrap in (np.asarray, np.from_dlpack, from_dlpack, memoryview):
        tensor = Tensor((1 << 16,))
        tensor.fill(7)
        views.append(wrap(tensor))
        del tensor
    gc.collect()
    Tensor((1 << 16,)).fill(9)
    assert all(float(view[12345]) == 7 for view in views)


def test_dlpack_versions_and_copies() -> None:
    tensor = Tensor((3,))
    assert "dltensor_versioned" in repr(tensor.__dlpack__(max_version=(1, 0)))
    assert '"dltensor"' in repr(tensor.__dlpack__())
    assert '"dltensor"' in repr(tensor.__dlpack__(max_version=(0, 8)))
    assert tensor.__dlpack_device__() == (1, 0)
    copied = np.from_dlpack(tensor, copy=True)
    copied[:] = 1
    assert not np.asarray(tensor).any()
    with pytest.raises(BufferError, match="stream"):
        tensor.__dlpack__(stream=1)  # type: ignore[arg-type]  # the error is what is tested
    with pytest.raises(BufferError, match="dl_device"):
        tensor.__dlpack__(dl_device=(2, 0))


@pytest.mark.parametrize("value", [0.0, 1.5, -2.0, 65504.0, 65519.9, 65520.0, 1e-8, 6e-8, 3.1e-5, 1e10, math.inf])
def test_fill_float16_rounds_as_numpy_does(value: float) -> None:
    tensor = Tensor((1,), "float16")
    tensor.fill(value)
    with np.errstate(over="ignore"):
        assert np.asarray(tensor)[0] == np.float16(value)


def test_fill_float16_exhaustively() -> None:
    tensor = Tensor((1,), "float16")
    view = np.asarray(tensor)
    values = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    between = np.concatenate([values, (values[:-1] + values[1:]) / 2, -values])
    for value in between[::7]:
        tensor.fill(float(value))
        assert view[0].tobytes() == np.float16(value).tobytes()


def test_fill_refuses_what_an_integer_cannot_hold() -> None:
    for dtype, values in {
        "uint8": (256.0, -1.0, 0.5),
        "uint16": (65536.0, -1.0, 0.5),
        "int64": (2.0**63, math.nan, -math.inf),
    }.items():
        for value in values:
            with pytest.raises(ValueError, match=dtype):
                Tensor((2,), dtype).fill(value)
    tensor = Tensor((2,), "int64")
    tensor.fill(-(2.0**63))
    assert np.asarray(tensor).tolist() == [-(2**63)] * 2


def test_slice_shares_memory_and_keeps_it_alive() -> None:
    parent = Tensor((3, 2, 2))
    item, last = parent.slice(1), parent.slice(-1)
    assert item.shape == (2, 2)
    assert item.ptr == parent.ptr + 16
    item.fill(5)
    last.fill(6)
    assert np.asarray(parent)[:, 0, 0].tolist() == [0, 5, 6]
    del parent
    gc.collect()
    assert np.asarray(item.slice(0).slice(1)).tolist() == 5
    with pytest.raises(IndexError, match=r"index 2 .*\[2, 2\]"):
        item.slice(2)
    with pytest.raises(IndexError):
        item.slice(-3)
    with pytest.raises(ValueError, match="no axes"):
        Tensor(()).slice(0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_copies_from_any_strides(dtype: str) -> None:
    whole = (np.random.default_rng(0).random((5, 6, 7)) * 100).astype(dtype)
    views = (
        whole,
        whole[::2, ::-1],
        whole.T,
        whole[1:4, 2:3, ::-3],
        whole[:, :0],
        np.broadcast_to(whole[0], (4, 6, 7)),
    )
    for view in views:
        sources: list[Any] = [view, memoryview(view.data)]
        if min(view.strides) >= 0:
            sources.append(torch.from_numpy(view.copy()).clone())
            sources.append(torch.from_numpy(whole).permute(2, 0, 1) if view is whole else torch.from_numpy(view.copy()))
        for source in sources:
            expected = np.asarray(source)
            copied = tensor_from(source)
            assert copied.dtype == dtype
            np.testing.assert_array_equal(np.asarray(copied), expected)
            target = Tensor(expected.shape, dtype)
            target.copy_from(source)
            np.testing.assert_array_equal(np.asarray(target), expected)


def test_copies_from_objects_of_the_standard_library() -> None:
    assert np.asarray(tensor_from(b"abc")).tolist() == [97, 98, 99]
    assert np.asarray(
        tensor_from(((ctypes.c_float * 3) * 2).from_buffer_copy(np.arange(1, 7, dtype=np.float32).tobytes()))
    ).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert np.asarray(tensor_from(ctypes.c_double(2.5))).tolist() == 2.5
    assert tensor_from(Tensor((2, 3), "int64")).shape == (2, 3)


def test_copy_from_itself_reversed() -> None:
    tensor = tensor_from(np.arange(6, dtype=np.float32))
    tensor.copy_from(np.asarray(tensor)[::-1])
    assert np.asarray(tensor).tolist() == [5, 4, 3, 2, 1, 0]
    tensor.copy_from(tensor)
    assert np.asarray(tensor).tolist() == [5, 4, 3, 2, 1, 0]


def test_copy_from_names_both_sides() -> None:
    tensor = Tensor((2, 3))
    with pytest.raises(ValueError, match=r"float32 \[2, 3\].*float32 \[3, 2\]"):
        tensor.copy_from(np.zeros((3, 2), np.float32))
    with pytest.raises(TypeError, match=r"float32 \[2, 3\].*float64 \[2, 3\]"):
        tensor.copy_from(np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("source", "error", "text"),
    [
        (None, TypeError, "NoneType"),
        (3, TypeError, "int"),
        ([1.0, 2.0], TypeError, "list"),
        (np.zeros(3, ">f4"), TypeError, "'>f'"),
        (np.zeros(3, np.int32), TypeError, "'i'"),
        (np.zeros(3, np.complex64), TypeError, "'Zf'"),
        (np.zeros(3, [("a", "f4"), ("b", "f4")]), TypeError, "'T{"),
        (torch.zeros(3, dtype=torch.bfloat16), TypeError, "16 bits"),
        (torch.zeros(3, requires_grad=True), BufferError, "grad"),
        (torch.zeros(3, device="meta"), (BufferError, RuntimeError, ValueError), "meta|device"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_sources_that_are_refused(source: object, error: type[Exception], text: str) -> None:
    for read in (tensor_from, Tensor((3,)).copy_from):
        with pytest.raises(error, match=text):
            read(source)


class Producer:
    """A DLPack producer that returns what it is given."""

    def __init__(self, capsule: object, device: object = (1, 0)) -> None:
        self.capsule, self.device = capsule, device

    def __dlpack__(self, **_: object) -> object:
        return self.capsule

    def __dlpack_device__(self) -> object:
        return self.device


def test_foreign_dlpack() -> None:
    legacy = tensor_from(Producer(torch.arange(3, dtype=torch.float32).__dlpack__()))
    assert np.asarray(legacy).tolist() == [0, 1, 2]
    capsule = torch.arange(3, dtype=torch.float32).__dlpack__()
    tensor_from(Producer(capsule))
    with pytest.raises(BufferError, match="no fresh DLPack capsule"):
        tensor_from(Producer(capsule))
    with pytest.raises(BufferError, match="no fresh DLPack capsule"):
        tensor_from(Producer("nothing"))
    with pytest.raises(BufferError, match="device type 2"):
        tensor_from(Producer(capsule, (2, 0)))
    for device in (None, (1,), ("cpu", 0), 1):
        with pytest.raises(TypeError, match="two integers"):
            tensor_from(Producer(capsule, device))


def test_a_released_view_is_refused() -> None:
    view = memoryview(bytearray(8))
    view.release()
    with pytest.raises(ValueError, match="released"):
        tensor_from(view)


@pytest.mark.parametrize(
    ("shape", "dtype", "error", "text"),
    [
        ((-1,), "float32", ValueError, r"shape\[0\]: expected 0 to .*-1"),
        ((2**62, 2**62), "float32", MemoryError, "address space"),
        ((0, 2**62, 2**62), "float32", MemoryError, "address space"),
        ((2**60,), "float64", MemoryError, "address space"),
        ((2**50,), "uint8", MemoryError, "no memory for uint8"),
        ((2**64,), "uint8", ValueError, r"shape\[0\]: expected 0 to"),
        ((1,) * 17, "uint8", ValueError, "shape: expected at most 16 .*17"),
        ((1.0,), "uint8", TypeError, r"shape\[0\]: expected an integer, got float"),
        (("a",), "uint8", TypeError, "got str"),
        ("12", "uint8", TypeError, r"shape\[0\]: expected an integer, got str"),
        (None, "uint8", TypeError, "got NoneType"),
        (5, "uint8", TypeError, "got int"),
        ({1: 2}, "uint8", TypeError, "got dict"),
        ((1,), "bfloat16", ValueError, "dtype: expected one of float32"),
        ((1,), None, TypeError, "incompatible"),
    ],
)
def test_shapes_and_dtypes_that_are_refused(shape: Any, dtype: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        Tensor(shape, dtype)


def test_a_tensor_cannot_be_made_hollow_or_twice() -> None:
    tensor = Tensor((3,))
    view = np.asarray(tensor)
    tensor.__init__((1 << 20,))
    assert tensor.shape == (3,)
    view[:] = 4
    assert np.asarray(tensor).tolist() == [4, 4, 4]
    hollow = Tensor.__new__(Tensor)
    with pytest.raises(BufferError, match="never initialised"):
        memoryview(hollow)
    with pytest.warns(RuntimeWarning, match="uninitialized"), pytest.raises(TypeError):
        hollow.slice(0)
    with pytest.raises(TypeError, match="prohibits subclassing"):
        type("Derived", (Tensor,), {})


def test_pillow_reads_a_tensor_as_an_array():
    from PIL import Image

    pixels = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    image = Image.fromarray(tensor_from(pixels))
    assert (image.mode, image.size) == ("RGB", (7, 5))
    np.testing.assert_array_equal(np.asarray(image), pixels)
    for dtype in DTYPES:
        interface = Tensor((2, 3), dtype).__array_interface__
        assert np.dtype(interface["typestr"]) == np.dtype(dtype)
        assert interface["shape"] == (2, 3)
