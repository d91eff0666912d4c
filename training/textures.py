"""Palettes, smooth grounds and textures. In: a random generator and a side in pixels. Out: a picture, uint8
[size, size, 3], or a field, float32 [size, size].

Lengths are in pixels of the result: what a network must restore is a matter of pixels, whatever the picture's side.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Pixels = NDArray[np.uint8]
Field = NDArray[np.float32]
Painter = Callable[[Generator, int], Pixels]

NATURAL_PALETTES: tuple[tuple[tuple[int, int, int], ...], ...] = (
    ((46, 38, 30), (94, 76, 56), (142, 118, 88), (190, 170, 138), (228, 214, 188)),  # earth
    ((24, 32, 18), (52, 70, 32), (88, 108, 52), (138, 150, 84), (196, 198, 140)),  # foliage
    ((38, 58, 92), (84, 116, 156), (140, 168, 196), (190, 206, 220), (236, 240, 242)),  # sky
    ((62, 36, 28), (132, 84, 64), (188, 134, 108), (222, 178, 152), (244, 216, 198)),  # skin
    ((40, 42, 44), (86, 88, 88), (128, 126, 122), (172, 168, 162), (214, 212, 206)),  # stone
    ((10, 30, 40), (22, 66, 80), (52, 112, 122), (116, 164, 164), (198, 216, 208)),  # sea
    ((30, 20, 40), (92, 48, 72), (176, 86, 74), (226, 146, 90), (248, 212, 148)),  # dusk
    ((20, 16, 14), (58, 34, 22), (104, 62, 36), (158, 104, 62), (206, 158, 108)),  # wood
    ((34, 44, 60), (96, 72, 60), (150, 60, 46), (206, 190, 158), (62, 92, 78)),  # town
    ((250, 246, 236), (226, 158, 168), (188, 80, 104), (98, 126, 70), (232, 196, 86)),  # flowers
    ((12, 14, 20), (28, 32, 44), (52, 58, 74), (92, 96, 108), (220, 190, 130)),  # night
)


def colors(rng: Generator, count: int) -> Field:
    """Colors that go together, float32 [count, 3], 0..255: mostly natural ones, some grey, some vivid."""
    way = rng.random()
    if way < 0.55:
        table = np.asarray(NATURAL_PALETTES[rng.integers(len(NATURAL_PALETTES))], dtype=np.float32)
        first, second = table[rng.integers(len(table), size=(2, count))]
        mix = rng.random((count, 1)) ** 2
        chosen = first + (second - first) * mix + rng.normal(0, 8, (count, 3))
        chosen = chosen * rng.uniform(0.7, 1.15)
    elif way < 0.75:
        chosen = rng.uniform(30, 220, (1, 3)) + rng.normal(0, 45, (count, 1)) + rng.normal(0, 16, (count, 3))
    elif way < 0.87:
        tone = rng.normal(0, 6, (1, 3)) if rng.random() < 0.5 else 0.0
        chosen = rng.uniform(5, 250, (count, 1)) + tone + np.zeros((count, 3))
    else:
        chosen = rng.uniform(0, 255, (count, 3))
    return np.asarray(np.clip(chosen, 0, 255), dtype=np.float32)


def ordered_colors(rng: Generator, count: int) -> Field:
    """`colors` from dark to light, spread apart where they would hardly differ."""
    chosen = colors(rng, count)
    chosen = chosen[np.argsort(chosen.sum(axis=1))]
    lack = rng.uniform(40, 160) - (chosen[-1].mean() - chosen[0].mean())
    if lack > 0:
        chosen = chosen + np.linspace(-lack / 2, lack / 2, count, dtype=np.float32)[:, None]
    return np.clip(chosen, 0, 255).astype(np.float32)


def colored(field: Field, palette: Field) -> Pixels:
    """A field of 0..1 [height, width] led through a palette [count, 3] of 0..255: uint8 [height, width, 3]."""
    stops = np.linspace(0, 1, len(palette))
    steps = np.linspace(0, 1, 1024)
    ramp = np.stack([np.interp(steps, stops, palette[:, channel]) for channel in range(3)], axis=1)
    return (ramp + 0.5).clip(0, 255).astype(np.uint8)[(field.clip(0, 1) * 1023).astype(np.int32)]


def smooth(rng: Generator, size: int, cells: int) -> Field:
    """Smooth noise of about -2..2, `cells` random values along a side and bicubic between them."""
    grid = rng.standard_normal((cells, cells), dtype=np.float32)
    return np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC))


def spectral(rng: Generator, size: int, slope: float, stretch: float = 1.0) -> Field:
    """Noise of 0..1 whose amplitude falls as 1/f^slope; `stretch` above 1 draws it out along a random direction."""
    fy = np.fft.fftfreq(size).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(size).astype(np.float32)[None, :]
    if stretch > 1:
        angle = rng.uniform(0, np.pi)
        along, across = np.cos(angle) * fx + np.sin(angle) * fy, np.cos(angle) * fy - np.sin(angle) * fx
        power = (along * stretch) ** 2 + across**2
    else:
        power = fx**2 + fy**2
    power[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((size, size), dtype=np.float32)) * power ** np.float32(-slope / 2)
    spectrum[0, 0] = 0.0
    field = np.fft.irfft2(spectrum, s=(size, size)).astype(np.float32)
    return (field * np.float32(rng.uniform(0.16, 0.3) / (field.std() + 1e-9)) + np.float32(0.5)).clip(0, 1)


def coordinates(rng: Generator, size: int) -> tuple[Field, Field]:
    """Two axes in pixels, float32 [size, size] each: turned, and sometimes in perspective or bent."""
    axis = np.arange(size, dtype=np.float32) - np.float32(size / 2)
    angle = rng.uniform(-0.12, 0.12) if rng.random() < 0.4 else rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = cos * axis[None, :] + sin * axis[:, None], cos * axis[:, None] - sin * axis[None, :]
    if rng.random() < 0.35:
        nearness = 1 / (1 + np.float32(rng.uniform(0.2, 0.6) / size) * v)
        u, v = u * nearness, v * nearness
    if rng.random() < 0.4:
        bend, cells = np.float32(rng.uniform(1, 8)), int(rng.integers(3, 9))
        u, v = u + bend * smooth(rng, size, cells), v + bend * smooth(rng, size, cells)
    return u + np.float32(size), v + np.float32(size)


def plain(rng: Generator, size: int) -> Pixels:
    """One color."""
    return np.broadcast_to(colors(rng, 1).astype(np.uint8), (size, size, 3)).copy()


def gradient(rng: Generator, size: int) -> Pixels:
    """A linear, radial or angular gradient, or colors that flow into each other."""
    way = rng.integers(4)
    if way == 3:
        cells = int(rng.integers(2, 6))
        grid = colors(rng, cells * cells).reshape(cells, cells, 3).astype(np.uint8)
        return np.array(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC))
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    cx, cy = rng.uniform(-1, 1, 2).astype(np.float32)
    x, y = axis[None, :] - cx, axis[:, None] - cy
    angle = rng.uniform(0, 2 * np.pi)
    if way == 0:
        along = np.float32(np.cos(angle)) * axis[None, :] + np.float32(np.sin(angle)) * axis[:, None]
        field = along / np.float32(2.83) + np.float32(0.5)
    elif way == 1:
        field = np.hypot(x * np.float32(rng.uniform(0.4, 2)), y) / np.float32(rng.uniform(0.6, 2.4))
    else:
        field = np.abs(np.arctan2(y, x)) / np.float32(np.pi)
    return colored(np.asarray(field, dtype=np.float32), colors(rng, int(rng.integers(2, 6))))


def cloud(rng: Generator, size: int) -> Pixels:
    """1/f noise through a palette: clouds, bark, stone, grain; a second noise shifts its brightness."""
    stretch = float(np.exp(rng.uniform(0.7, 3))) if rng.random() < 0.4 else 1.0
    field = spectral(rng, size, rng.uniform(0.5, 2.2), stretch)
    if rng.random() < 0.3:
        field = np.abs(2 * field - 1)
    picture = colored(field, ordered_colors(rng, int(rng.integers(2, 6))))
    return shaded(rng, picture) if rng.random() < 0.5 else picture


def shaded(rng: Generator, picture: Pixels) -> Pixels:
    """The picture under uneven light."""
    light = 1 + np.float32(rng.uniform(0.05, 0.25)) * smooth(rng, picture.shape[0], int(rng.integers(2, 6)))
    return (picture * light[..., None]).clip(0, 255).astype(np.uint8)


def woven(rng: Generator, size: int) -> Pixels:
    """Stripes, checkers, or threads that cross over and under, with soft or hard edges."""
    u, v = coordinates(rng, size)
    period = np.exp(rng.uniform(np.log(4), np.log(40), 2))
    if rng.random() < 0.6:
        period[1] = period[0]
    first = np.sin(u * np.float32(2 * np.pi / period[0]))
    second = np.sin(v * np.float32(2 * np.pi / period[1]))
    hardness = np.float32(rng.uniform(0.3, 0.25 * period.min() + 0.4))
    way = rng.integers(3)
    if way == 0:
        field = first + np.float32(rng.uniform(-0.6, 0.6))
    elif way == 1:
        field = first * second * 2
    else:
        field = np.where(first * second > 0, np.abs(first), -np.abs(second)) + np.float32(0.3) * first * second
    field = np.float32(0.5) + np.float32(0.5) * np.tanh(field * hardness)
    if rng.random() < 0.5:
        field = field + np.float32(rng.uniform(0.1, 0.5)) * (spectral(rng, size, rng.uniform(0.2, 1.5)) - 0.5)
    return colored(field, ordered_colors(rng, int(rng.integers(2, 4))))


def tiles(rng: Generator, size: int) -> Pixels:
    """Bricks or tiles: one color each, joints between them, light on the edges, rough surfaces."""
    u, v = coordinates(rng, size)
    height = float(np.exp(rng.uniform(np.log(6), np.log(48))))
    width = height * (rng.uniform(1.5, 4) if rng.random() < 0.6 else 1.0)
    row = np.floor(v / np.float32(height))
    shifted = u / np.float32(width) + row * np.float32(rng.choice([0.0, 0.5, 0.33]))
    column = np.floor(shifted)
    across, down = (shifted - column) * np.float32(width), v - row * np.float32(height)
    edge = np.minimum(np.minimum(across, width - across), np.minimum(down, height - down))
    joint = np.float32(rng.uniform(0.3, 0.1 * height + 0.5))
    faces = colors(rng, 64) if rng.random() < 0.3 else np.clip(colors(rng, 1) + rng.normal(0, 14, (64, 1)), 0, 255)
    which = (row.astype(np.int32) * 37 + column.astype(np.int32) * 11) % 64
    rough = np.float32(rng.uniform(10, 90)) * (spectral(rng, size, rng.uniform(0.4, 1.4)) - 0.5)
    bevel = np.float32(rng.uniform(0, 30)) * np.exp(-edge / np.float32(0.1 * height)) * np.sign(down - height / 2)
    cover = (edge - joint + 0.5).clip(0, 1)[..., None]
    picture = faces.astype(np.float32)[which] - bevel[..., None]
    picture = picture * cover + colors(rng, 1) * (1 - cover) + rough[..., None]
    return np.asarray(picture.clip(0, 255), dtype=np.uint8)


def cells(rng: Generator, size: int) -> Pixels:
    """Pebbles, scales or cells: to each pixel the nearest of points strewn about a grid."""
    u, v = coordinates(rng, size)
    pitch = np.float32(np.exp(rng.uniform(np.log(6), np.log(40))))
    u, v = u / pitch, v / pitch
    column, row = np.floor(u), np.floor(v)
    i, j = column.astype(np.int32), row.astype(np.int32)
    u, v = column - u, row - v
    points = rng.uniform(0, rng.uniform(0.4, 1), (2, 32, 32)).astype(np.float32)
    nearest, second = np.full_like(u, 9), np.full_like(u, 9)
    owner = np.zeros((size, size), dtype=np.int32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            index = ((j + dy) & 31) * 32 + ((i + dx) & 31)
            du = points[0].ravel()[index] + u + dx
            dv = points[1].ravel()[index] + v + dy
            distance = du * du + dv * dv
            closer = distance < nearest
            second = np.where(closer, nearest, np.minimum(second, distance))
            nearest = np.where(closer, distance, nearest)
            owner = np.where(closer, index, owner)
    gap = np.sqrt(second) - np.sqrt(nearest)
    faces = colors(rng, 1024) if rng.random() < 0.5 else colors(rng, 1) + rng.normal(0, 18, (1024, 1))
    dome = 1 - np.float32(rng.uniform(0, 0.7)) * nearest[..., None]
    cover = (gap * pitch * np.float32(rng.uniform(0.15, 0.8))).clip(0, 1)[..., None]
    picture = faces.astype(np.float32)[owner] * (dome * cover) + colors(rng, 1) * (1 - cover)
    return np.asarray(picture.clip(0, 255), dtype=np.uint8)


def hair(rng: Generator, size: int) -> Pixels:
    """Hair, fur or grass: strokes along a flowing direction, drawn at twice the size."""
    palette = ordered_colors(rng, 24)
    image = Image.new("RGB", (2 * size, 2 * size), tuple(int(c) for c in palette[rng.integers(8)]))
    draw = ImageDraw.Draw(image)
    count = int(np.clip(size * size / rng.uniform(60, 180), 40, 1100))
    flow = rng.uniform(0, 2 * np.pi) + rng.uniform(0.1, 1.2) * smooth(rng, 32, int(rng.integers(2, 6)))
    step = np.exp(rng.uniform(np.log(5), np.log(30)))
    path = np.empty((5, count, 2))
    path[0] = rng.uniform(-0.1, 1.1, (count, 2)) * 2 * size
    lean = rng.normal(0, 0.2, count)
    for i in range(4):
        at = (path[i] * (16 / size)).astype(np.int32).clip(0, 31)
        angle = flow[at[:, 1], at[:, 0]] + lean * (1 + 0.5 * i)
        path[i + 1] = path[i] + step * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    strokes = path.transpose(1, 0, 2).reshape(count, 10).tolist()
    inks = [tuple(ink) for ink in palette[rng.integers(len(palette), size=count)].astype(int).tolist()]
    widths = rng.integers(1, int(rng.integers(2, 6)), size=count).tolist()
    for stroke, ink, width in zip(strokes, inks, widths, strict=True):
        draw.line(stroke, fill=ink, width=width)
    return np.array(image.reduce(2))


TEXTURES: tuple[tuple[float, Painter], ...] = (
    (4, cloud),
    (2, woven),
    (2, tiles),
    (1.5, cells),
    (2.5, hair),
)

GROUNDS: tuple[tuple[float, Painter], ...] = ((5, plain), (3, gradient), (2, cloud), (1, woven))


def pick(rng: Generator, table: tuple[tuple[float, Painter], ...]) -> Painter:
    """One painter of a table of (weight, painter), at random by weight."""
    weights = np.cumsum([weight for weight, _ in table])
    return table[int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))][1]


def texture(rng: Generator, size: int) -> Pixels:
    """A texture of a random kind, sometimes under uneven light."""
    picture = pick(rng, TEXTURES)(rng, size)
    return shaded(rng, picture) if rng.random() < 0.2 else picture
