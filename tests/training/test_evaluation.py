"""The crops, the report, its gates, and the command line on a tiny bundle."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from engines.cli import run_command
from engines.errors import PackageMissingError, SettingsError
from tests.tiny import write_tiny_bundle
from training import evaluate as command
from training.crops import LEVELS, bicubic, crops
from training.evaluation import Report, Score, evaluate
from training.sheets import plot_trends


@pytest.fixture(scope="module")
def few():
    return crops(1)


@pytest.fixture
def bundle(tmp_path):
    return write_tiny_bundle(tmp_path / "bundle")


def report_of(figures, grid=1.0, vae=None):
    """A report whose every crop has these figures: restorer to level to (PSNR, SSIM, sharpness)."""
    scores = [
        Score(restorer=r, crop=p, photograph=p, level=level, psnr=f[0], ssim=f[1], sharpness=f[2], grid=1.0)
        for r, levels in figures.items()
        for level, f in zip(LEVELS, levels, strict=True)
        for p in ("a", "b")
    ]
    grids = {(r, level): grid for r in figures for level in (*LEVELS, "all")}
    return Report(scores=tuple(scores), grids=grids, vae_psnr=vae)


BICUBIC = [(24, 0.6, 0.5), (23, 0.5, 0.5), (22, 0.4, 0.5)]


def met(restorer, figures, **more):
    return [gate.met for gate in report_of({"bicubic": BICUBIC, restorer: figures}, **more).gates]


def test_crops_are_24_and_the_same_every_time():
    first, second = crops(), crops()
    assert len(first) == 24
    assert len({crop.name for crop in first}) == 24
    for a, b in zip(first, second, strict=True):
        assert a.original.shape == (3, 256, 256)
        assert a.original.dtype == np.float32
        assert np.array_equal(a.original, b.original)
        for level in LEVELS:
            assert a.levels[level].shape == (64, 64, 3)
            assert a.levels[level].dtype == np.uint8
            assert np.array_equal(a.levels[level], b.levels[level])


def test_bicubic_stands_where_the_docstring_says():
    report = evaluate({})
    found = [round(report.mean("psnr", "bicubic", (level,)), 1) for level in LEVELS]
    assert found == pytest.approx([24.5, 23.5, 22.7], abs=0.11)  # other builds of libjpeg round otherwise
    assert report.mean("sharpness", "bicubic") == pytest.approx(0.47, abs=0.01)
    assert report.grids["bicubic", "all"] < 1.1


def test_gates_of_preprocess():
    assert met("preprocess", [(24, 0.6, 1), (23.5, 0.56, 1), (22.6, 0.46, 1)]) == [True, True, True]
    assert met("preprocess", [(23.8, 0.6, 1), (23.4, 0.5, 1), (22.4, 0.4, 1)]) == [False, False, False]


def test_gates_of_one_step():
    assert met("1 step", [(23.4, 0.6, 1), (23, 0.6, 1), (22.1, 0.4, 1)]) == [True, True, True]
    assert met("1 step", [(23.2, 0.6, 1), (22.9, 0.5, 1), (22, 0.4, 1)]) == [False, False, False]


def test_gates_of_five_steps_and_the_vae():
    assert met("5 steps", [(23, 0, 0.7), (22, 0, 0.8), (21, 0, 1)], grid=1.09, vae=25) == [True, True, True, True]
    assert met("5 steps", [(22, 0, 1.2), (21, 0, 1.2), (20, 0, 1.2)], grid=1.11, vae=24.9) == [False] * 4
    assert met("5 steps", [(23, 0, 0.5), (22, 0, 0.5), (21, 0, 0.5)])[0] is False


def test_nan_meets_no_gate():
    nan = float("nan")
    report = report_of({"bicubic": BICUBIC, "5 steps": [(nan, nan, nan)] * 3}, grid=nan, vae=nan)
    assert not any(gate.met for gate in report.gates)
    assert json.loads(report.to_json())["vae_psnr"] is None


def test_report_in_text_and_json(few):
    report = evaluate({"preprocess": bicubic}, judged=few, reconstruct=lambda x: np.clip(x + np.float32(0.01), 0, 1))
    found = json.loads(report.to_json())
    assert len(found["scores"]) == 2 * 3 * 3
    assert found["means"]["preprocess"]["hard"]["chelsea"] == found["means"]["bicubic"]["hard"]["chelsea"]
    assert report.vae_psnr >= 39.9
    text = report.table()
    assert "NOT MET  preprocess: PSNR over bicubic, harder levels, dB: 0.000, required at least 0.5" in text
    assert "met      VAE" in text


@pytest.mark.parametrize(
    "restore", [lambda x: bicubic(x) * 2, lambda x: bicubic(x)[:, :-1], lambda x: bicubic(x) * np.float32("nan")]
)
def test_a_restorer_outside_its_range_is_refused(few, restore):
    with pytest.raises(SettingsError, match="clamp or transpose"):
        evaluate({"mine": restore}, judged=few)


def test_bicubic_is_no_name_for_a_restorer(few):
    with pytest.raises(SettingsError, match="another name"):
        evaluate({"bicubic": bicubic}, judged=few)


def test_command_line_end_to_end(bundle, tmp_path, capsys):
    paths = {name: tmp_path / name for name in ("figures.json", "sheet.png")}
    arguments = ["--bundle", bundle, "--crops", "1", "--threads", "1", "--json", paths["figures.json"]]
    assert run_command(command.main, [str(a) for a in [*arguments, "--sheet", paths["sheet.png"]]]) == 0
    out = capsys.readouterr().out
    assert "5 steps" in out
    figures = json.loads(paths["figures.json"].read_text())
    assert set(figures["means"]) == {"bicubic", "preprocess", "1 step", "5 steps"}
    assert figures["vae_psnr"] > 15  # the tiny VAE averages 8x8 pixels
    with Image.open(paths["sheet.png"]) as sheet:
        assert sheet.width > 6 * 192
        assert sheet.height > 4 * 192


def test_trends(bundle, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    plot = tmp_path / "trends.png"
    options = ["--bundle", str(bundle), "--crops", "1", "--threads", "1", "--trends", str(plot)]
    assert run_command(command.main, options) == 0
    assert capsys.readouterr().out.count("\n| ") == 11
    with Image.open(plot) as picture:
        assert picture.width == 900


def test_without_matplotlib(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PackageMissingError, match="pip install matplotlib"):
        plot_trends(tmp_path / "trends.png", [], [])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--bundle", "a", "--checkpoint", "b"], "either --bundle DIR or --checkpoint FILE"),
        (["--bundle", "a", "--config", "b"], "belong to --checkpoint"),
        (["--bundle", "a", "--crops", "9"], "--crops must be 1 to 8, not 9"),
        (["--bundle", "a", "--json", "/no/such/folder/x.json"], "there is no folder"),
        (["--bundle", "/no/such/bundle", "--crops", "1"], "BundleNotFoundError"),
        (["--checkpoint", "/no/such.ckpt", "--crops", "1"], "ExportFailedError"),
    ],
)
def test_wrong_usage_is_one_line(options, words, capsys):
    assert run_command(command.main, options) in (1, 2)
    assert words in capsys.readouterr().err
