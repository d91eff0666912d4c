"""Every intermediate of one picture, as a safetensors file. In: tensors by name. Out: one file.

A name that is recorded several times is stacked on a new first axis, as in the golden files.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

from engines.errors import SettingsError
from engines.files import atomic_path
from runtime.kernels import Tensor

_STACKED = ("eps", "pred_x0", "latents")


class Trace:
    """Copies of the intermediates of one run, all float32."""

    def __init__(self) -> None:
        self._tensors: dict[str, list[tuple[tuple[int, ...], bytes]]] = {}

    def record(self, name: str, tensor: Tensor) -> None:
        """Copies the tensor under its name: once, or once a step for eps, pred_x0 and latents."""
        copies = self._tensors.setdefault(name, [])
        if copies and name not in _STACKED:
            raise SettingsError(f"this Trace already holds {name} of another picture; make a new one for each")
        copies.append((tensor.shape, bytes(memoryview(tensor))))

    def clear(self) -> None:
        """Forgets every tensor: the picture is made again."""
        self._tensors.clear()

    def write(self, path: Path) -> None:
        """Writes the file, whole or not at all.

        Raises:
            OutputNotWritableError: the folder is missing or not writable.
        """
        header: dict[str, object] = {}
        offset = 0
        for name, copies in self._tensors.items():
            shape = list(copies[0][0])
            size = sum(len(data) for _, data in copies)
            header[name] = {
                "dtype": "F32",
                "shape": [len(copies), *shape] if name in _STACKED else shape,
                "data_offsets": [offset, offset + size],
            }
            offset += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for copies in self._tensors.values():
                for _, data in copies:
                    file.write(data)
