"""Every row of the table of odd pictures, from the file through the network to the saved file."""

import io
import logging

import numpy as np
import pytest
import pyvips
from PIL import Image

import runtime
from runtime.images import load_picture
from tests.paths import REPOSITORY
from tests.runtime.odd_images import BAD, CASES, CHANNELS, ERRORS, GOOD
from tests.tiny import write_tiny_bundle

MODES = {("grey", 8): "L", ("grey", 16): "I;16", ("grey and alpha", 8): "LA", ("RGB", 8): "RGB", ("RGBA", 8): "RGBA"}


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory):
    """A decoder of zeros: with the color fix, results are the input's low frequencies."""
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("bundle"), output_scales={"decode": 0.0})
    with runtime.Upscaler(bundle) as opened:
        yield opened


def made(case, folder):
    """The file at its path."""
    path = folder / f"picture{case.suffix}"
    if case.makes_path:
        case.make(path)
    else:
        path.write_bytes(case.make())
    return path


def read_back(path, bits, channels):
    """The file's samples and metadata, by the library that did not write them where two can read it."""
    if bits == 16:
        image = pyvips.Image.new_from_file(str(path))
        return np.asarray(image.numpy()).reshape(image.height, image.width, -1)
    with Image.open(path) as image:
        return np.asarray(image).reshape(image.height, image.width, -1)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_good(case, upscaler, tmp_path, caplog):
    path = made(case, tmp_path)
    expected = np.asarray(case.expected)
    height, width, channels = expected.shape
    top = 2**case.bits - 1

    picture = load_picture(path)
    decoded = np.asarray(picture.pixels)[:, :, :3]
    if picture.alpha is not None:
        alpha = np.asarray(picture.alpha)[:, :, None]
        decoded = np.dstack([decoded, alpha])
    assert (decoded.dtype, decoded.shape) == (expected.dtype, expected.shape)
    assert np.abs(decoded.astype(int) - expected).max() <= case.within

    with caplog.at_level(logging.WARNING, "dossr"):
        result = upscaler(path, steps=1)
    assert channels == CHANNELS[case.kind]
    pixels = np.asarray(result.pixels)
    assert (str(pixels.dtype), pixels.shape) == (f"uint{case.bits}", (4 * height, 4 * width, channels))
    assert isinstance(result.image, Image.Image)
    assert result.image.mode == MODES.get((case.kind, case.bits), MODES.get((case.kind, 8)))
    assert np.abs(pixels.mean(axis=(0, 1)) - decoded.mean(axis=(0, 1))).max() < 0.05 * top
    if case.bits == 16 and min(width, height) > 9:
        assert len(np.unique(pixels[:, :, 0] % 257)) > 60, "the result has only 8 bits"

    assert len(result.notices) == bool(case.notice)
    assert all(case.notice in notice and str(path) in notice for notice in result.notices)
    assert [r.getMessage() for r in caplog.records if r.name == "dossr"] == list(result.notices)

    for suffix in (".png", ".tif"):
        saved = tmp_path / f"saved{suffix}"
        result.save(saved)
        np.testing.assert_array_equal(read_back(saved, case.bits, channels), pixels)
        if suffix == ".tif" and case.bits == 16 and channels == 2:
            continue  # Pillow does not open it
        with Image.open(saved) as image:
            assert image.info.get("icc_profile") == case.profile
            tags = image.getexif()
            assert tags.get(0x010F) == case.maker
            assert tags.get(0x0112, 1) == 1


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_bad(case, upscaler, tmp_path):
    path = made(case, tmp_path)
    with pytest.raises(ERRORS[case.error]) as caught:
        upscaler(path, steps=1)
    assert type(caught.value).__name__ == case.error
    assert case.text in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "case",
    [case for case in CASES if not case.makes_path],
    ids=lambda case: case.name,
)
def test_bytes_and_streams_are_as_files(case):
    data = case.make()
    for source in (data, io.BytesIO(data)):
        if case.error:
            with pytest.raises(ERRORS[case.error]):
                load_picture(source)
        else:
            picture = load_picture(source)
            assert (picture.bit_depth, len(picture.notices)) == (case.bits, bool(case.notice))


def test_the_document_has_these_rows():
    lines = (REPOSITORY / "docs" / "images.md").read_text().splitlines()
    table = lines[lines.index("| picture | what becomes of it |") + 2 :]
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table[: table.index("")]]
    assert rows == list(dict.fromkeys((case.row or case.name, case.becomes) for case in CASES))
    assert len({case.name for case in CASES}) == len(CASES) >= 30
