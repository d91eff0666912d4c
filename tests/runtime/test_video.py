"""Clips through PyAV: frames, times, audio and colors of a result are those of the input."""

import io
import itertools
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction

import av
import numpy as np
import pytest

import runtime
from engines.errors import (
    CancelledError,
    ImageDecodeError,
    ImageNotFoundError,
    OutputExistsError,
    OutputNotWritableError,
    PackageMissingError,
    SettingsError,
    TimeLimitError,
)
from runtime.cli import main
from runtime.journal import held
from runtime.kernels import tensor_from
from runtime.video import VIDEO_CODECS, restore_video
from runtime.video.codecs import choose_codec
from runtime.video.colors import colors_of, frame_of, pixels_of
from runtime.video.writing import ClipWriter
from tests.paths import REPOSITORY
from tests.tiny import write_tiny_bundle

TICKS = 600
EVEN = [25 * i for i in range(12)]
UNEVEN = [0, 10, 30, 70, 71, 200, 225, 300, 302, 400, 500, 555]
FULL, LIMITED = 2, 1


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory):
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("bundle"))
    with runtime.Upscaler(bundle) as opened:
        yield opened


def picture(width, height, shift):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 3 + shift * 5, y * 4, x + y + shift * 3], -1).astype(np.uint8)


def clip(
    path, *, width=64, height=48, times=EVEN, audio="aac", codec="libx264", form="yuv420p", still=False, setup=None
):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=24)
        stream.width, stream.height, stream.pix_fmt = width, height, form
        stream.codec_context.time_base = Fraction(1, TICKS)
        if setup is not None:
            setup(stream)
        sound = container.add_stream(audio, rate=48000) if audio else None
        for i, pts in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(width, height, 0 if still else i), "rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        if sound is not None:
            tone = (np.sin(np.arange(24000) / 20) * 9000).astype(np.int16)[None]
            samples = av.AudioFrame.from_ndarray(tone, "s16", "mono")
            samples.sample_rate, samples.pts, samples.time_base = 48000, 0, Fraction(1, 48000)
            for part in av.AudioResampler(sound.format.name, "mono", 48000, frame_size=960).resample(samples):
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))
        container.mux(stream.encode(None))
    return path


def contents(path):
    """Times of frames, what stands in the head, and the audio's packets."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        found = {
            "times": [frame.pts * frame.time_base for frame in frames],
            "duration": container.duration,
            "rotation": frames[0].rotation,
            "shape": stream.sample_aspect_ratio,
            "form": frames[0].format.name,
            "colors": (frames[0].colorspace, frames[0].color_range, frames[0].color_primaries, frames[0].color_trc),
        }
        size = (frames[0].width, frames[0].height)
        pixels = [frame.to_ndarray(format="rgb24").astype(int) for frame in frames]
    with av.open(str(path)) as container:
        packets = [p for s in container.streams.audio for p in container.demux(s) if p.dts is not None]
        found["audio"] = packets and (packets[0].pts * packets[0].time_base, b"".join(map(bytes, packets)))
    return found, size, pixels


def restored(source, upscaler, output=None, **options):
    output = output or source.with_name(f"out{source.suffix}")
    report = restore_video(source, output, upscaler, steps=1, **options)
    return report, output


def turned(stream):
    stream.set_display_rotation(90)


def wide_pixels_and_colors(stream):
    context = stream.codec_context
    context.sample_aspect_ratio = Fraction(4, 3)
    context.colorspace, context.color_range, context.color_primaries, context.color_trc = 9, FULL, 9, 16


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("even.mp4", {}),
        ("uneven.mp4", {"times": UNEVEN}),
        ("late.mp4", {"times": [pts + 333 for pts in UNEVEN]}),
        ("silent.mp4", {"audio": None}),
        ("turned.mp4", {"setup": turned, "audio": None}),
        ("wide.mov", {"setup": wide_pixels_and_colors, "audio": "pcm_s16le"}),
        ("uneven.mkv", {"times": UNEVEN}),
        ("deep.mkv", {"form": "yuv420p10le", "audio": None}),
        ("one.mp4", {"times": [0], "audio": None}),
        ("web.webm", {"codec": "libvpx-vp9", "audio": "libopus"}),
    ],
)
def test_times_audio_rotation_and_colors_are_those_of_the_input(tmp_path, upscaler, name, options):
    source = clip(tmp_path / name, **options)
    report, output = restored(source, upscaler)
    (before, size, _), (after, large, pixels) = contents(source), contents(output)
    assert large == (4 * size[0], 4 * size[1]) == (report.width, report.height)
    assert report.frames == len(pixels) == len(options.get("times", EVEN))
    assert bool(before["audio"]) == (options.get("audio", "aac") is not None)
    lengths = before.pop("duration"), after.pop("duration")
    if "times" not in options:  # uneven ones depend on the order in which frames are coded, in MP4
        assert abs(lengths[0] - lengths[1]) <= 1000  # microseconds: Matroska has no finer ones
    matrix, colors = before.pop("colors"), after.pop("colors")
    assert colors == ((9, FULL, 9, 16) if "wide" in name else (6, LIMITED, *matrix[2:])), "the assumed one is said"
    assert after == before
    assert report.codec == ("libvpx-vp9" if "webm" in name else "libx264")
    assert report.notices == ()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("name", "options"), [("in.avi", {"codec": "mpeg4", "audio": "mp3"}), ("in.h264", {"audio": None}), ("in.ts", {})]
)
def test_files_that_clips_are_not_written_to(tmp_path, upscaler, name, options):
    source = clip(tmp_path / name, **options)
    report, output = restored(source, upscaler, tmp_path / "out.mp4")
    with av.open(str(source)) as given:
        frames = list(given.decode(video=0))
    bare = [i * frame.duration * frame.time_base for i, frame in enumerate(frames)]
    wanted = bare if frames[0].pts is None else contents(source)[0]["times"]
    found = contents(output)[0]["times"]
    assert report.frames == len(found) == 12
    assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) < 0.0005  # an MP4's start is in milliseconds


def test_what_stands_still_does_not_shimmer(tmp_path, upscaler, monkeypatch):
    source = clip(tmp_path / "still.mkv", still=True, codec="ffv1", audio=None)
    seen = []
    stream = upscaler.stream

    def watched(*arguments, **options):
        for result in stream(*arguments, **options):
            seen.append(bytes(memoryview(result.pixels)))
            yield result

    monkeypatch.setattr(upscaler, "stream", watched)
    _, output = restored(source, upscaler, tmp_path / "out.mp4", batch=4)
    assert len(seen) == 12
    assert len(set(seen)) == 1, "bit-equal before they are encoded"
    _, _, pixels = contents(output)
    assert max(np.abs(a - b).mean() for a, b in itertools.pairwise(pixels)) < 0.5
    _, lossless = restored(source, upscaler, tmp_path / "out.mkv", codec="ffv1")
    _, _, pixels = contents(lossless)
    assert all((frame == pixels[0]).all() for frame in pixels)


def test_frames_are_those_that_pictures_become(tmp_path, upscaler):
    """A lossless clip of RGB against the same picture, through limited range and back."""
    source = clip(tmp_path / "in.mkv", codec="ffv1", form="bgr0", audio=None, times=[0, 25])
    _, output = restored(source, upscaler, codec="ffv1")
    _, _, frames = contents(output)
    for i, frame in enumerate(frames):
        wanted = np.asarray(upscaler(picture(64, 48, i), steps=1).pixels).astype(int)
        assert np.abs(frame - wanted).max() <= 1


def test_batches_change_nothing(tmp_path, upscaler):
    source = clip(tmp_path / "in.mp4")
    _, one = restored(source, upscaler, tmp_path / "one.mkv", codec="ffv1")
    _, four = restored(source, upscaler, tmp_path / "four.mkv", codec="ffv1", batch=4)
    assert all((a == b).all() for a, b in zip(contents(one)[2], contents(four)[2], strict=True))


def converted(y, cb, cr, matrix, full, bits):
    """ITU-T H.273, equations 11 to 60."""
    scale = 2 ** (bits - 8)
    low, luma, chroma = (0, 2**bits - 1, 2**bits - 1) if full else (16 * scale, 219 * scale, 224 * scale)
    y, cb, cr = (y - low) / luma, (cb - 128 * scale) / chroma, (cr - 128 * scale) / chroma
    red, blue = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}[matrix]
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    return np.clip(np.stack([r, (y - red * r - blue * b) / (1 - red - blue), b], -1), 0, 1)


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("full", [False, True])
def test_colors_by_the_clips_own_matrix_and_range(bits, matrix, full):
    dtype, form = (np.uint8, "yuv444p") if bits == 8 else (np.uint16, "yuv444p10le")
    frame = av.VideoFrame(64, 16, form)
    random, scale = np.random.default_rng(0), 2 ** (bits - 8)
    planes = []
    for plane, (low, high) in zip(frame.planes, ((60, 190), (118, 138), (118, 138)), strict=True):
        blocks = random.integers(low * scale, high * scale, (2, 8)).repeat(8, 0).repeat(8, 1)
        np.frombuffer(plane, dtype).reshape(16, -1)[:, :64] = blocks
        planes.append(blocks)
    frame.colorspace, frame.color_range = matrix, FULL if full else LIMITED
    colors = colors_of(frame, 16)
    pixels = np.asarray(pixels_of(frame, colors))
    most = 2 ** (8 * pixels.itemsize) - 1
    # FFmpeg's 16 bits have their white at 255 * 256.
    assert np.abs(pixels / most - converted(*planes, matrix, full, bits)).max() < (0.51 / 255 if bits == 8 else 1 / 255)
    back = frame_of(tensor_from(pixels), colors, form)
    for plane, blocks in zip(back.planes, planes, strict=True):
        assert np.abs(np.frombuffer(plane, dtype).reshape(16, -1)[:, :64].astype(int) - blocks).max() <= (
            2 if full else 0
        )
    assert (back.colorspace, back.color_range) == (matrix, colors.range)


def test_unsaid_colors_follow_the_number_of_lines():
    assert [colors_of(av.VideoFrame(64, lines, "yuv420p"), 4 * lines).matrix for lines in (480, 720)] == [6, 1]
    assert [colors_of(av.VideoFrame(64, 64, "rgb24"), lines).matrix for lines in (480, 720)] == [6, 1]
    assert colors_of(av.VideoFrame(64, 48, "yuvj420p"), 192).range == FULL


def without_end(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def cut_in_its_head(kept):
    def cut(path):
        data = path.read_bytes()
        path.write_bytes(data[: data.find(b"moov") + kept])

    return cut


def with_a_hole(path, number=5):
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(container.streams.video[0]) if p.size][number]
        begin, end = packet.pos + 5 + packet.size // 4, packet.pos + packet.size
    data = bytearray(path.read_bytes())
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)


def sound_alone(path):
    data = io.BytesIO(path.read_bytes())
    with av.open(data) as given, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(given.streams.audio[0])
        for packet in given.demux(given.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)


@pytest.mark.parametrize(
    ("name", "damage", "text"),
    [
        ("in.mp4", without_end, r"is no video file, or damaged \(Invalid data"),
        ("in.mkv", without_end, r"ends early: \d+ frames up to .* s, of more up to 3\.\d+ s; get a whole copy"),
        (
            "in.mp4",
            with_a_hole,
            r"frame \d+, after 0\.\d+ s, is damaged .* or cut the clip behind its first \d+ frames",
        ),
        ("in.mp4", lambda path: with_a_hole(path, 0), "frame 1, after 0.00 s, is damaged .*; get a whole copy$"),
        ("in.mp4", lambda path: path.write_text("hello"), "is no video file"),
        ("in.mp4", lambda path: path.write_bytes(b""), "is no video file"),
        ("in.mp4", sound_alone, "has no video stream: it is damaged, ends early or is no clip"),
        ("in.mp4", cut_in_its_head(12), "has no video stream: it is damaged, ends early or is no clip"),
        ("in.mp4", cut_in_its_head(330), "its video is damaged, ends early or is of a codec that this FFmpeg lacks"),
    ],
)
def test_damaged_files_say_where_and_leave_nothing(tmp_path, upscaler, name, damage, text):
    source = clip(tmp_path / name, times=[100 * i for i in range(24)], audio="aac")
    damage(source)
    with pytest.raises(ImageDecodeError, match=text):
        restored(source, upscaler)
    assert list(tmp_path.iterdir()) == [source]


def test_a_size_that_changes_is_named(tmp_path, upscaler):
    parts = [clip(tmp_path / f"{width}.h264", width=width, audio=None).read_bytes() for width in (64, 32)]
    source = tmp_path / "in.h264"
    source.write_bytes(b"".join(parts))
    with pytest.raises(ImageDecodeError, match=r"frame 13, .*\(its size changes to 32x48\)"):
        restored(source, upscaler, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_a_file_whose_frames_end_before_its_table_does(tmp_path, upscaler):
    source = tmp_path / "in.mp4"
    slow = clip(tmp_path / "slow.mp4", times=range(0, 1000, 25))
    with av.open(str(slow)) as given, av.open(str(source), "w", options={"movflags": "+faststart"}) as container:
        copies = {stream.index: container.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                container.mux(packet)
    without_end(source)
    with pytest.raises(ImageDecodeError, match=r"ends early: \d+ frames up to .* s, of 40 up to 1\.67 s"):
        restored(source, upscaler)


def test_frames_that_are_lost_at_the_end_are_told(tmp_path, upscaler, caplog):
    source = clip(tmp_path / "in.mp4", times=range(0, 1000, 25), audio=None)
    with_a_hole(source, 39)
    with caplog.at_level(logging.WARNING, "dossr"):
        report, _ = restored(source, upscaler)
    assert report.frames < 40
    assert f"{40 - report.frames} frames at its end cannot be decoded" in caplog.text
    assert len(report.notices) == 1


@pytest.mark.parametrize(
    ("output", "options", "error", "text"),
    [
        ("out.webm", {}, OutputNotWritableError, r"out\.webm: 'webm' format does not support 'aac' codec; .*\.mkv"),
        ("out.webm", {"codec": "libx264"}, OutputNotWritableError, r"\.webm takes, of what this PyAV has, libvpx-vp9"),
        ("out.avi", {}, OutputNotWritableError, r"suffix must be one of \.mp4"),
        ("out.mp4", {"codec": "h264"}, SettingsError, "codec must be one of libx264, .*, not 'h264'"),
        ("out.mp4", {"quality": 0}, SettingsError, r"quality must be a whole number in 1\.\.100, not 0"),
        ("out.mkv", {"quality": 50, "codec": "ffv1"}, SettingsError, "has no meaning for ffv1"),
        ("out.mp4", {"scale": 1.02}, SettingsError, "65x49 pixels, and yuv420p takes even sides"),
        ("out.mp4", {"scale": 0}, SettingsError, "scale must be"),
        ("out.mp4", {"batch": 0}, SettingsError, "batch must be"),
        ("none/out.mp4", {}, OutputNotWritableError, "there is no folder"),
        ("in.mp4", {}, SettingsError, r"the result of .*in\.mp4 would replace the input"),
        ("../folder/in.mp4", {"overwrite": True}, SettingsError, r"the result of .*in\.mp4 would replace the input"),
        (
            "folder/",
            {},
            OutputNotWritableError,
            r"a clip's output is a file's name, not a folder's; .*folder/clip\.mp4",
        ),
        (".", {}, OutputNotWritableError, "a clip's output is a file's name, not a folder's"),
        ("out.mp4", {"tile": 3}, SettingsError, "tile must be"),
        ("out.mp4", {"control": 3}, SettingsError, "control must be"),
        ("out.mp4", {"control": runtime.Control(timeout=1e-9)}, TimeLimitError, "not done after the timeout"),
    ],
)
def test_what_is_refused_leaves_nothing(tmp_path, upscaler, output, options, error, text):
    tmp_path = tmp_path / "folder"
    tmp_path.mkdir()
    source = clip(tmp_path / "in.mp4", times=EVEN[:3])
    with pytest.raises(error, match=text):
        restored(source, upscaler, tmp_path / output, **options)
    assert list(tmp_path.iterdir()) == [source]


def test_no_such_file(tmp_path, upscaler):
    with pytest.raises(ImageNotFoundError, match="there is no file"):
        restored(tmp_path / "none.mp4", upscaler)


def test_without_pyav(tmp_path, upscaler, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(PackageMissingError, match=r"video needs PyAV, which does not import .*; pip install 'av>=18'"):
        restored(tmp_path / "in.mp4", upscaler)


def test_an_old_pyav(tmp_path, upscaler, monkeypatch):
    monkeypatch.setattr(av, "__version__", "17.1.0")
    with pytest.raises(PackageMissingError, match=r"needs PyAV 18 or newer, this is 17\.1\.0; pip install"):
        restored(tmp_path / "in.mp4", upscaler)


def test_an_encoder_that_this_ffmpeg_lacks(tmp_path, monkeypatch):
    without = {name: codec for name, codec in VIDEO_CODECS.items() if name != "libx264"}
    monkeypatch.setattr("runtime.video.codecs.VIDEO_CODECS", without)
    assert choose_codec(tmp_path / "out.mp4", None).name == "libx265"


@pytest.mark.parametrize("codec", list(VIDEO_CODECS))
def test_every_encoder_and_its_quality(tmp_path, upscaler, codec):
    source = clip(tmp_path / "in.mp4", times=EVEN[:4], audio=None)
    sizes = []
    for quality in (10, None, 100) if codec != "ffv1" else (None,):
        report, output = restored(source, upscaler, tmp_path / "out.mkv", codec=codec, quality=quality, overwrite=True)
        assert report.codec == codec
        sizes.append(output.stat().st_size)
    assert sizes == sorted(set(sizes))


def with_more(stream):
    stream.container.add_attachment("font.ttf", "application/x-truetype-font", b"letters")
    stream.container.metadata["title"] = "Home"


def test_streams_that_are_left_out_are_told(tmp_path, upscaler, caplog):
    source = clip(tmp_path / "in.mkv", setup=with_more)
    with caplog.at_level(logging.WARNING, "dossr"):
        report, output = restored(source, upscaler)
    assert re.search(r"its stream \d \(attachment\) is left out", caplog.text)
    assert len(report.notices) == 1
    with av.open(str(output)) as container:
        assert container.metadata["title"] == "Home"


def test_an_output_that_exists(tmp_path, upscaler):
    source, output = clip(tmp_path / "in.mp4", times=EVEN[:3]), tmp_path / "out.mp4"
    output.write_text("old")
    with pytest.raises(OutputExistsError, match="pass overwrite=True"):
        restored(source, upscaler)
    assert output.read_text() == "old"


def test_paths_are_text_too_and_frames_may_be_tiled(tmp_path, upscaler):
    source = clip(tmp_path / "in.mp4", times=EVEN[:2])
    report = restore_video(str(source), str(tmp_path / "out.mp4"), upscaler, steps=1, tile=16, tile_overlap=8)
    assert report.frames == len(contents(tmp_path / "out.mp4")[2]) == 2


def give_up(_done, _total):
    raise KeyboardInterrupt


def test_ctrl_c_leaves_what_was_there(tmp_path, upscaler):
    source, output = clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    output.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        restored(source, upscaler, overwrite=True, on_frame=give_up)
    assert output.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [source, output]


@pytest.mark.parametrize("late", [False, True])
def test_a_cancelled_clip_leaves_nothing(tmp_path, upscaler, monkeypatch, late):
    source, control = clip(tmp_path / "in.mp4"), runtime.Control()
    finish = ClipWriter.finish

    def cancel(*arguments):
        control.cancel()
        if late:
            finish(*arguments)

    if late:
        monkeypatch.setattr(ClipWriter, "finish", cancel)
    with pytest.raises(CancelledError):
        restored(source, upscaler, control=control, on_frame=None if late else cancel)
    assert list(tmp_path.iterdir()) == [source]


def test_what_a_killed_run_left_is_removed_and_what_a_running_one_writes_is_not(tmp_path, upscaler):
    source = clip(tmp_path / "in.mp4", times=EVEN[:2])
    stale, running, other = (tmp_path / name for name in (".out.a_1.part.mp4", ".out.b2.part.mp4", ".on.c3.part.mp4"))
    for path in (stale, running, other):
        path.touch()
    with held(running):
        _, output = restored(source, upscaler)
    assert sorted(tmp_path.iterdir()) == sorted([source, output, running, other])


def command(*arguments):
    bundle_free = {key: value for key, value in os.environ.items() if key != "DOSSR_BUNDLE"}
    return [sys.executable, "-m", "runtime", *map(str, arguments)], {"cwd": REPOSITORY, "env": bundle_free}


def test_the_command(tmp_path):
    source, bundle = clip(tmp_path / "in.mp4", times=EVEN[:3]), write_tiny_bundle(tmp_path / "bundle")
    line, where = command(source, "-o", tmp_path / "out.mp4", "--bundle", bundle, "--steps", "1", "--json")
    done = subprocess.run(line, **where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["frames"], report["width"], report["codec"]) == (3, 256, "libx264")


@pytest.mark.parametrize("quiet", [False, True])
def test_the_demo_model_is_told(tmp_path, capsys, monkeypatch, quiet):
    monkeypatch.delenv("DOSSR_BUNDLE", raising=False)
    source = clip(tmp_path / "in.mp4", times=[0], width=16, height=16)
    options = ["--steps", "1", *(["--quiet"] if quiet else [])]
    assert main([str(source), "-o", str(tmp_path / "out.mp4"), *options]) == 0
    assert ("no --bundle: the small demo model that ships is used" in capsys.readouterr().err) != quiet


def test_the_command_takes_clips_to_clips(tmp_path):
    with pytest.raises(SettingsError, match=r"in\.png is no clip, and .*out\.mp4 is one; write an image file"):
        main([str(tmp_path / "in.png"), "-o", str(tmp_path / "out.mp4")])


OTHERS = "a clip takes one input and options of its own, see `dossr upscale CLIP --help`"


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (["--plan"], SettingsError, f"--plan: for pictures, not for clips; {OTHERS}"),
        (["--resume", "--noise=philox"], SettingsError, f"--resume, --noise: for pictures, not for clips; {OTHERS}"),
        (["--shimmer"], SettingsError, f"unrecognized arguments: --shimmer; {OTHERS}"),
        (["photo.jpg"], SettingsError, f"unrecognized arguments: photo.jpg; {OTHERS}"),
        (["--timeout", "0"], SettingsError, "timeout must be a number of seconds"),
        (["--tile", "3"], SettingsError, "tile must be"),
        (["--overwrite", "-o", "in.mp4"], SettingsError, "the result of in.mp4 would replace the input in.mp4"),
        ([], OutputExistsError, "out.mp4 exists; pass --overwrite to replace it, or choose another name"),
    ],
)
def test_what_the_command_refuses_of_clips(tmp_path, monkeypatch, arguments, error, text):
    monkeypatch.chdir(tmp_path)
    for name in ("in.mp4", "out.mp4"):
        (tmp_path / name).write_text("old")
    with pytest.raises(error, match=re.escape(text)):
        main(["in.mp4", "-o", "out.mp4", *arguments], "dossr upscale")
    assert {path.read_text() for path in tmp_path.iterdir()} == {"old"}


def test_a_clip_beside_a_picture():
    with pytest.raises(SettingsError, match=r"2 inputs, and b\.mp4 is a clip: clips take one input; .* CLIP --help"):
        main(["a.png", "b.mp4", "-o", "folder"])


def test_the_help_of_pictures_names_that_of_clips(capsys):
    for arguments, named in ((["--help"], "clip.mp4 --help"), (["clip.mp4", "--help"], "--codec {libx264")):
        with pytest.raises(SystemExit):
            main(arguments, "dossr upscale")
        assert named in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_at_the_command(tmp_path, number):
    """Also where SIGINT was ignored before, as in a shell's background."""
    source = clip(tmp_path / "in.mp4", times=range(0, 25 * 400, 25), audio=None)
    bundle = write_tiny_bundle(tmp_path / "bundle")
    line, where = command(source, "-o", tmp_path / "out.mp4", "--bundle", bundle)
    line = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *line]
    with subprocess.Popen(line, **where, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob(".out.*.part.mp4")) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "interrupted\n")
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4", "bundle"}
