"""The pictures that are restored. In: a size. Out: a PNG file's bytes, always the same ones for that size."""

from __future__ import annotations

import io

from PIL import Image


def picture_file(width: int, height: int) -> bytes:
    """An RGB picture with smooth areas, edges and fine detail, in a file as a caller would give it."""
    size = (width, height)
    planes = (
        Image.effect_mandelbrot(size, (-2.0, -1.25, 0.75, 1.25), 60),
        Image.linear_gradient("L").resize(size),
        Image.radial_gradient("L").resize(size),
    )
    file = io.BytesIO()
    Image.merge("RGB", planes).save(file, "PNG")
    return file.getvalue()
