import pytest

from engines.errors import SettingsError
from engines.graphs import PREPROCESS, axis_ranges, resolve_shape
from engines.profiles import Profile, axis_sizes, choose_profile, parse_profile, profile_of

STATIC = Profile(min=(1, 64, 64), opt=(1, 64, 64), max=(1, 64, 64))
DYNAMIC = Profile(min=(1, 32, 32), opt=(1, 64, 64), max=(4, 96, 96))


@pytest.mark.parametrize(
    ("text", "profile"),
    [
        ("64x64", STATIC),
        ("1x64x64", STATIC),
        ("8x64x96", Profile(min=(8, 64, 96), opt=(8, 64, 96), max=(8, 64, 96))),
        ("32x32:64x64:4x96x96", DYNAMIC),
    ],
)
def test_text_and_back(text, profile):
    assert parse_profile(text) == profile
    assert parse_profile(str(profile)) == profile


@pytest.mark.parametrize("text", ["", "64", "64x64x64x64", "64x64:96x96", "ax64", "64x64:64x64:64x64:64x64", "-8x8"])
def test_what_is_no_profile_is_named(text):
    with pytest.raises(SettingsError, match=r"is no profile, expected HxW, BxHxW or MIN:OPT:MAX .* a 512x512 result"):
        parse_profile(text)


@pytest.mark.parametrize("text", ["60x64", "0x64x64", "64x0", "96x96:64x64:96x96", "64x64:96x96:64x96", "8x4104"])
def test_sizes_out_of_range_or_order_are_named(text):
    with pytest.raises(SettingsError, match="sides multiples of 8 up to 4096, and smallest, optimal and largest"):
        parse_profile(text)


def test_static():
    assert STATIC.static
    assert not DYNAMIC.static


def test_of_a_bundle():
    assert profile_of(axis_ranges((64, 96))) == Profile(min=(1, 64, 96), opt=(1, 64, 96), max=(1, 64, 96))
    assert str(profile_of(axis_ranges())) == "1x8x8:1x64x64:8x4096x4096"


@pytest.mark.parametrize(
    ("size", "chosen", "padded"),
    [
        ((1, 64, 64), 0, (1, 64, 64)),
        ((1, 40, 40), 1, (1, 40, 40)),
        ((1, 16, 40), 1, (1, 32, 40)),
        ((2, 64, 64), 1, (2, 64, 64)),
        ((5, 64, 64), 2, (8, 64, 64)),
        ((1, 96, 104), None, None),
        ((9, 8, 8), None, None),
    ],
)
def test_the_profile_with_the_least_padding_is_chosen(size, chosen, padded):
    profiles = (STATIC, DYNAMIC, parse_profile("8x64x64"))
    assert choose_profile(profiles, size) == chosen
    if chosen is not None:
        assert profiles[chosen].padded(size) == padded


def test_every_axis_of_the_graph_table():
    assert resolve_shape(PREPROCESS.outputs[0].shape, axis_sizes((2, 8, 16))) == (2, 3, 64, 128)
    assert axis_sizes((2, 8, 16)) == {"B": 2, "H": 8, "W": 16, "h": 16, "w": 32}
