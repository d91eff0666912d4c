"""benchmarks/thin_fatbin.py on fat binaries that are put together here."""

import struct

import pytest

from benchmarks.thin_fatbin import MAGIC, thin


def entry(architecture, code):
    return struct.pack("<HHIQ12xI32x", 2, 1, 64, len(code), architecture) + code


def fat(*entries):
    body = b"".join(entries)
    return MAGIC + struct.pack("<HHQ", 1, 16, len(body)) + body


def test_code_of_other_architectures_becomes_zeros():
    file = b"before" + fat(entry(80, b"a" * 24), entry(90, b"b" * 16)) + MAGIC + b"text" * 9 + fat(entry(90, b"c" * 8))
    data = bytearray(file)
    assert thin(data, 90) == (2, 24)
    assert bytes(data) == file.replace(b"a" * 24, bytes(24))


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (fat(entry(80, b"a" * 8)), "none of 1 fat"),
        (b"", "none of 0 fat"),
        (fat(entry(90, b"a" * 8)[:-4]), "known form"),
    ],
)
def test_what_is_not_understood_stays(file, words):
    data = bytearray(file)
    with pytest.raises(ValueError, match=words):
        thin(data, 90)
    assert bytes(data) == file
