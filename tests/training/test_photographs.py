"""The tables of photographs: what they hold, what they never hold, and their errors."""

import dataclasses

import numpy as np
import pytest

from engines.errors import DossrError, PackageMissingError
from training import photographs
from training.photographs import EVALUATION, TRAINING, PhotographMissingError, load, training_photographs

NO_CLEAR_LICENCE = {"motorcycle", "motorcycle_left", "motorcycle_right", "moon", "page", "rocket"}
HELD_OUT = {"chelsea", "cat", "coffee", "china"}
GREY = {"brick", "grass", "gravel", "camera", "cell", "coins", "text", "clock_motion"}


def stems(table):
    return {p.name for p in table} | {p.file.rsplit("/", 1)[-1].split(".")[0] for p in table}


def test_sets_are_disjoint():
    assert not stems(TRAINING) & stems(EVALUATION)
    assert not stems(training_photographs()) & HELD_OUT
    assert stems(EVALUATION) == {"chelsea", "coffee", "china"}


def test_pictures_without_a_clear_licence_are_in_neither():
    assert not (stems(TRAINING) | stems(EVALUATION)) & NO_CLEAR_LICENCE
    assert all(p.licence and p.source for p in TRAINING + EVALUATION)


def test_training_photographs_drop_an_evaluation_row(monkeypatch):
    renamed = dataclasses.replace(EVALUATION[0], name="another name")
    monkeypatch.setattr(photographs, "TRAINING", (*TRAINING, EVALUATION[1], renamed))
    assert training_photographs() == TRAINING


@pytest.mark.parametrize("photograph", TRAINING + EVALUATION, ids=lambda p: p.name)
def test_load(photograph):
    pytest.importorskip(photograph.package.split(".")[0])
    pixels = load(photograph)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert min(pixels.shape[:2]) >= 172
    assert pixels.std() > 5
    if photograph.name in GREY:
        assert (pixels[..., :1] == pixels).all()


def test_missing_package(monkeypatch):
    monkeypatch.setattr(photographs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PackageMissingError, match=r"'skimage'.*pip install scikit-image"):
        load(TRAINING[0])


def test_missing_file(monkeypatch, tmp_path):
    monkeypatch.setattr(photographs, "package_folder", lambda package: tmp_path)
    with pytest.raises(PhotographMissingError, match=r"'astronaut'.*no file.*--force-reinstall scikit-image"):
        load(TRAINING[0])
    assert issubclass(PhotographMissingError, DossrError)


def test_unreadable_file(monkeypatch, tmp_path):
    monkeypatch.setattr(photographs, "package_folder", lambda package: tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/astronaut.png").write_bytes(b"no picture")
    with pytest.raises(PhotographMissingError, match="not a readable picture"):
        load(TRAINING[0])
