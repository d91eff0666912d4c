"""Files are written whole or not at all."""

from pathlib import Path

import pytest

from engines.errors import OutputNotWritableError
from engines.files import atomic_path, check_writable, sha256_file


def test_written_under_the_final_name(tmp_path):
    with atomic_path(tmp_path / "a.bin") as path:
        path.write_bytes(b"abc")
        assert not (tmp_path / "a.bin").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    assert sha256_file(tmp_path / "a.bin").startswith("ba7816bf")
    assert (tmp_path / "a.bin").stat().st_mode & 0o400


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file(tmp_path, error):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def write_half():
        with atomic_path(target) as path:
            path.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    assert target.read_bytes() == b"old"


def test_missing_folder_is_named(tmp_path):
    with (
        pytest.raises(OutputNotWritableError, match="No such file or directory; choose a folder"),
        atomic_path(tmp_path / "nowhere" / "a.bin"),
    ):
        pass


def test_writable_is_found_out_beforehand(tmp_path):
    check_writable(tmp_path / "a.bin")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for path, message in (
        (tmp_path / "nowhere" / "a.bin", "there is no folder"),
        (tmp_path / ("n" * 300), "File name too long; choose another name"),
        (tmp_path / "file" / "a.bin", "there is no folder"),
        (Path("/proc/a.bin"), "choose another name"),
    ):
        with pytest.raises(OutputNotWritableError, match=message):
            check_writable(path)


def test_target_that_is_a_folder_is_named(tmp_path):
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(OutputNotWritableError, match="choose another path"), atomic_path(tmp_path / "a.bin") as path:
        path.write_bytes(b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
