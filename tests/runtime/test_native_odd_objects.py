"""Every function, called with odd objects in every place: exceptions are fine, a crash is not.

This file is also the program that does so in a process of its own, which the test starts.
"""

from __future__ import annotations

import array
import ctypes
import itertools
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.dlpack import from_dlpack

from runtime import _native
from runtime._native import Tensor

REPOSITORY = Path(__file__).parents[2]


class Odd:
    """Raises from every protocol that a binding may try."""

    def __index__(self) -> int:
        raise RuntimeError("index")

    def __float__(self) -> float:
        raise RuntimeError("float")

    def __len__(self) -> int:
        raise RuntimeError("len")

    def __getitem__(self, _: object) -> object:
        raise RuntimeError("getitem")

    def __dlpack__(self, **_: object) -> object:
        raise RuntimeError("dlpack")

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class Endless:
    """Has a length, but iterates for ever."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> int:
        return index


class Unwritable(type):
    """A class of classes whose names no encoding has."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]  # being odd is the point
        return "\udcff"


class Nameless(metaclass=Unwritable):
    """An object that error texts cannot name."""


class Growing(list[int]):
    """Gives another length at every question."""

    def __len__(self) -> int:
        self.append(1)
        return super().__len__()


def capsule(kind: str) -> Any:
    """A producer whose capsule is consumed, misnamed or not a capsule at all."""
    fresh = torch.zeros(3).__dlpack__()
    if kind == "consumed":
        from_dlpack(fresh)
    if kind == "misnamed":
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        fresh = new(1, b"dltensor_", None)
    given = None if kind == "none" else fresh
    return type(kind, (), {"__dlpack__": lambda self, **_: given, "__dlpack_device__": lambda self: (1, 0)})()


def released() -> memoryview:
    view = memoryview(bytearray(12))
    view.release()
    return view


def odd_objects() -> list[Any]:
    frozen = np.zeros((2, 3), np.float32)
    frozen.flags.writeable = False
    return [
        None, True, -1, 0, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 1.5, float("nan"), float("inf"), -1e308, 1j,
        "", "float32", "\udcff", b"", b"bytes", (), (0,), (1,) * 40, (-1,), (2**62, 2**62), (0, 2**62, 2**62),
        [None], [[]], {}, {"a": 1}, set(), range(3), iter([1]), itertools.count(), object(), type, Tensor, len,
        Odd(), Odd, Nameless(), Endless(), Growing([2]), array.array("f", [1, 2]), array.array("u", "a"),
        (ctypes.c_float * 3)(),
        ((ctypes.c_ubyte * 3) * 2)(), ctypes.c_int(3), ctypes.c_char_p(b"x"), (ctypes.c_void_p * 2)(), bytearray(5),
        released(), memoryview(b"123456")[::-2], memoryview(bytearray(0)), frozen, np.zeros((3, 0), np.float32),
        np.zeros(3, ">f4"), np.zeros(3, "V0"), np.zeros(3, "V7"), np.zeros(3, object), np.zeros(3, "M8[s]"),
        np.zeros(3, "U2"), np.float32(1), np.int64(2), np.zeros(()), np.zeros((2, 3, 3), np.uint8)[::-1, ::-1, ::-1],
        np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (2**30, 2**30, 3), (0, 0, 0)),
        np.broadcast_to(np.float32(0), (2**20, 2**20, 2**20)), np.broadcast_to(np.uint8(7), (2**31, 2**30, 3)),
        np.lib.stride_tricks.as_strided(np.zeros(4, np.float32), (3, 3), (4, 0)), torch.zeros(3), torch.zeros(0, 3),
        torch.zeros(3, requires_grad=True), torch.zeros(2, 3).T, torch.zeros(3, dtype=torch.bfloat16),
        torch.zeros(3, dtype=torch.complex64), torch.zeros(3, device="meta"), torch.eye(2).to_sparse(),
        torch.zeros(3, dtype=torch.bool), capsule("consumed"), capsule("misnamed"), capsule("none"), capsule("twice"),
        torch.zeros(3).__dlpack__(), Tensor(()), Tensor((0,)), Tensor((1,) * 16), Tensor((0, 2**40)),
        Tensor((2, 3), "uint8"), Tensor((1, 3, 2, 2)), Tensor((1, 3, 2, 2), "int64"), Tensor.__new__(Tensor),
        _native.TorchCpuGenerator(1), _native.TorchCpuGenerator.__new__(_native.TorchCpuGenerator),
    ]  # fmt: skip


Calls = list[tuple[Callable[..., object], list[Any]]]


def calls() -> Calls:
    """Functions with arguments that they accept."""
    planes = [Tensor((1, 3, 2, 2)) for _ in range(8)]
    tensor, generator = Tensor((2, 3)), _native.TorchCpuGenerator(0)
    image = np.zeros((2, 2, 3), np.uint8)

    def dlpack(stream: Any, max_version: Any, dl_device: Any, copy: Any) -> object:
        return tensor.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)

    return [
        (Tensor, [(2, 3), "float32", "cpu"]),
        (Tensor.__new__, [Tensor, (2, 3), "float32", "cpu"]),
        (Tensor.__init__, [tensor, (2, 3), "float32", "cpu"]),
        (tensor.fill, [1.0]),
        (Tensor((2,), "uint8").fill, [1.0]),
        (Tensor((2,), "int64").fill, [1.0]),
        (Tensor((2,), "float16").fill, [1.0]),
        (tensor.copy_from, [np.zeros((2, 3), np.float32)]),
        (tensor.slice, [0]),
        (dlpack, [None, (1, 0), (1, 0), False]),
        (Tensor.__dlpack_device__, [tensor]),
        (memoryview, [tensor]),
        (repr, [tensor]),
        (_native.tensor_from, [image]),
        (_native.philox_4x32_10, [(0, 0, 0, 0), (0, 0)]),
        (_native.philox_normal, [planes[0], 0, 0, 0, 0]),
        (_native.TorchCpuGenerator, [0]),
        (generator.normal, [planes[0]]),
        (_native.start, [*planes[:6], 0.5, 0.5]),
        (_native.solver_step, [*planes[:3], planes[3:6], planes[6], 1, 1, 1, 1, 1, [1, 1, 1], 1]),
        (_native.image_to_planar, [image, planes[0], 0]),
        (_native.planar_to_image, [planes[0], Tensor((2, 2, 3), "uint8"), 0]),
        (_native.cast, [planes[0], Tensor((1, 3, 2, 2), "float16")]),
        (_native.crop_to_planar, [image, 0, 0, planes[0], 0]),
        (_native.tile_take, [*planes[:2], 0, 0, 0]),
        (_native.tile_moments, [planes[0], Tensor((3, 2), "float64"), Tensor((2,)), Tensor((2,)), 0]),
        (_native.match_planes, [planes[0], Tensor((3, 3))]),
        (_native.tile_blend, [*planes[:2], Tensor((2,)), Tensor((2,)), 0, 0, 0]),
        (_native.wavelet_fix, planes[:2]),
        (_native.adain_fix, planes[:2]),
        (_native.set_num_threads, [2]),
    ]


def probe(calls: Calls) -> tuple[int, int]:
    """Calls each function with each odd object in each place; returns how many calls and how many exceptions."""
    made = refused = 0
    for function, arguments in calls:
        function(*arguments)
        for place in range(len(arguments)):
            for odd in odd_objects():
                changed: list[list[Any]] = [[*arguments[:place], odd, *arguments[place + 1 :]]]
                if isinstance(arguments[place], (list, tuple)):
                    changed.append([*arguments[:place], [odd, *arguments[place][1:]], *arguments[place + 1 :]])
                for attempt in changed:
                    made += 1
                    try:
                        function(*attempt)
                    except Exception as error:
                        refused += 1
                        if isinstance(error, SystemError) or "bad_cast" in str(error):
                            raise AssertionError((function, attempt)) from error
        for count in range(len(arguments)):
            try:
                function(*arguments[:count])
            except TypeError:
                refused += 1
    return made, refused


def test_odd_objects_do_not_crash() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.runtime.test_native_odd_objects"],
        capture_output=True, text=True, timeout=300, check=False, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr[-2000:]}"
    made, refused = map(int, done.stdout.split())
    assert made > 5000
    assert refused > made // 2


if __name__ == "__main__":
    if "asan" not in os.environ.get("LD_PRELOAD", ""):
        # A mistake must end in a MemoryError here, and not in a machine without memory.
        resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
    print(*probe(calls()))
