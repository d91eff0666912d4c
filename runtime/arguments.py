"""An Upscaler's arguments, checked. In: what a caller gave. Out: the value in its one form, or a SettingsError."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engines.errors import SettingsError
from engines.memory import parse_size
from runtime.images import load_picture
from runtime.images.picture import check_size

MAX_THREADS = 1024


def thread_count(threads: int | None) -> int | None:
    """1 to `MAX_THREADS`, or None."""
    if threads is not None and (type(threads) is not int or not 1 <= threads <= MAX_THREADS):
        raise SettingsError(f"threads must be a whole number in 1..{MAX_THREADS}, not {threads!r}")
    return threads


def option_pairs(options: Mapping[str, str] | Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """(key, value) pairs."""
    try:
        return tuple((str(key), str(value)) for key, value in dict(options).items())
    except (TypeError, ValueError) as error:
        raise SettingsError(f"provider_options must be a mapping or (key, value) pairs, not {options!r}") from error


def memory_budget(size: int | str | None) -> int | None:
    """Bytes, or None."""
    if size is None or (type(size) is int and size > 0):
        return size
    if isinstance(size, str):
        return parse_size(size)
    raise SettingsError(f'max_memory must be a number of bytes or like "9GiB", not {size!r}')


def picture_sides(image: object) -> tuple[int, int]:
    """(width, height): these two themselves, or of what `load_picture` takes."""
    if isinstance(image, tuple) and len(image) == 2 and all(type(side) is int for side in image):
        check_size(*image, "the picture")
        return image
    picture = load_picture(image)
    return picture.width, picture.height
