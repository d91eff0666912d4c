"""The table of pictures that users have: how each is made, and what becomes of it. docs/images.md has the same rows."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyvips
from PIL import Image, ImageCms

from engines.errors import ImageDecodeError, ImageNotFoundError, ImageTooLargeError

WIDTH, HEIGHT = 22, 13
ERRORS = {error.__name__: error for error in (ImageDecodeError, ImageNotFoundError, ImageTooLargeError)}
CHANNELS = {"grey": 1, "grey and alpha": 2, "RGB": 3, "RGBA": 4}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kind of picture, and what becomes of it."""

    name: str
    make: Callable
    """Gives the file's bytes."""
    makes_path: bool = False
    """`make` takes the path and makes what stands there."""
    kind: str = "RGB"
    """Of the result, a key of CHANNELS."""
    bits: int = 8
    notice: str = ""
    """Part of the one notice."""
    error: str = ""
    """Name of the error."""
    text: str = ""
    """Part of the error's text."""
    suffix: str = ".png"
    expected: object = None
    """uint8 or uint16 [h, w, c]: what the decoded picture shows."""
    within: int = 0
    """How far the decoded values may lie from `expected`."""
    profile: bytes | None = None
    """In the result."""
    maker: str | None = None
    """EXIF tag of the result."""
    row: str = ""
    """The document's row, where several cases share one."""

    @property
    def becomes(self):
        """The document's words."""
        if self.error:
            return f"`{self.error}`: {self.text}"
        return f"{self.kind}, {self.bits} bits" + (f"; notice: {self.notice}" if self.notice else "")


def ramp(channels=3, bits=8, width=WIDTH, height=HEIGHT):
    """Smooth, in the middle of the range, every channel another way; [h, w, c]."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    planes = [0.3 + 0.3 * x, 0.7 - 0.3 * y, 0.4 + 0.15 * (x + y), 0.5 + 0.3 * x * y]
    chosen = {1: planes[:1], 2: [planes[0], planes[3]], 3: planes[:3], 4: planes}[channels]
    top = 2**bits - 1
    return np.rint(np.stack(chosen, axis=2) * top).astype(f"uint{bits}")


def pil(array):
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def vips(array, suffix, interpretation=None, profile=None, **options):
    """A file written by libvips, which has 16-bit color."""
    height, width, channels = array.shape
    kind = {"uint8": "uchar", "uint16": "ushort", "float32": "float", "uint32": "uint"}[str(array.dtype)]
    image = pyvips.Image.new_from_memory(np.ascontiguousarray(array), width, height, channels, kind)
    grey, color = ("grey16", "rgb16") if kind == "ushort" else ("b-w", "srgb")
    image = image.copy(interpretation=interpretation or (grey if channels < 3 else color))
    if profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image.write_to_buffer(suffix, **options)


def with_pages(arrays, orientation=1):
    """A 16-bit TIFF of several pages."""
    height, width, channels = arrays[0].shape
    data = np.ascontiguousarray(np.concatenate(arrays))
    image = pyvips.Image.new_from_memory(data, width, height * len(arrays), channels, "ushort")
    image = image.copy(interpretation="rgb16" if channels > 2 else "grey16")
    image.set_type(pyvips.GValue.gint_type, "page-height", height)
    image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    return image.write_to_buffer(".tif")


def premultiplied(array):
    alpha = array[:, :, 3:] / 65535
    return np.dstack([np.rint(array[:, :, :3] * alpha).astype(np.uint16), array[:, :, 3]])


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, bits, color_type, rows, *chunks):
    """A PNG of raw rows, big-endian, with further chunks before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [png_chunk(b"IHDR", header), *(png_chunk(*chunk) for chunk in chunks), png_chunk(b"IDAT", body)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + png_chunk(b"IEND", b"")


def tiff(array, order, photometric, bits=None, raw=None, extra=()):
    """An uncompressed TIFF of one strip in either byte order."""
    height, width, channels = array.shape
    bits = bits or array.dtype.itemsize * 8
    data = raw or array.astype(array.dtype.newbyteorder(order)).tobytes()
    entries = [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [bits] * channels),
        (259, 3, [1]),
        (262, 3, [photometric]),
        (273, 4, [0]),
        (277, 3, [channels]),
        (278, 4, [height]),
        (279, 4, [len(data)]),
        *extra,
    ]
    directory, tail, start = b"", b"", 8 + 2 + 12 * len(entries) + 4
    sizes = {3: "H", 4: "I"}
    room = sum(2 * len(v) if t == 3 else 4 * len(v) for _, t, v in entries if len(v) * (2 if t == 3 else 4) > 4)
    for tag, kind, values in entries:
        values = [start + room] if tag == 273 else values
        packed = struct.pack(f"{order}{len(values)}{sizes[kind]}", *values)
        if len(packed) > 4:
            place, tail = struct.pack(f"{order}I", start + len(tail)), tail + packed
        else:
            place = packed.ljust(4, b"\0")
        directory += struct.pack(f"{order}HHI", tag, kind, len(values)) + place
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return head + struct.pack(f"{order}H", len(entries)) + directory + bytes(4) + tail + data


def exif(orientation=None):
    tags = Image.Exif()
    tags[0x010F] = "Maker"
    if orientation:
        tags[0x0112] = orientation
    return tags


def stored(array, orientation):
    """What a camera stores, so that the picture is `array` once it is upright."""
    turned = {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.transpose(1, 0, 2),
        6: np.rot90(array),
        7: np.rot90(array.transpose(1, 0, 2), 2),
        8: np.rot90(array, -1),
    }
    return np.ascontiguousarray(turned[orientation])


def deep_png_with_exif(orientation):
    data = vips(stored(ramp(3, 16), orientation), ".png")
    place = data.index(b"IDAT") - 4
    return data[:place] + png_chunk(b"eXIf", exif(orientation).tobytes()[6:]) + data[place:]


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def grey_profile():
    """The smallest: a header, and a gamma of 2.2."""
    tags = [(b"wtpt", b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061))]
    tags.append((b"kTRC", b"curv" + bytes(4) + struct.pack(">IH", 1, 563) + bytes(2)))
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags:
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    size = start + len(body)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    header += struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


GREY_PROFILE = grey_profile()


def inks():
    """(CMYK [h, w, 4], its profile): the ramp through libvips' own CMYK profile."""
    image = pyvips.Image.new_from_memory(ramp(3), WIDTH, HEIGHT, 3, "uchar").copy(interpretation="srgb")
    printed = image.icc_transform("cmyk", input_profile="srgb")
    data = np.frombuffer(printed.write_to_memory(), np.uint8).reshape(HEIGHT, WIDTH, 4)
    return data, printed.get("icc-profile-data")


CMYK, CMYK_PROFILE = inks()
CMYK_PLAIN = np.rint((255 - CMYK[:, :, :3].astype(float)) * (255 - CMYK[:, :, 3:].astype(float)) / 255).astype(np.uint8)


def cmyk_image():
    return Image.frombytes("CMYK", (WIDTH, HEIGHT), CMYK.tobytes())


def ycck():
    """Adobe's: color as YCbCr of the inverted inks, black beside it; Pillow writes CMYK, so the marker is changed."""
    inverse = 255 - np.asarray(Image.fromarray(CMYK[:, :, :3].copy()).convert("YCbCr"))
    planes = np.dstack([inverse, CMYK[:, :, 3]])
    data = encoded(Image.frombytes("CMYK", (WIDTH, HEIGHT), planes.tobytes()), "JPEG", quality=100)
    place = data.index(b"Adobe") + 11
    assert data[place] == 0
    return data[:place] + b"\2" + data[place + 1 :]


def palette():
    return pil(ramp()).quantize(64)


def frames(kind, **options):
    others = [pil(ramp()[::-1]), pil(ramp()[:, ::-1])]
    return encoded(pil(ramp()), kind, save_all=True, append_images=others, **options)


def half(data):
    return data[: len(data) // 2]


def noise(kind, **options):
    """Truncation shows in pictures that do not compress."""
    return half(
        encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)), kind, **options)
    )


def deep_noise(suffix, channels=3):
    return half(vips(np.random.default_rng(0).integers(0, 65536, (60, 60, channels), np.uint16), suffix))


def corrupted(data, place):
    damaged = bytearray(data)
    damaged[place] ^= 0xFF
    return bytes(damaged)


def crc_of_first(data, kind):
    place = data.index(kind)
    return corrupted(data, place + 4 + struct.unpack(">I", data[place - 4 : place])[0])


def jpeg_of_height_zero():
    data = bytearray(encoded(pil(ramp()), "JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 2] = b"\0\0"
    return bytes(data)


def twelve_bits():
    """A packed row of 12-bit samples: two in three bytes."""
    values = ramp(1, 16, width=20)[:, :, 0].astype(int) * 4095 // 65535
    packed = bytearray()
    for a, b in values.reshape(-1, 2).tolist():
        packed += bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255])
    return values, bytes(packed)


TWELVE, TWELVE_PACKED = twelve_bits()


def folder(path):
    path.mkdir()


def fifo(path):
    os.mkfifo(path)


def nothing(path):
    pass


def grey(image_or_array):
    return np.asarray(image_or_array)[:, :, None]


DAMAGED = "damaged or truncated"
UNKNOWN = "not an image in a format that Pillow reads"
JPEG = {"quality": 100, "subsampling": 0}
FLOATS = (ramp(1, 16)[:, :, 0] / 65535).astype(np.float32)

GOOD = [
    Case(name="1x1 PNG", make=lambda: encoded(pil(ramp(width=1, height=1))), expected=ramp(width=1, height=1)),
    Case(name="1x17 PNG", make=lambda: encoded(pil(ramp(width=1, height=17))), expected=ramp(width=1, height=17)),
    Case(name="17x1 PNG", make=lambda: encoded(pil(ramp(width=17, height=1))), expected=ramp(width=17, height=1)),
    Case(name="RGB PNG", make=lambda: encoded(pil(ramp())), expected=ramp()),
    Case(name="interlaced PNG", make=lambda: vips(ramp(), ".png", interlace=True), expected=ramp()),
    Case(name="RGBA PNG", make=lambda: encoded(pil(ramp(4))), kind="RGBA", expected=ramp(4)),
    Case(name="grey PNG", make=lambda: encoded(pil(ramp(1))), kind="grey", expected=ramp(1)),
    Case(name="grey PNG with alpha", make=lambda: encoded(pil(ramp(2))), kind="grey and alpha", expected=ramp(2)),
    Case(
        name="grey PNG with a transparent level (tRNS)",
        make=lambda: encoded(pil(ramp(1)), transparency=int(ramp(1)[0, 0, 0])),
        kind="grey and alpha",
        expected=np.dstack([ramp(1), np.where(ramp(1) == ramp(1)[0, 0, 0], 0, 255).astype(np.uint8)]),
    ),
    Case(
        name="RGB PNG with a transparent color (tRNS)",
        make=lambda: encoded(pil(ramp()), transparency=tuple(ramp()[0, 0].tolist())),
        kind="RGBA",
        expected=np.dstack([ramp(), np.where((ramp() == ramp()[0, 0]).all(axis=2), 0, 255).astype(np.uint8)]),
    ),
    Case(name="palette PNG", make=lambda: encoded(palette()), expected=np.asarray(palette().convert("RGB"))),
    Case(
        name="palette PNG with a transparent color (tRNS)",
        make=lambda: encoded(palette(), transparency=0),
        kind="RGBA",
        expected=np.dstack(
            [np.asarray(palette().convert("RGB")), np.where(np.asarray(palette()) == 0, 0, 255).astype(np.uint8)]
        ),
    ),
    Case(
        name="1-bit PNG",
        make=lambda: encoded(pil(ramp(1)).convert("1")),
        kind="grey",
        expected=grey(pil(ramp(1)).convert("1").convert("L")),
    ),
    Case(
        name="2-bit grey PNG",
        make=lambda: png(4, 2, 2, 0, [b"\x5a", b"\xa5"]),
        kind="grey",
        expected=np.array([[85, 85, 170, 170], [170, 170, 85, 85]], np.uint8)[:, :, None],
    ),
    Case(name="16-bit grey PNG", make=lambda: encoded(pil(ramp(1, 16))), kind="grey", bits=16, expected=ramp(1, 16)),
    Case(
        name="16-bit grey PNG with a transparent level (tRNS)",
        make=lambda: png(
            WIDTH,
            HEIGHT,
            16,
            0,
            [row.astype(">u2").tobytes() for row in ramp(1, 16)],
            (b"tRNS", ramp(1, 16)[0, 0].astype(">u2").tobytes()),
        ),
        kind="grey and alpha",
        bits=16,
        expected=np.dstack([ramp(1, 16), np.where(ramp(1, 16) == ramp(1, 16)[0, 0, 0], 0, 65535).astype(np.uint16)]),
    ),
    Case(
        name="16-bit grey PNG with alpha",
        make=lambda: vips(ramp(2, 16), ".png"),
        kind="grey and alpha",
        bits=16,
        expected=ramp(2, 16),
    ),
    Case(name="16-bit RGB PNG", make=lambda: vips(ramp(3, 16), ".png"), bits=16, expected=ramp(3, 16)),
    Case(
        name="16-bit RGB PNG, interlaced",
        make=lambda: vips(ramp(3, 16), ".png", interlace=True),
        bits=16,
        expected=ramp(3, 16),
    ),
    Case(name="16-bit RGBA PNG", make=lambda: vips(ramp(4, 16), ".png"), kind="RGBA", bits=16, expected=ramp(4, 16)),
    Case(
        name="16-bit RGB PNG with a transparent color (tRNS)",
        make=lambda: png(
            WIDTH,
            HEIGHT,
            16,
            2,
            [row.astype(">u2").tobytes() for row in ramp(3, 16)],
            (b"tRNS", ramp(3, 16)[0, 0].astype(">u2").tobytes()),
        ),
        kind="RGBA",
        bits=16,
        expected=np.dstack(
            [ramp(3, 16), np.where((ramp(3, 16) == ramp(3, 16)[0, 0]).all(axis=2), 0, 65535).astype(np.uint16)]
        ),
    ),
    Case(
        name="16-bit RGB PNG with an ICC profile",
        make=lambda: vips(ramp(3, 16), ".png", profile=SRGB),
        bits=16,
        expected=ramp(3, 16),
        profile=SRGB,
    ),
    *(
        Case(
            name=f"16-bit RGB PNG with EXIF orientation {n}",
            row="16-bit RGB PNG with EXIF orientation 1 to 8, set upright",
            make=lambda n=n: deep_png_with_exif(n),
            bits=16,
            expected=ramp(3, 16),
            maker="Maker",
        )
        for n in range(1, 9)
    ),
    *(
        Case(
            name=f"16-bit grey TIFF, {words}-endian",
            make=lambda order=order: tiff(ramp(1, 16), order, 1),
            suffix=".tif",
            kind="grey",
            bits=16,
            expected=ramp(1, 16),
        )
        for order, words in (("<", "little"), (">", "big"))
    ),
    Case(
        name="16-bit grey TIFF where white is 0",
        make=lambda: tiff(65535 - ramp(1, 16), "<", 0),
        suffix=".tif",
        kind="grey",
        bits=16,
        expected=ramp(1, 16),
    ),
    Case(
        name="12-bit grey TIFF",
        make=lambda: tiff(ramp(1, 16, width=20), "<", 1, 12, TWELVE_PACKED),
        suffix=".tif",
        kind="grey",
        bits=16,
        expected=np.rint(TWELVE / 4095 * 65535).astype(np.uint16)[:, :, None],
        within=1,
    ),
    Case(
        name="16-bit grey TIFF with alpha",
        make=lambda: vips(ramp(2, 16), ".tif"),
        suffix=".tif",
        kind="grey and alpha",
        bits=16,
        expected=ramp(2, 16),
    ),
    *(
        Case(
            name=f"16-bit RGB TIFF, {words}-endian",
            make=lambda order=order: tiff(ramp(3, 16), order, 2),
            suffix=".tif",
            bits=16,
            expected=ramp(3, 16),
        )
        for order, words in (("<", "little"), (">", "big"))
    ),
    Case(
        name="16-bit RGB TIFF, LZW",
        make=lambda: vips(ramp(3, 16), ".tif", compression="lzw"),
        suffix=".tif",
        bits=16,
        expected=ramp(3, 16),
    ),
    Case(
        name="16-bit RGB TIFF, tiled",
        make=lambda: vips(ramp(3, 16), ".tif", tile=True, tile_width=16, tile_height=16),
        suffix=".tif",
        bits=16,
        expected=ramp(3, 16),
    ),
    Case(
        name="16-bit RGB TIFF, BigTIFF",
        make=lambda: vips(ramp(3, 16), ".tif", bigtiff=True),
        suffix=".tif",
        bits=16,
        expected=ramp(3, 16),
    ),
    *(
        Case(
            name=f"16-bit RGB TIFF with orientation {n}",
            row="16-bit RGB TIFF with orientation 1 to 8, set upright",
            make=lambda n=n: tiff(stored(ramp(3, 16), n), "<", 2, extra=[(274, 3, [n])]),
            suffix=".tif",
            bits=16,
            expected=ramp(3, 16),
        )
        for n in range(1, 9)
    ),
    Case(
        name="16-bit RGBA TIFF",
        make=lambda: vips(ramp(4, 16), ".tif"),
        suffix=".tif",
        kind="RGBA",
        bits=16,
        expected=ramp(4, 16),
    ),
    Case(
        name="16-bit RGBA TIFF with premultiplied alpha, which is undone",
        make=lambda: tiff(premultiplied(ramp(4, 16)), "<", 2, extra=[(338, 3, [1])]),
        suffix=".tif",
        kind="RGBA",
        bits=16,
        expected=ramp(4, 16),
        within=2,
    ),
    Case(
        name="16-bit grey TIFF with alpha, turned, of 2 pages",
        make=lambda: with_pages([stored(ramp(2, 16), 6)] * 2, 6),
        suffix=".tif",
        kind="grey and alpha",
        bits=16,
        notice="the first of 2 pages is taken",
        expected=ramp(2, 16),
    ),
    Case(
        name="16-bit RGB TIFF of 2 pages",
        make=lambda: with_pages([ramp(3, 16), ramp(3, 16)[::-1]]),
        suffix=".tif",
        bits=16,
        notice="the first of 2 pages is taken",
        expected=ramp(3, 16),
    ),
    Case(
        name="16-bit CMYK TIFF with a profile, converted to sRGB by it",
        make=lambda: vips(CMYK.astype(np.uint16) * 257, ".tif", "cmyk", CMYK_PROFILE),
        suffix=".tif",
        bits=16,
        expected=ramp(3).astype(np.uint16) * 257,
        within=12 * 257,
    ),
    Case(
        name="16-bit CMYK TIFF without a profile, converted by libvips' own",
        make=lambda: vips(CMYK.astype(np.uint16) * 257, ".tif", "cmyk"),
        suffix=".tif",
        bits=16,
        expected=ramp(3).astype(np.uint16) * 257,
        within=12 * 257,
    ),
    Case(
        name="LZW TIFF",
        make=lambda: encoded(pil(ramp()), "TIFF", compression="tiff_lzw"),
        suffix=".tif",
        expected=ramp(),
    ),
    Case(
        name="tiled TIFF",
        make=lambda: vips(ramp(), ".tif", tile=True, tile_width=16, tile_height=16),
        suffix=".tif",
        expected=ramp(),
    ),
    Case(
        name="TIFF of 3 pages",
        make=lambda: frames("TIFF"),
        suffix=".tif",
        notice="the first of 3 pages is taken",
        expected=ramp(),
    ),
    *(
        Case(
            name=f"TIFF with orientation {n}",
            row="TIFF with orientation 1 to 8, set upright",
            make=lambda n=n: encoded(pil(stored(ramp(), n)), "TIFF", exif=exif(n)),
            suffix=".tif",
            expected=ramp(),
            maker="Maker",
        )
        for n in range(1, 9)
    ),
    Case(
        name="floating-point grey TIFF in [0, 1]",
        make=lambda: encoded(Image.fromarray(FLOATS), "TIFF"),
        suffix=".tif",
        kind="grey",
        bits=16,
        expected=ramp(1, 16),
    ),
    Case(
        name="floating-point RGB TIFF in [0, 1]",
        make=lambda: vips((ramp(3, 16) / 65535).astype(np.float32), ".tif"),
        suffix=".tif",
        bits=16,
        expected=ramp(3, 16),
    ),
    Case(
        name="32-bit integer TIFF with values in 0..65535",
        make=lambda: encoded(Image.fromarray(ramp(1, 16)[:, :, 0].astype(np.int32)), "TIFF"),
        suffix=".tif",
        kind="grey",
        bits=16,
        expected=ramp(1, 16),
    ),
    Case(
        name="Lab TIFF, converted to sRGB",
        make=lambda: encoded(
            Image.merge("LAB", pil(np.dstack([ramp(1), ramp(1) * 0 + 128, ramp(1) * 0 + 128])).split()), "TIFF"
        ),
        suffix=".tif",
        expected=np.rint(119 + 0 * ramp().astype(float)).astype(np.uint8),
        within=75,
    ),
    Case(name="JPEG", make=lambda: encoded(pil(ramp()), "JPEG", **JPEG), suffix=".jpg", expected=ramp(), within=3),
    Case(
        name="progressive JPEG",
        make=lambda: encoded(pil(ramp()), "JPEG", progressive=True, **JPEG),
        suffix=".jpg",
        expected=ramp(),
        within=3,
    ),
    Case(
        name="grey JPEG",
        make=lambda: encoded(pil(ramp(1)), "JPEG", **JPEG),
        suffix=".jpg",
        kind="grey",
        expected=ramp(1),
        within=2,
    ),
    *(
        Case(
            name=f"JPEG with EXIF orientation {n}",
            row="JPEG with EXIF orientation 1 to 8, set upright",
            make=lambda n=n: encoded(pil(stored(ramp(), n)), "JPEG", exif=exif(n), **JPEG),
            suffix=".jpg",
            expected=ramp(),
            within=3,
            maker="Maker",
        )
        for n in range(1, 9)
    ),
    Case(
        name="CMYK JPEG without a profile, by a plain formula",
        make=lambda: encoded(cmyk_image(), "JPEG", quality=100),
        suffix=".jpg",
        expected=CMYK_PLAIN,
        within=4,
    ),
    Case(
        name="CMYK JPEG with a profile, converted to sRGB by it",
        make=lambda: encoded(cmyk_image(), "JPEG", quality=100, icc_profile=CMYK_PROFILE),
        suffix=".jpg",
        expected=ramp(),
        within=16,
    ),
    Case(
        name="CMYK JPEG with a damaged profile",
        make=lambda: encoded(cmyk_image(), "JPEG", quality=100, icc_profile=CMYK_PROFILE[:400]),
        suffix=".jpg",
        notice="its CMYK profile cannot be used",
        expected=CMYK_PLAIN,
        within=4,
    ),
    Case(name="YCCK JPEG (Adobe)", make=ycck, suffix=".jpg", expected=CMYK_PLAIN, within=6),
    Case(
        name="JPEG with an ICC profile",
        make=lambda: encoded(pil(ramp()), "JPEG", icc_profile=SRGB, **JPEG),
        suffix=".jpg",
        expected=ramp(),
        within=3,
        profile=SRGB,
    ),
    Case(
        name="grey PNG with a grey ICC profile",
        make=lambda: encoded(pil(ramp(1)), icc_profile=GREY_PROFILE),
        kind="grey",
        expected=ramp(1),
        profile=GREY_PROFILE,
    ),
    Case(
        name="16-bit grey PNG with a grey ICC profile",
        make=lambda: encoded(pil(ramp(1, 16)), icc_profile=GREY_PROFILE),
        kind="grey",
        bits=16,
        expected=ramp(1, 16),
        profile=GREY_PROFILE,
    ),
    Case(
        name="grey PNG with an RGB profile",
        make=lambda: encoded(pil(ramp(1)), icc_profile=SRGB),
        kind="grey",
        notice="its ICC profile is for RGB pictures and this one is grey; it is left out",
        expected=ramp(1),
    ),
    Case(
        name="RGB PNG with a CMYK profile",
        make=lambda: encoded(pil(ramp()), icc_profile=CMYK_PROFILE),
        notice="its ICC profile is for CMYK pictures and this one is RGB; it is left out",
        expected=ramp(),
    ),
    Case(
        name="RGB PNG with a damaged profile",
        make=lambda: encoded(pil(ramp()), icc_profile=b"no profile"),
        notice="its ICC profile is damaged; it is left out",
        expected=ramp(),
    ),
    Case(
        name="animated GIF",
        make=lambda: frames("GIF"),
        suffix=".gif",
        notice="the first of 3 frames is taken",
        expected=ramp(),
        within=40,
    ),
    Case(name="APNG", make=lambda: frames("PNG"), notice="the first of 3 frames is taken", expected=ramp()),
    Case(
        name="animated WebP",
        make=lambda: frames("WEBP", lossless=True),
        suffix=".webp",
        notice="the first of 3 frames is taken",
        expected=np.dstack([ramp(), np.full((HEIGHT, WIDTH), 255, np.uint8)]),
        kind="RGBA",
    ),
    Case(name="WebP", make=lambda: encoded(pil(ramp()), "WEBP", lossless=True), suffix=".webp", expected=ramp()),
    Case(
        name="WebP with alpha",
        make=lambda: encoded(pil(ramp(4)), "WEBP", lossless=True),
        suffix=".webp",
        kind="RGBA",
        expected=ramp(4),
    ),
    Case(
        name="AVIF, where Pillow reads it",
        make=lambda: encoded(pil(ramp()), "AVIF", quality=100, subsampling="4:4:4"),
        suffix=".avif",
        expected=ramp(),
        within=4,
    ),
    Case(name="BMP", make=lambda: encoded(pil(ramp()), "BMP"), suffix=".bmp", expected=ramp()),
    Case(name="PPM", make=lambda: encoded(pil(ramp()), "PPM"), suffix=".ppm", expected=ramp()),
    Case(
        name="16-bit grey PGM",
        make=lambda: b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + ramp(1, 16).astype(">u2").tobytes(),
        suffix=".pgm",
        kind="grey",
        bits=16,
        expected=ramp(1, 16),
    ),
    Case(
        name="16-bit RGB PPM",
        make=lambda: b"P6 %d %d 65535\n" % (WIDTH, HEIGHT) + ramp(3, 16).astype(">u2").tobytes(),
        suffix=".ppm",
        expected=ramp(),
        within=1,
        notice="16-bit color is read as 8-bit, as PPM",
    ),
    Case(name="PNG named .jpg: the content counts", make=lambda: encoded(pil(ramp())), suffix=".jpg", expected=ramp()),
    Case(
        name="PNG with text after its end",
        make=lambda: encoded(pil(ramp())) + b"more",
        expected=ramp(),
    ),
]

BAD = [
    *(
        Case(
            name=f"truncated {kind}",
            make=lambda kind=kind, options=options: noise(kind, **options),
            error="ImageDecodeError",
            text=DAMAGED,
            suffix=suffix,
        )
        for kind, suffix, options in (
            ("PNG", ".png", {}),
            ("JPEG", ".jpg", {}),
            ("GIF", ".gif", {}),
            ("TIFF", ".tif", {"compression": "tiff_deflate"}),
            ("BMP", ".bmp", {}),
        )
    ),
    Case(
        name="truncated WebP",
        make=lambda: noise("WEBP", lossless=True),
        error="ImageDecodeError",
        text=DAMAGED,
        suffix=".webp",
    ),
    Case(name="truncated 16-bit grey PNG", make=lambda: deep_noise(".png", 1), error="ImageDecodeError", text=DAMAGED),
    Case(name="truncated 16-bit RGB PNG", make=lambda: deep_noise(".png"), error="ImageDecodeError", text=DAMAGED),
    Case(
        name="truncated 16-bit RGB TIFF",
        make=lambda: half(tiff(ramp(3, 16), "<", 2)),
        error="ImageDecodeError",
        text=DAMAGED,
        suffix=".tif",
    ),
    Case(
        name="PNG whose header has a bad checksum",
        make=lambda: crc_of_first(encoded(pil(ramp())), b"IHDR"),
        error="ImageDecodeError",
        text=UNKNOWN,
    ),
    Case(
        name="16-bit RGB PNG whose pixels have a bad checksum",
        make=lambda: crc_of_first(vips(ramp(3, 16), ".png"), b"IDAT"),
        error="ImageDecodeError",
        text=DAMAGED,
    ),
    Case(name="empty file", make=lambda: b"", error="ImageDecodeError", text="is empty"),
    Case(name="text file", make=lambda: b"a text\n", error="ImageDecodeError", text=UNKNOWN),
    Case(
        name="HTML page named .jpg",
        make=lambda: b"<!DOCTYPE html><html><body>404</body></html>",
        error="ImageDecodeError",
        text=UNKNOWN,
        suffix=".jpg",
    ),
    Case(
        name="SVG",
        make=lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        error="ImageDecodeError",
        text=UNKNOWN,
        suffix=".svg",
    ),
    Case(
        name="PostScript",
        make=lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        error="ImageDecodeError",
        text="EPS describes no pixels",
        suffix=".eps",
    ),
    Case(
        name="PNG of width 0",
        make=lambda: png(0, 5, 8, 2, [b""] * 5),
        error="ImageDecodeError",
        text=UNKNOWN,
    ),
    Case(name="JPEG of height 0", make=jpeg_of_height_zero, error="ImageDecodeError", text=UNKNOWN, suffix=".jpg"),
    Case(
        name="floating-point TIFF beyond [0, 1]",
        make=lambda: encoded(Image.fromarray(FLOATS * 255), "TIFF"),
        error="ImageDecodeError",
        text="expected 0 to 1",
        suffix=".tif",
    ),
    Case(
        name="floating-point TIFF with NaN",
        make=lambda: encoded(Image.fromarray(FLOATS * np.nan), "TIFF"),
        error="ImageDecodeError",
        text="no NaN",
        suffix=".tif",
    ),
    Case(
        name="floating-point RGB TIFF with NaN",
        make=lambda: vips(np.where(ramp() == ramp()[0, 0], np.nan, 0.5).astype(np.float32), ".tif"),
        error="ImageDecodeError",
        text="no NaN",
        suffix=".tif",
    ),
    Case(
        name="32-bit integer TIFF beyond 0..65535",
        make=lambda: encoded(Image.fromarray(ramp(1, 16)[:, :, 0].astype(np.int32) * 9), "TIFF"),
        error="ImageDecodeError",
        text="expected 0 to 65535",
        suffix=".tif",
    ),
    Case(
        name="32-bit integer RGB TIFF",
        make=lambda: vips(ramp(3, 16).astype(np.uint32), ".tif"),
        error="ImageDecodeError",
        text="expected 8 or 16 bits",
        suffix=".tif",
    ),
    Case(
        name="PNG that declares 9000x9000 pixels",
        make=lambda: png(9000, 9000, 8, 2, [b""]),
        error="ImageTooLargeError",
        text="at most 64000000 are read",
    ),
    Case(
        name="PNG that declares 60000x60000 pixels (decompression bomb)",
        make=lambda: png(60000, 60000, 8, 2, [b""]),
        error="ImageTooLargeError",
        text="far more than the 64000000 pixels",
    ),
    Case(
        name="16-bit PNG that declares 9000x9000 pixels",
        make=lambda: png(9000, 9000, 16, 2, [b""]),
        error="ImageTooLargeError",
        text="at most 64000000 are read",
    ),
    Case(name="folder", make=folder, makes_path=True, error="ImageNotFoundError", text="is a folder"),
    Case(name="missing file", make=nothing, makes_path=True, error="ImageNotFoundError", text="there is no file"),
    Case(name="named pipe", make=fifo, makes_path=True, error="ImageNotFoundError", text="no regular file"),
]

CASES = [*GOOD, *BAD]
