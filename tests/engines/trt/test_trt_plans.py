"""Keys and folders of plans: nothing of TensorRT is needed."""

import dataclasses
import json
import os

import pytest

from engines.bundle import open_bundle
from engines.errors import BundleSchemaError, EngineUnavailableError, SettingsError
from engines.profiles import parse_profile
from engines.trt_options import PlanOptions
from engines.trt_plans import (
    MANIFEST,
    PLANS,
    Machine,
    PlanRecord,
    default_profiles,
    find_plans,
    onnx_file,
    onnx_hash,
    planned,
    read_plans,
)
from tests.tiny import write_tiny_bundle

H200 = Machine(gpu="NVIDIA H200", compute_capability=(9, 0), tensorrt="11.4.0.26")
H100 = Machine(gpu="NVIDIA H100", compute_capability=(9, 0), tensorrt="11.4.0.26")
ADA = Machine(gpu="NVIDIA L4", compute_capability=(8, 9), tensorrt="11.4.0.26")
TURING = Machine(gpu="Tesla T4", compute_capability=(7, 5), tensorrt="11.4.0.26")
OPTIONS = PlanOptions(profiles=(parse_profile("64x64"), parse_profile("8x64x64")))
RECORD = PlanRecord(onnx="onnx/denoise/model.onnx", sha256=("00", "11"), size=7, seconds=1.5, messages=("a word",))


@pytest.fixture
def bundle(tmp_path):
    return open_bundle(write_tiny_bundle(tmp_path / "bundle"))


def written(bundle, machine=H200, options=OPTIONS, *, graphs=None, name=None):
    """A folder of plans as a build leaves it, without the plans."""
    plans = planned(bundle, machine, options)
    records = dict.fromkeys(bundle.manifest.graphs if graphs is None else graphs, RECORD)
    plans = dataclasses.replace(plans, graphs=records, driver="580.95.05")
    folder = bundle.folder / PLANS / (name or plans.key)
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text(plans.to_json())
    return folder


def test_a_manifest_is_read_as_it_was_written(bundle):
    folder = written(bundle)
    plans = read_plans(folder)
    assert plans.to_json() == (folder / MANIFEST).read_text()
    assert plans.key == folder.name
    assert plans.options.profiles == OPTIONS.profiles
    assert plans.graphs["denoise"] == RECORD
    assert find_plans(bundle, H200) == (folder, plans)


def test_the_key_says_what_it_fits(bundle):
    assert planned(bundle, H200, OPTIONS).key.startswith("nvidia-h200-sm90-trt11.4-fp32-")


@pytest.mark.parametrize(
    "change",
    [
        {"machine": H100},
        {"machine": dataclasses.replace(H200, tensorrt="11.4.0.27")},
        {"precision": "fp16"},
        {"onnx": {"denoise": "another"}},
        {"options": dataclasses.replace(OPTIONS, profiles=OPTIONS.profiles[:1])},
        {"options": dataclasses.replace(OPTIONS, optimization_level=5)},
        {"options": dataclasses.replace(OPTIONS, version_compatible=True)},
        {"options": dataclasses.replace(OPTIONS, hardware_compatible="same-cc")},
        {"options": dataclasses.replace(OPTIONS, weight_streaming=True)},
        {"options": dataclasses.replace(OPTIONS, strip_weights=True)},
    ],
)
def test_the_key_covers_all_that_plans_depend_on(bundle, change):
    plans = planned(bundle, H200, OPTIONS)
    assert dataclasses.replace(plans, **change).key != plans.key


def test_the_key_does_not_cover_what_is_left_open(bundle):
    plans = planned(bundle, H200, OPTIONS)
    assert dataclasses.replace(plans, driver="590.1").key == plans.key
    assert dataclasses.replace(plans, graphs={"denoise": RECORD}).key == plans.key
    for machine, hardware in ((H100, "same-cc"), (ADA, "ampere+")):
        options = dataclasses.replace(OPTIONS, hardware_compatible=hardware)
        assert planned(bundle, machine, options).key == planned(bundle, H200, options).key


def test_weights_are_part_of_the_hash(tmp_path):
    hashes = set()
    for name, scale in (("a", 1.0), ("b", 2.0)):
        bundle = open_bundle(write_tiny_bundle(tmp_path / name, output_scales={"denoise": scale}))
        hashes.add(onnx_hash(bundle, bundle.manifest.graphs["denoise"].file))
    assert len(hashes) == 2


def test_the_form_follows_the_version(bundle):
    entry = bundle.manifest.graphs["denoise"]
    forms = {"tensorrt": "onnx/denoise/islands.onnx", "tensorrt-10.12": "onnx/denoise/old.onnx"}
    for lowered, version, file in (
        ({}, "11.4.0", entry.file),
        (forms, "11.4.0", forms["tensorrt"]),
        (forms, "10.14.1", forms["tensorrt"]),
        (forms, "10.13.3", forms["tensorrt-10.12"]),
    ):
        graphs = {**bundle.manifest.graphs, "denoise": dataclasses.replace(entry, lowered=lowered)}
        changed = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, graphs=graphs))
        assert onnx_file(changed, "denoise", version) == file


@pytest.mark.parametrize(
    ("options", "machine", "reason"),
    [
        ({}, H200, ""),
        ({}, H100, "they are for NVIDIA H200 sm90"),
        ({}, dataclasses.replace(H200, tensorrt="11.4.0.27"), "they are of TensorRT 11.4.0.26"),
        ({}, dataclasses.replace(H200, lean=True), "the lean runtime takes version-compatible plans alone"),
        ({"version_compatible": True}, dataclasses.replace(H200, lean=True), ""),
        (
            {"strip_weights": True},
            dataclasses.replace(H200, lean=True),
            "the lean runtime cannot put weights in: build with --version-compatible, without --strip-weights",
        ),
        ({"version_compatible": True}, dataclasses.replace(H200, tensorrt="11.10.1"), ""),
        ({"version_compatible": True}, dataclasses.replace(H200, tensorrt="12.0"), "they are of TensorRT 11.4.0.26"),
        ({"version_compatible": True}, dataclasses.replace(H200, tensorrt="11.3"), "they are of TensorRT 11.4.0.26"),
        ({"hardware_compatible": "same-cc"}, H100, ""),
        ({"hardware_compatible": "same-cc"}, ADA, "they are for sm90"),
        ({"hardware_compatible": "ampere+"}, ADA, ""),
        ({"hardware_compatible": "ampere+"}, TURING, "they are for ampere+"),
    ],
)
def test_where_plans_run(bundle, options, machine, reason):
    assert planned(bundle, H200, dataclasses.replace(OPTIONS, **options)).unfit(machine) == reason


def test_version_compatible_plans_of_10_run_on_11(bundle):
    old = dataclasses.replace(H200, tensorrt="10.16.1")
    plans = planned(bundle, old, dataclasses.replace(OPTIONS, version_compatible=True))
    assert not plans.unfit(H200)
    assert planned(bundle, old, OPTIONS).unfit(H200) == "they are of TensorRT 10.16.1"


def test_where_nothing_fits_both_sides_and_the_command_are_named(bundle):
    written(bundle, H100)
    written(bundle, graphs=["denoise"], name="part-of-it")
    damaged = bundle.folder / PLANS / "damaged"
    damaged.mkdir()
    (damaged / MANIFEST).write_text("{}")
    (bundle.folder / PLANS / ".in-work.part").mkdir()
    (bundle.folder / PLANS / ".in-work.part" / MANIFEST).write_text("{}")
    with pytest.raises(EngineUnavailableError) as raised:
        find_plans(bundle, H200)
    text = str(raised.value)
    assert "no TensorRT engines for NVIDIA H200 (9.0) with TensorRT 11.4.0.26" in text
    assert "they are for NVIDIA H100 sm90" in text
    assert "part-of-it: they lack decode, encode, preprocess" in text
    assert f"{damaged / MANIFEST} cannot be read (KeyError: 'schema'); remove the folder" in text
    assert ".in-work" not in text
    assert f"run `python -m export.build --bundle {bundle.folder} --engine tensorrt`" in text


def test_plans_of_other_graphs_are_stale(tmp_path, bundle):
    other = open_bundle(write_tiny_bundle(tmp_path / "other", output_scales={"denoise": 2.0}))
    folder = written(other)
    (bundle.folder / PLANS).mkdir(parents=True)
    folder.rename(bundle.folder / PLANS / folder.name)
    with pytest.raises(EngineUnavailableError, match=r"they are of another onnx/denoise/model\.onnx"):
        find_plans(bundle, H200)


def test_of_several_the_one_built_last_is_taken(bundle):
    folders = [written(bundle, options=dataclasses.replace(OPTIONS, optimization_level=level)) for level in (1, 5, 3)]
    for age, folder in zip((3, 1, 2), folders, strict=True):
        os.utime(folder / MANIFEST, (1e9 - age, 1e9 - age))
    assert find_plans(bundle, H200)[0] == folders[1]


def test_a_newer_schema_is_named(bundle):
    folder = written(bundle)
    raw = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(raw | {"schema": 2}))
    with pytest.raises(BundleSchemaError, match="schema 2, this version reads 1"):
        read_plans(folder)


def test_plans_that_no_runtime_can_complete_are_named(bundle):
    folder = written(bundle, options=dataclasses.replace(OPTIONS, strip_weights=True))
    text = (folder / MANIFEST).read_text().replace('"version_compatible": false', '"version_compatible": true')
    (folder / MANIFEST).write_text(text)
    with pytest.raises(
        BundleSchemaError, match=r"exclude each other: .*; remove the folder and build its engines again"
    ):
        read_plans(folder)


def test_only_ranges_resize_what_they_work_in():
    options = [
        PlanOptions(profiles=tuple(map(parse_profile, given)))
        for given in (["64x64"], ["64x64", "8x64x64"], ["8x8:64x64:64x64"])
    ]
    assert [found.static for found in options] == [True, False, False]
    assert [len(found.preview_features) for found in options] == [0, 0, 1]


def test_the_default_is_one_static_shape(bundle):
    assert [str(profile) for profile in default_profiles(bundle.manifest.axes)] == ["1x64x64"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profiles": ()}, "plans need a profile"),
        ({"optimization_level": 6}, "the optimization level must be 0 to 5, not 6"),
        ({"hardware_compatible": "all"}, "hardware compatibility must be one of none, ampere"),
        ({"version_compatible": True, "strip_weights": True}, "exclude each other: .* lean runtime, which cannot put"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(SettingsError, match=message):
        dataclasses.replace(OPTIONS, **options)
