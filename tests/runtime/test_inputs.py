"""Which files are meant by folders, patterns and lists, and the names of their outputs."""

import os
from pathlib import Path

import pytest

from engines.errors import ImageNotFoundError, SettingsError
from runtime.inputs import Input, expand, listed, pictures_in
from runtime.names import check_collisions, parse_template


@pytest.fixture
def album(tmp_path):
    folder = tmp_path / "album"
    names = ("10.png", "2.JPG", "B.webp", "a.tif", "notes.txt", ".hidden.png", "deep/1.png", ".git/x.png", "out/9.png")
    for name in (*names, "deep/er/3.png", "folder.png/4.png"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def names(found, folder):
    return [one.path.relative_to(folder).as_posix() for one in found.pictures]


def test_a_folder_in_natural_order(album):
    found = pictures_in(album)
    assert names(found, album) == ["2.JPG", "10.png", "a.tif", "B.webp"]
    assert found.paths == tuple(album / name for name in ("2.JPG", "10.png", "a.tif", "B.webp"))
    assert found.passed_over == 2
    assert {one.parent for one in found.pictures} == {Path()}


def test_folders_within_it(album):
    found = pictures_in(str(album), recursive=True, leave_out=album / "out")
    assert names(found, album)[4:] == ["deep/1.png", "deep/er/3.png", "folder.png/4.png"]
    assert [one.parent.as_posix() for one in found.pictures][4:] == ["deep", "deep/er", "folder.png"]


def test_no_such_folder(tmp_path):
    with pytest.raises(ImageNotFoundError, match=r"none cannot be read \(No such file"):
        pictures_in(tmp_path / "none")


def test_links_to_folders_are_not_followed(album):
    (album / "deep" / "loop").symlink_to(album)
    assert len(pictures_in(album, recursive=True).pictures) == 8


def test_patterns(album):
    assert names(expand([f"{album}/*.[pJ]*"]), album) == ["2.JPG", "10.png"]
    assert names(expand([f"{album}/**/[13].png"]), album) == ["deep/1.png", "deep/er/3.png"]
    with pytest.raises(ImageNotFoundError, match=r"no file fits the pattern .*\*\.bmp; check the path, and quote"):
        expand([f"{album}/*.bmp"])


def test_files_keep_their_order_and_one_that_is_missing_its_error(album):
    (album / "[odd].png").touch()
    given = [f"{album}/{name}" for name in ("B.webp", "none.png", "[odd].png", "2.JPG")]
    assert [str(one.path) for one in expand(given).pictures] == given
    long = 5000 * "n"
    assert expand([long]).pictures == (Input(path=Path(long)),)


def test_lists():
    assert listed("a.png\n\n b c.png\r\n") == ["a.png", " b c.png"]
    assert listed("a\nb.png\0c.png\0") == ["a\nb.png", "c.png"]


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_a_folder_that_may_not_be_read(album):
    (album / "deep").chmod(0)
    try:
        with pytest.raises(ImageNotFoundError, match="cannot be read"):
            pictures_in(album, recursive=True)
    finally:
        (album / "deep").chmod(0o700)


VALUES = {"index": 7, "width": 80, "height": 48, "scale": 4, "seed": 42, "steps": 5, "ext": "png"}
GIVEN = Input(path=Path("in/a b/photo.one.jpg"), parent=Path("a b"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{stem}.{ext}", "a b/photo.one.png"),
        ("{stem}_x{scale}_{width}x{height}.{ext}", "a b/photo.one_x4_80x48.png"),
        ("{index:04}-{seed}-{steps}.webp", "a b/0007-42-5.webp"),
        ("{name}", "a b/photo.one.jpg"),
        ("flat/{parent}/{stem}.{ext}", "flat/a b/photo.one.png"),
        ("{{{stem}}}.{ext}", "a b/{photo.one}.png"),
    ],
)
def test_templates(text, expected):
    assert parse_template(text).path(GIVEN, VALUES).as_posix() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{stem", "is no template"),
        ("stem}", "is no template"),
        ("{title}.png", r"has the unknown field \{title\}; known are stem, name, parent"),
        ("{}.png", r"unknown field \{\}"),
        ("{0}.png", r"unknown field \{0\}"),
        ("{stem.__class__}.png", "unknown field"),
        ("{stem[0]}.png", "unknown field"),
        ("{index:{width}}.png", "a field within a format"),
        ("{stem:d}.png", "cannot be filled in"),
        ("{index:99999999999999999999}.png", "cannot be filled in"),
        ("../{stem}.png", "leads out of the output folder"),
        ("a/../../{stem}.png", "leads out of the output folder"),
        ("/tmp/{stem}.png", "leads out of the output folder"),
        ("..\\\\{stem}.png", "leads out of the output folder"),
        ("", "names no file"),
    ],
)
def test_templates_that_are_none(text, message):
    with pytest.raises(SettingsError, match=message):
        parse_template(text).path(GIVEN, VALUES)


def test_collisions(tmp_path):
    inputs = [tmp_path / "a.jpg", tmp_path / "a.png"]
    (tmp_path / "link").symlink_to(tmp_path)
    check_collisions([tmp_path / "x", tmp_path / "y"], inputs)
    with pytest.raises(SettingsError, match=r"two results would both be written to .*, of .*a\.jpg and .*a\.png; give"):
        check_collisions([tmp_path / "x", tmp_path / "link" / "x"], inputs)
    with pytest.raises(SettingsError, match=r"the result of .*a\.jpg would replace the input .*a\.png"):
        check_collisions([tmp_path / "link" / "a.png", tmp_path / "y"], inputs)
