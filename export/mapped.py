"""Weights without copies. In: a file, and where each tensor stands in it. Out: tensors on one read-only mapping.

The pages that were read are the kernel's to take back, and `release` gives them back at once: what counts against the
process's memory is what is being read, not the checkpoint.
"""

from __future__ import annotations

import json
import mmap
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from export.quiet import quietly

_SAFETENSORS_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a tensor's storage stands in the file, and how the tensor lies in it."""

    dtype: torch.dtype
    offset: int
    nbytes: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    first: int = 0
    """Of the tensor's elements in the storage."""


class MappedFile:
    """A file mapped to be read; tensors keep the mapping alive."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._mapping)

    def tensor(self, place: Place) -> Tensor:
        """The tensor at that place, without a copy; never to be written to.

        Raises:
            OSError: the file ends before it.
        """
        if place.offset + place.nbytes > len(self._mapping):
            raise OSError(f"the file ends at byte {len(self._mapping)}, before its weights do")
        size = place.dtype.itemsize
        if place.nbytes < size:
            return torch.empty(place.shape, dtype=place.dtype)
        with quietly():  # torch warns that the memory is read-only, which is the point
            if place.offset % size:
                copied = bytearray(self._mapping[place.offset : place.offset + place.nbytes])
                storage = torch.frombuffer(copied, dtype=place.dtype)
            else:
                storage = torch.frombuffer(
                    self._mapping, dtype=place.dtype, count=place.nbytes // size, offset=place.offset
                )
        return storage.as_strided(place.shape, place.strides, place.first)

    def release(self) -> None:
        """Takes the pages that were read out of this process; tensors stay valid and are read again when used."""
        self._mapping.madvise(mmap.MADV_DONTNEED)


def torch_places(path: Path, tensors: dict[str, Tensor]) -> dict[str, Place] | None:
    """The places of a .ckpt's tensors, from what `torch.load(map_location="meta")` gave; None where the file is
    compressed or torch does not tell, so that it has to be read the ordinary way.
    """
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            return None
    places = {}
    for key, tensor in tensors.items():
        storage = tensor.untyped_storage()
        offset = getattr(storage, "_checkpoint_offset", None)
        if not isinstance(offset, int) or tensor.layout is not torch.strided:
            return None
        places[key] = Place(
            dtype=tensor.dtype,
            offset=offset,
            nbytes=storage.nbytes(),
            shape=tuple(tensor.shape),
            strides=tensor.stride(),
            first=int(tensor.storage_offset()),
        )
    return places


def safetensors_places(path: Path) -> dict[str, Place] | None:
    """The places of a .safetensors file's tensors, whose header `safetensors` has already checked; None where it holds
    types that torch has no plain tensors for.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    places = {}
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        if entry["dtype"] not in _SAFETENSORS_TYPES:
            return None
        begin, end = entry["data_offsets"]
        shape = tuple(entry["shape"])
        places[key] = Place(
            dtype=_SAFETENSORS_TYPES[entry["dtype"]],
            offset=8 + length + begin,
            nbytes=end - begin,
            shape=shape,
            strides=tuple(torch.empty(shape, device="meta").stride()),
        )
    return places
