"""Ranges of shapes that an engine takes. In: text like "64x64", or a bundle's axes. Out: `Profile`s, and which of them
takes a picture.

Sizes are those of the latent: (B, H, W), where a pixel is 8x8 of the result's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engines.errors import SettingsError
from engines.graphs import LATENT_MULTIPLE, UPSCALE, VAE_FACTOR, AxisRange

Size = tuple[int, int, int]
"""(B, H, W) of the latent."""
_LARGEST = 4096
_NUMBERS = re.compile(r"(?:(\d{1,4})x)?(\d{1,4})x(\d{1,4})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Smallest, optimal and largest size; all three the same: a static shape, which is fastest.

    Raises:
        SettingsError: a side is no multiple of 8, or the three are not in order.
    """

    min: Size
    opt: Size
    max: Size

    def __post_init__(self) -> None:
        sides = [side for size in (self.min, self.opt, self.max) for side in size[1:]]
        ordered = all(1 <= a <= b <= c <= _LARGEST for a, b, c in zip(self.min, self.opt, self.max, strict=True))
        if not ordered or any(side % LATENT_MULTIPLE for side in sides):
            raise SettingsError(
                f"profile {self} must name batch, height and width of the latent, the sides multiples of "
                f"{LATENT_MULTIPLE} up to {_LARGEST}, and smallest, optimal and largest in this order; a 512x512 "
                "result is 64x64"
            )

    @property
    def static(self) -> bool:
        """Whether it takes one size alone."""
        return self.min == self.max

    def covers(self, size: Size) -> bool:
        """Whether a picture of that size can be padded to one that it takes."""
        return all(asked <= most for asked, most in zip(size, self.max, strict=True))

    def padded(self, size: Size) -> Size:
        """The smallest size that it takes and `size` fits in."""
        batch, height, width = (max(asked, least) for asked, least in zip(size, self.min, strict=True))
        return batch, height, width

    def __str__(self) -> str:
        sizes = (self.min,) if self.static else (self.min, self.opt, self.max)
        return ":".join("x".join(map(str, size)) for size in sizes)


def parse_profile(text: str) -> Profile:
    """From "64x64" (batch 1), "8x64x64", or smallest, optimal and largest as "1x32x32:1x64x64:4x96x96".

    Raises:
        SettingsError: neither one nor three sizes, or see `Profile`.
    """
    found = [_NUMBERS.fullmatch(part) for part in text.split(":")]
    if len(found) not in (1, 3) or None in found:
        raise SettingsError(
            f"{text[:60]!r} is no profile, expected HxW, BxHxW or MIN:OPT:MAX in pixels of the latent, 1/8 of the "
            "result's; a 512x512 result is 64x64"
        )
    sizes = [(int(match[1] or 1), int(match[2]), int(match[3])) for match in found if match]
    return Profile(min=sizes[0], opt=sizes[len(sizes) // 2], max=sizes[-1])


def profile_of(axes: Mapping[str, AxisRange]) -> Profile:
    """All that a bundle's graphs take."""
    batch, height, width = (axes[axis] for axis in "BHW")
    return Profile(
        min=(batch.min, height.min, width.min),
        opt=(batch.opt, height.opt, width.opt),
        max=(batch.max, height.max, width.max),
    )


def check_profiles(profiles: Iterable[Profile], axes: Mapping[str, AxisRange]) -> None:
    """Whether a bundle's graphs take every size of these profiles.

    Raises:
        SettingsError: one goes beyond the axes.
    """
    whole = profile_of(axes)
    for profile in profiles:
        inside = all(least <= size for least, size in zip(whole.min, profile.min, strict=True))
        if not inside or not whole.covers(profile.max):
            raise SettingsError(
                f"profile {profile} is beyond what the bundle's graphs take, {whole}; name another --profile, or "
                "export the bundle again for that size"
            )


def axis_sizes(size: Size) -> dict[str, int]:
    """Every axis of the graph table by name, for `engines.graphs.resolve_shape`."""
    batch, height, width = size
    low = VAE_FACTOR // UPSCALE
    return {"B": batch, "H": height, "W": width, "h": low * height, "w": low * width}


def choose_profile(profiles: Iterable[Profile], size: Size) -> int | None:
    """The index of the profile that takes a picture of that size with the least padding, the earliest of equals; None:
    it is too large for each.
    """
    fitting = [(_pixels(profile.padded(size)), i) for i, profile in enumerate(profiles) if profile.covers(size)]
    return min(fitting)[1] if fitting else None


def _pixels(size: Size) -> int:
    batch, height, width = size
    return batch * height * width
