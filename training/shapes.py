"""Line art, filled shapes and dead leaves. In: a random generator and a side in pixels. Out: uint8 [size, size, 3].

Everything is drawn larger and reduced, so that edges are anti-aliased as a lens and a sensor would have them.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from training.textures import (
    GROUNDS,
    Pixels,
    colors,
    gradient,
    pick,
    shaded,
    smooth,
    texture,
)

Color = tuple[int, int, int]


def palette(rng: Generator, count: int) -> list[Color]:
    """`count` colors as Pillow wants them."""
    return [(int(r), int(g), int(b)) for r, g, b in colors(rng, count)]


def outlines(rng: Generator, count: int, points: int = 28) -> NDArray[np.float64]:
    """Closed outlines of reach 1 about the origin, [count, points, 2]: ellipses, blobs, polygons, bars, stars."""
    t = np.broadcast_to(np.linspace(0, 2 * np.pi, points, endpoint=False), (count, points))
    corners = rng.integers(3, 8, size=(count, 1))
    angular = rng.random((count, 1)) < 0.4
    t = np.where(angular, np.floor(t * corners / (2 * np.pi)) * (2 * np.pi / corners), t)
    harmonic, phase = rng.integers(2, 6, size=(count, 1)), rng.uniform(0, 2 * np.pi, (count, 1))
    depth = np.where(rng.random((count, 1)) < 0.5, rng.uniform(0, 0.45, (count, 1)), 0)
    radius = (1 + depth * np.sin(harmonic * t + phase)) / (1 + depth)
    aspect = np.exp(-np.abs(rng.normal(0, 0.8, (count, 1))))
    x, y = radius * np.cos(t), radius * np.sin(t) * aspect
    turn = rng.uniform(0, 2 * np.pi, (count, 1))
    return np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=2)


def leaves(rng: Generator, size: int) -> Pixels:
    """Dead leaves: overlapping shapes whose sizes follow a power law, each plain, graded or textured, some with a
    shadow, far ones sometimes out of focus. Edges occlude each other as they do in photographs.
    """
    materials = [Image.fromarray(texture(rng, size)), Image.fromarray(gradient(rng, size))]
    if rng.random() < 0.4:
        materials.append(Image.fromarray(texture(rng, size)))
    image = materials[rng.integers(len(materials))].copy()
    count = int(rng.integers(30, 200))
    smallest, largest = rng.uniform(1.5, 8), rng.uniform(0.2, 0.6) * size
    exponent = rng.uniform(0.5, 2.0)
    scale = 1 - (smallest / largest) ** exponent
    reach = smallest * (1 - rng.random(count) * scale) ** (-1 / exponent)
    if rng.random() < 0.4:
        reach = reach[np.argsort(-reach * np.exp(rng.normal(0, 0.7, count)))]
    shapes = outlines(rng, count)
    centres = rng.uniform(-0.05, 1.05, (count, 2)) * size
    fills = palette(rng, count)
    covered = rng.random(count) < rng.uniform(0.4, 1.0)
    shadowed = rng.uniform(0, 1) * rng.random(count) < 0.1
    blur_at = int(count * rng.uniform(0.3, 0.9)) if rng.random() < 0.25 else -1
    for i in range(count):
        if i == blur_at:
            image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.8, 4)))
        left, top = (int(c) for c in np.floor(centres[i] - reach[i]))
        side = min(int(np.ceil(2 * reach[i])) + 2, size)
        zoom = 4 if side < 24 else 2
        mask = Image.new("L", (side * zoom, side * zoom))
        corners = ((shapes[i] * reach[i] + centres[i] - (left, top)) * zoom).ravel().tolist()
        ImageDraw.Draw(mask).polygon(corners, fill=255)
        mask = mask.reduce(zoom)
        if shadowed[i] and side > 8:
            shade = Image.blend(mask.filter(ImageFilter.BoxBlur(side // 16 + 1)), Image.new("L", mask.size), 0.5)
            image.paste((0, 0, 0), (left + side // 16 + 1, top + side // 16 + 1), shade)
        if covered[i] and side > 6:
            material = materials[i % len(materials)]
            x, y = (int(c) for c in rng.integers(0, size - side + 1, size=2))
            piece = material.crop((x, y, x + side, y + side))
            if i % 4:
                piece = Image.blend(piece, Image.new("RGB", piece.size, fills[i]), 0.15 + 0.1 * (i % 5))
            image.paste(piece, (left, top), mask)
        else:
            image.paste(fills[i], (left, top), mask)
    picture = np.array(image)
    return shaded(rng, picture) if rng.random() < 0.5 else picture


def polygons(rng: Generator, size: int) -> Pixels:
    """Flat shapes with crisp edges, as in signs, charts and drawings; some outlined."""
    zoom = 2
    image = Image.fromarray(pick(rng, GROUNDS)(rng, size)).resize((size * zoom, size * zoom))
    draw = ImageDraw.Draw(image)
    count = int(np.exp(rng.uniform(np.log(4), np.log(70))))
    shapes = outlines(rng, count, 56)
    reach = np.exp(rng.uniform(np.log(2.0), np.log(size / 2), count)) * zoom
    centres = rng.uniform(0, size * zoom, (count, 1, 2))
    placed = (shapes * reach[:, None, None] + centres).reshape(count, -1).tolist()
    inks = palette(rng, int(rng.integers(2, 9)))
    border = rng.random() < 0.3
    for i, corners in enumerate(placed):
        fill, x, y = inks[i % len(inks)], float(centres[i, 0, 0]), float(centres[i, 0, 1])
        if i % 5 == 4:
            w, h = reach[i], reach[i] * (0.2 + 0.8 * (i % 3))
            draw.rounded_rectangle((x, y, x + w, y + h), radius=(i % 2) * w / 6, fill=fill)
        else:
            draw.polygon(corners, fill=fill, outline=inks[0] if border else None, width=1 + i % 5)
    return np.array(image.reduce(zoom))


def _curves(rng: Generator, draw: ImageDraw.ImageDraw, side: int, ink: Color, width: int) -> None:
    """Cubic Bézier curves."""
    t = np.linspace(0, 1, 24)[:, None]
    for _ in range(int(rng.integers(2, 14))):
        a, b, c, d = rng.uniform(-0.2, 1.2, (4, 2)) * side
        path = (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t**2 * (1 - t) * c + t**3 * d
        draw.line(path.ravel().tolist(), fill=ink, width=width, joint="curve")


def _strokes(rng: Generator, draw: ImageDraw.ImageDraw, side: int, ink: Color, width: int) -> None:
    """Straight lines in all directions, or polylines."""
    for _ in range(int(rng.integers(3, 25))):
        draw.line((rng.uniform(-0.1, 1.1, (int(rng.integers(2, 5)), 2)) * side).ravel().tolist(), fill=ink, width=width)


def _hatching(rng: Generator, draw: ImageDraw.ImageDraw, side: int, ink: Color, width: int) -> None:
    """Parallel lines, or two sets of them as a grid; evenly apart or opening like a fan."""
    angle, pitch = rng.uniform(0, np.pi), width * rng.uniform(2, 10)
    fan = rng.uniform(0, 0.02) if rng.random() < 0.3 else 0.0
    for turn in (0, np.pi / 2) if rng.random() < 0.5 else (0,):
        for i, offset in enumerate(np.arange(-0.75 * side, 0.75 * side, pitch)):
            cos, sin = np.cos(angle + turn + fan * i), np.sin(angle + turn + fan * i)
            x, y = side / 2 - sin * offset, side / 2 + cos * offset
            draw.line((x - cos * side, y - sin * side, x + cos * side, y + sin * side), fill=ink, width=width)


def _rings(rng: Generator, draw: ImageDraw.ImageDraw, side: int, ink: Color, width: int) -> None:
    """Ellipses, some of them within each other."""
    for _ in range(int(rng.integers(1, 6))):
        x, y = rng.uniform(0, side, 2)
        w, h = rng.uniform(0.03, 0.6, 2) * side
        shrink = 2 * width + rng.uniform(1, 6) * width
        for _ in range(int(rng.integers(1, 12))):
            if min(w, h) <= width:
                break
            draw.ellipse((x - w, y - h, x + w, y + h), outline=ink, width=width)
            w, h = w - shrink, h - shrink


def _contours(rng: Generator, draw: ImageDraw.ImageDraw, side: int, ink: Color, width: int) -> None:
    """Waves one above the other, as on maps and in engravings."""
    x = np.linspace(0, side, 40)
    swell = np.asarray(smooth(rng, 40, int(rng.integers(3, 9)))) * side * rng.uniform(0.02, 0.12)
    for i, y in enumerate(np.linspace(0, side, int(rng.integers(8, 40)))):
        draw.line(np.stack([x, y + swell[i]], axis=1).ravel().tolist(), fill=ink, width=width, joint="curve")


STROKES = (_curves, _strokes, _hatching, _rings, _contours)


def line_art(rng: Generator, size: int) -> Pixels:
    """Lines, curves, hatching, grids and rings of hair's breadth to broad, mostly dark on light or light on dark."""
    zoom = 3
    side = size * zoom
    ground = pick(rng, GROUNDS)(rng, size)
    if rng.random() < 0.6:
        paper = rng.uniform(215, 255) if rng.random() < 0.75 else rng.uniform(0, 40)
        ground = (paper + (ground - paper) * rng.uniform(0, 0.2)).astype(np.uint8)
    image = Image.fromarray(ground).resize((side, side), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)
    dark = float(ground.mean()) > 127
    for _ in range(int(rng.integers(1, 4))):
        red, green, blue = (int(c * 0.6) if dark else int(255 - c * 0.6) for c in palette(rng, 1)[0])
        width = int(np.exp(rng.uniform(np.log(2), np.log(5 * zoom))))
        STROKES[rng.integers(len(STROKES))](rng, draw, side, (red, green, blue), width)
    return np.array(image.reduce(zoom))
