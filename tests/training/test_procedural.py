"""Procedural pictures: form, determinism and variety, kind by kind."""

import numpy as np
import pytest

from engines.errors import PackageMissingError, SettingsError
from training import lettering, photographs, textures
from training.procedural import KINDS, draw

pytest.importorskip("matplotlib")

PAINTERS = {painter.__name__: painter for _, painter in (*KINDS, *textures.TEXTURES, *textures.GROUNDS)}
MAY_BE_CONSTANT = {"plain"}


@pytest.mark.parametrize("size", [32, 47, 96, 256])
@pytest.mark.parametrize("name", PAINTERS)
def test_every_kind_at_every_size(name, size):
    for seed in range(3):
        picture = PAINTERS[name](np.random.default_rng(seed), size)
        assert picture.shape == (size, size, 3)
        assert picture.dtype == np.uint8
        if name in MAY_BE_CONSTANT:
            continue
        assert picture.std(axis=(0, 1)).max() > 0, f"{name} with seed {seed} at {size} is one flat color"


@pytest.mark.parametrize("name", PAINTERS)
def test_a_seed_is_a_picture(name):
    first, again, other = (PAINTERS[name](np.random.default_rng(seed), 64) for seed in (5, 5, 6))
    assert (first == again).all()
    assert (first != other).any()


def test_draw():
    pictures = [draw(np.random.default_rng(seed), 48) for seed in range(40)]
    assert all(p.shape == (48, 48, 3) and p.dtype == np.uint8 for p in pictures)
    assert (pictures[7] == draw(np.random.default_rng(7), 48)).all()
    assert len({p.tobytes() for p in pictures}) == len(pictures)
    assert sum(p.std() > 12 for p in pictures) > 30, "most pictures should have contrast"


def test_draws_of_one_generator_differ():
    rng = np.random.default_rng(0)
    assert len({draw(rng, 32).tobytes() for _ in range(20)}) == 20


def test_too_small():
    with pytest.raises(SettingsError, match=r"15 pixels a side.*at least 16"):
        draw(np.random.default_rng(0), 15)
    assert draw(np.random.default_rng(0), 16).shape == (16, 16, 3)


@pytest.mark.parametrize("name", lettering.FONTS)
def test_every_font_draws_letters_and_digits(name):
    face = lettering.font(name, 20)
    shapes = {bytes(face.getmask(sign)) for sign in "aBg05"}
    assert len(shapes) == 5


def test_fonts_without_matplotlib(monkeypatch):
    monkeypatch.setattr(photographs.importlib.util, "find_spec", lambda name: None)
    lettering.font.cache_clear()
    with pytest.raises(PackageMissingError, match="pip install matplotlib"):
        lettering.font("DejaVuSans", 12)
