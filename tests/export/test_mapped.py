"""Weights on a file's own pages: the same values as torch's and safetensors' own readers give."""

import json
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from export.checkpoint import open_checkpoint
from export.errors import CheckpointCorruptError
from export.mapped import MappedFile, Place

SHARED = torch.arange(24, dtype=torch.float32).reshape(4, 6)
TENSORS = {
    "a.float": torch.linspace(-3, 3, 77).reshape(7, 11),
    "a.half": torch.linspace(-3, 3, 10).half(),
    "a.bfloat": torch.linspace(-3, 3, 10).bfloat16(),
    "a.whole": torch.arange(5),
    "a.empty": torch.empty(0, 3),
    "a.number": torch.tensor(7.5),
}
VIEWS = {"a.rows": SHARED[1:3], "a.columns": SHARED[:, 2:4], "a.transposed": SHARED.T}


def same(checkpoint, tensors):
    for key, tensor in tensors.items():
        read = checkpoint.tensor(key)
        assert read.dtype == torch.float32
        assert torch.equal(read, tensor.float()), key
        checkpoint.release()
        assert torch.equal(read, tensor.float()), key


def test_ckpt(tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": TENSORS | VIEWS}, path)
    path.chmod(0o444)
    same(open_checkpoint(path), TENSORS | VIEWS)


def test_safetensors(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path, metadata={"format": "pt"})
    same(open_checkpoint(path), TENSORS)


def test_safetensors_at_odd_offsets(tmp_path):
    values = torch.linspace(0, 1, 9)
    header = json.dumps({"a.w": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode()
    header += b" " * (-len(header) % 4 + 1)
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + values.numpy().tobytes())
    same(open_checkpoint(path), {"a.w": values})


def test_compressed_ckpt_is_read_the_ordinary_way(tmp_path):
    """Somebody's archiver packed it again; its records are no weights then."""
    plain, packed = tmp_path / "plain.ckpt", tmp_path / "packed.ckpt"
    torch.save({"state_dict": TENSORS}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    same(open_checkpoint(packed), TENSORS)


def test_place_beyond_the_end(tmp_path):
    path = tmp_path / "short"
    path.write_bytes(bytes(100))
    place = Place(dtype=torch.float32, offset=64, nbytes=40, shape=(10,), strides=(1,))
    with pytest.raises(OSError, match="ends at byte 100"):
        MappedFile(path).tensor(place)


@pytest.mark.parametrize("name", ["model.ckpt", "model.safetensors"])
def test_cut_file(tmp_path, name):
    path = tmp_path / name
    if name.endswith("ckpt"):
        torch.save({"state_dict": TENSORS}, path)
    else:
        save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CheckpointCorruptError, match="truncated or damaged"):
        open_checkpoint(path)
