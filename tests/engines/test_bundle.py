"""Bundles: what is accepted, and every way in which one is refused."""

import json

import pytest

from engines.bundle import MANIFEST, open_bundle, parse_manifest
from engines.errors import BundleHashError, BundleNotFoundError, BundlePathError, BundleSchemaError
from tests.tiny import write_tiny_bundle


@pytest.fixture
def bundle(tmp_path):
    return write_tiny_bundle(tmp_path / "bundle")


def edit(bundle, change):
    manifest = json.loads((bundle / MANIFEST).read_text())
    change(manifest)
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def test_round_trip(bundle):
    manifest = open_bundle(bundle).manifest
    assert parse_manifest(manifest.to_json(), "again") == manifest
    assert set(manifest.graphs) == {"preprocess", "encode", "denoise", "decode"}
    assert not manifest.separate_condition
    assert manifest.axes["H"].multiple == 8
    assert manifest.axes["h"].opt == 128


def test_a_summary_of_verify_is_kept_and_not_needed(bundle):
    edit(bundle, lambda m: m.update(verified={"passed": True}))
    assert open_bundle(bundle).manifest.verified == {"passed": True}
    edit(bundle, lambda m: m.pop("verified"))  # as bundles of before have it
    assert open_bundle(bundle).manifest.verified == {}


def test_no_folder(tmp_path):
    with pytest.raises(BundleNotFoundError, match=r"no bundle at .*nowhere.*export\.build"):
        open_bundle(tmp_path / "nowhere")


def test_changed_file(bundle):
    path = bundle / "onnx/denoise/model.onnx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleHashError, match=r"model\.onnx has sha256 .*expected .*export the bundle again"):
        open_bundle(bundle)


def test_truncated_file(bundle):
    path = bundle / "onnx/denoise/model.onnx"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BundleHashError, match=r"has \d+ bytes, expected \d+"):
        open_bundle(bundle)


def test_missing_file(bundle):
    (bundle / "onnx/decode/model.onnx").unlink()
    with pytest.raises(BundleHashError, match="in the manifest but not there"):
        open_bundle(bundle)


def test_newer_schema(bundle):
    edit(bundle, lambda m: m.update(schema=99, something_new=1))
    with pytest.raises(BundleSchemaError, match=r"schema 99, this version reads up to 1; run `pip install -U"):
        open_bundle(bundle)


@pytest.mark.parametrize("location", ["../outside.onnx", "/etc/passwd", "a\0b"])
def test_file_outside_the_bundle(bundle, location):
    (bundle.parent / "outside.onnx").write_bytes(b"x")
    edit(bundle, lambda m: m["files"].update({location: {"sha256": "0" * 64, "size": 1}}))
    with pytest.raises(BundlePathError, match="leads outside the bundle"):
        open_bundle(bundle)


def test_symbolic_link_outside_the_bundle(bundle):
    path = bundle / "onnx/decode/model.onnx"
    path.rename(bundle.parent / "elsewhere.onnx")
    path.symlink_to(bundle.parent / "elsewhere.onnx")
    with pytest.raises(BundlePathError, match="leads outside the bundle"):
        open_bundle(bundle)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": "x"}', "null", "[" * 100_000, '{"schema": 0}'])
def test_not_a_manifest(bundle, text):
    (bundle / MANIFEST).write_text(text)
    with pytest.raises(BundleSchemaError, match="export the bundle again"):
        open_bundle(bundle)


def test_manifest_that_is_not_text(bundle):
    (bundle / MANIFEST).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleSchemaError, match="not UTF-8"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("axes"),
        lambda m: m.update(precision="fp4"),
        lambda m: m["graphs"].pop("denoise"),
        lambda m: m["graphs"]["denoise"]["spec"]["inputs"][0].update(shape=["B", 4, "Q", "W"]),
        lambda m: m["graphs"]["denoise"]["spec"]["inputs"][0].update(shape=["B", 4, "H*", "W"]),
        lambda m: m["files"].pop("onnx/denoise/model.onnx"),
        lambda m: m["schedule"].update(unknown=1),
        lambda m: m["graphs"].update(encode=3),
        lambda m: m["graphs"].update(foo=m["graphs"]["encode"]),
        lambda m: m["graphs"]["denoise"]["spec"]["inputs"][0].update(shape=["B", 4, None, "W"]),
        lambda m: m["files"]["onnx/denoise/model.onnx"].update(sha256=None),
        lambda m: m["axes"]["H"].update(max=float("inf")),
        lambda m: m["axes"]["H"].update(min=None),
        lambda m: m["schedule"].update(beta_start=None),
        lambda m: m["schedule"].update(t1=True),
        lambda m: m["plan"].update(solver=[]),
        lambda m: m.update(scale=float("inf")),
        lambda m: m.update(verified=3),
        lambda m: m.update(schema=float("inf")),
    ],
)
def test_damaged_manifest(bundle, change):
    edit(bundle, change)
    with pytest.raises(BundleSchemaError, match="export the bundle again"):
        open_bundle(bundle)


def test_hash_cache_sees_a_changed_file(tmp_path, monkeypatch):
    from engines import hash_cache

    monkeypatch.setenv("DOSSR_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "weights"
    path.write_bytes(bytes(2_000_000))
    first = hash_cache.sha256(path)
    assert hash_cache.sha256(path) == first
    assert (tmp_path / "cache/sha256.json").exists()
    path.write_bytes(bytes(1_999_999) + b"x")
    assert hash_cache.sha256(path) != first


def test_without_a_home_files_are_hashed_each_time(tmp_path, monkeypatch):
    from engines import hash_cache
    from engines.files import sha256_file

    for variable in ("DOSSR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    path = tmp_path / "weights"
    path.write_bytes(bytes(2_000_000))
    assert hash_cache.sha256(path) == sha256_file(path)


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', "{"])
def test_damaged_hash_cache_is_ignored(tmp_path, monkeypatch, content):
    from engines import hash_cache
    from engines.files import sha256_file

    monkeypatch.setenv("DOSSR_CACHE", str(tmp_path))
    (tmp_path / "sha256.json").write_text(content)
    path = tmp_path / "weights"
    path.write_bytes(bytes(2_000_000))
    assert hash_cache.sha256(path) == sha256_file(path)
