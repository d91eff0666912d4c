"""Empties a library of the code for other GPUs, so that it compresses to a fraction. In: a library with CUDA code.

    python benchmarks/thin_fatbin.py libonnxruntime_providers_cuda.so --architecture 90

Of every fat binary in the file, the code of entries for other architectures becomes zeros; sizes and places stay, and
so does every other byte. On a GPU of that architecture the library works as before, on others not at all: it is for
carrying a library to a machine whose GPU is known.

A fat binary is a header (magic, uint16 version, uint16 its size, uint64 size of what follows) and entries, each a
header (uint16 kind, uint16 version, uint32 its size, uint64 size of its code, then at byte 28 uint32 architecture) and
its code. Read off ONNX Runtime 1.31's library, whose 609 fat binaries are parsed to their last byte.
"""

import argparse
import struct
from pathlib import Path

MAGIC = bytes.fromhex("50ed55ba")
_HEADER, _ENTRY = struct.Struct("<4sHHQ"), struct.Struct("<HHIQ12xI")


def thin(data: bytearray, architecture: int) -> tuple[int, int]:
    """Empties the entries for other architectures, in place.

    Returns:
        How many fat binaries there are, and how many bytes became zeros.

    Raises:
        ValueError: a fat binary's entries do not fill it, or none has code for the architecture: nothing is changed.
    """
    places = []
    found, kept, at = 0, 0, data.find(MAGIC)
    while at >= 0:
        _, version, size, length = _HEADER.unpack_from(data, at)
        entry, end = at + size, at + size + length
        if version != 1 or size < _HEADER.size or end > len(data):  # four bytes of something else
            at = data.find(MAGIC, at + 1)
            continue
        while entry < end:
            _, _, head, code, made_for = _ENTRY.unpack_from(data, entry)
            if made_for == architecture:
                kept += 1
            else:
                places.append((entry + head, code))
            entry += head + code
        if entry != end:
            raise ValueError(
                f"the fat binary at {at} is not of the known form: its entries end at {entry}, not at {end}"
            )
        found += 1
        at = data.find(MAGIC, end)
    if not kept:
        raise ValueError(f"none of {found} fat binaries has code for sm_{architecture}")
    for start, length in places:
        data[start : start + length] = bytes(length)
    return found, sum(length for _, length in places)


def main() -> None:
    p = argparse.ArgumentParser(description="Empties a library of the machine code of other GPUs.")
    p.add_argument("library", type=Path)
    p.add_argument("--architecture", type=int, required=True, help="like 90")
    args = p.parse_args()
    data = bytearray(args.library.read_bytes())
    found, emptied = thin(data, args.architecture)
    args.library.write_bytes(data)
    print(f"{args.library.name}: {found} fat binaries, {emptied >> 20} of {len(data) >> 20} MiB are zeros now")


if __name__ == "__main__":
    main()
