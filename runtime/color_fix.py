"""Color fixes. In: the decoded picture and the preprocessed one. Out: the first with the colors of the second."""

from __future__ import annotations

from collections.abc import Callable

from engines.errors import SettingsError
from runtime.kernels import Tensor, adain_fix, wavelet_fix

ColorFix = Callable[[Tensor, Tensor], None]
"""(content, style), both float32 [1, 3, H, W]; changes content in place."""

COLOR_FIXES: dict[str, ColorFix | None] = {"wavelet": wavelet_fix, "adain": adain_fix, "none": None}


def color_fix_named(name: str) -> ColorFix | None:
    """The color fix of that name, None for "none".

    Raises:
        SettingsError: there is none of that name.
    """
    if not isinstance(name, str) or name not in COLOR_FIXES:
        raise SettingsError(f"color_fix must be one of {', '.join(COLOR_FIXES)}, not {name!r}")
    return COLOR_FIXES[name]
