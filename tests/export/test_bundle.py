"""Bundles as they are written: files, shapes, figures; and exports that fail."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch

from engines import graphs
from engines.bundle import Precision, open_bundle
from engines.errors import OutputExistsError, OutputNotWritableError
from export.bundle import build, tensorrt_operators
from export.output import check_out
from export.progress import Progress, Silent
from export.settings import BuildSettings
from export.workspace import workspace
from tests.paths import MINI, REPOSITORY
from tests.tiny import write_tiny_bundle

OPTIONS = [
    "--checkpoint", str(MINI / "model.ckpt"), "--config", str(MINI / "config.yaml"),
    "--context", str(MINI / "context.safetensors"),
]  # fmt: skip


def command_line(*arguments, **options):
    command = [sys.executable, "-m", "export.build", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=600, **options)


def models(folder):
    return sorted(folder.glob("onnx/*/*.onnx"))


@pytest.mark.parametrize("fixture", ["mini_bundle", "mini_bundle_fp16"])
def test_bundle(request, fixture):
    folder = request.getfixturevalue(fixture)
    manifest = open_bundle(folder).manifest
    assert set(manifest.graphs) == {"preprocess", "encode", "denoise", "decode"}
    assert manifest.schedule.t1 == 500
    assert manifest.tools["torch"] == torch.__version__
    assert manifest.checkpoint["file"] == "model.ckpt"
    assert len(manifest.checkpoint["sha256"]) == 64
    for entry in manifest.graphs.values():
        figures_of = dict(entry.verification)
        assert figures_of.pop("tensorrt-operators")["findings"] == []
        assert set(figures_of) == {"canonical", "onnxruntime-cpu", "onnxruntime-cuda", "tensorrt-10.12"}
        for figures in figures_of.values():
            assert figures["deviation"] <= (1e-4 if manifest.precision is Precision.FP32 else 2e-2)
            assert figures["cosine"] >= 0.9999
        assert set(entry.lowered) == {"onnxruntime-cpu", "onnxruntime-cuda", "tensorrt-10.12"}
    assert set(manifest.files) == {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }


def test_what_tensorrt_would_refuse_is_said_aloud(tmp_path, caplog):
    latent, output = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "y"))
    node = onnx.helper.make_node("Det", ["x"], ["y"], "the_Det")
    graph = onnx.helper.make_graph([node], "g", [latent], [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)])
    onnx.save(model, tmp_path / "model.onnx")
    record = tensorrt_operators("denoise", tmp_path / "model.onnx")
    [finding] = record["findings"]
    assert finding.startswith("Det (the_Det): TensorRT's parser does not know the operator; write it in others")
    [said] = caplog.records
    assert (said.levelname, said.name) == ("WARNING", "dossr")
    assert said.getMessage() == f"TensorRT {record['tensorrt']} does not take the graph denoise: {finding}"


@pytest.mark.parametrize("fixture", ["mini_bundle", "mini_bundle_fp16"])
def test_onnx_files(request, fixture):
    folder = request.getfixturevalue(fixture)
    half = "16" in fixture
    operators = {}
    for path in models(folder):
        raw = path.read_bytes()
        for trace in (os.fsencode(sys.prefix), os.fsencode(REPOSITORY), b".py", b"pkg.torch"):
            assert trace not in raw, f"{trace!r} in {path}"
        model = onnx.load(path, load_external_data=False)
        spec = open_bundle(folder, check_hashes=False).manifest.graphs[path.parent.name].spec
        for values, specs in ((model.graph.input, spec.inputs), (model.graph.output, spec.outputs)):
            assert [v.name for v in values] == [s.name for s in specs]
            for value, tensor in zip(values, specs, strict=True):
                assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
                dims = value.type.tensor_type.shape.dim
                assert tuple(d.dim_param or d.dim_value for d in dims) == tensor.shape
        assert not any(node.op_type.startswith("Random") for node in model.graph.node)
        operators[path.parent.name, path.name] = {node.op_type for node in model.graph.node}
        large = [t for t in model.graph.initializer if np.prod(t.dims) > 1000]
        assert all(t.data_location == onnx.TensorProto.EXTERNAL for t in large)
        assert {t.data_type for t in large} == {onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT}
    assert {"Attention", "GroupNormalization", "Gelu", "LayerNormalization"} <= operators["denoise", "model.onnx"]
    lowered = operators["denoise", "model.onnxruntime-cpu.onnx"]
    assert {"MultiHeadAttention", "InstanceNormalization", "DepthToSpace"} <= lowered
    assert not {"Attention", "GroupNormalization", "Resize"} & lowered
    lowered = operators["denoise", "model.onnxruntime-cuda.onnx"]
    assert {"MultiHeadAttention", "GroupNorm"} <= lowered
    assert "Attention" not in lowered


def test_prompt_is_baked(mini_bundle):
    model = onnx.load(mini_bundle / "onnx/denoise/model.onnx", load_external_data=False)
    names = [t.name for t in model.graph.initializer]
    assert sum(name.endswith("attn2.keys") for name in names) == 14  # 4 encoders' and the decoder's transformers
    assert not any("attn2.to_k" in name or "attn2.to_v" in name for name in names)


def test_attention_in_bounded_memory(mini_bundle):
    """At 16,384 tokens the attention matrix of one layer alone would be 2 heads x 1 GB."""
    code = f"""
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions(); options.log_severity_level = 3
session = onnxruntime.InferenceSession(r"{mini_bundle}/onnx/denoise/model.onnxruntime-cpu.onnx", options)
latent = np.zeros((1, 4, 128, 128), np.float32); one = np.ones(1, np.float32)
session.run(None, {{"latent": latent, "condition": latent, "timestep": one, "control_scale": one}})
print(int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert int(done.stdout) < 1000


def settings(out):
    return BuildSettings(
        checkpoint=MINI / "model.ckpt",
        config=MINI / "config.yaml",
        context=MINI / "context.safetensors",
        precision=Precision.FP32,
        out=out,
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError(28, "No space left on device")])
def test_failed_export_leaves_what_was_there(tmp_path, monkeypatch, error):
    out = tmp_path / "new" / "bundle"

    def fail(*_):
        assert list(out.parent.iterdir()), "the temporary folder stands beside the output"
        raise error

    monkeypatch.setattr("export.bundle._export_stage", fail)
    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        build(settings(out), Silent())
    assert not list(tmp_path.iterdir())

    write_tiny_bundle(out)
    old = (out / "manifest.json").read_text()
    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        build(settings(out), Silent())
    assert [p.name for p in out.parent.iterdir()] == ["bundle"]
    assert (out / "manifest.json").read_text() == old
    assert open_bundle(out)


def test_bundle_is_replaced_when_the_new_one_is_complete(tmp_path):
    out = write_tiny_bundle(tmp_path / "bundle")
    (out / "engines").mkdir()
    manifest = open_bundle(out).manifest
    with workspace(out) as space:
        (space.folder / "bundle").mkdir()
        assert open_bundle(out)
        space.complete(dataclasses.replace(manifest, prompt="new"))
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    assert [p.name for p in out.iterdir()] == ["manifest.json"]
    assert json.loads((out / "manifest.json").read_text())["prompt"] == "new"


@pytest.mark.parametrize("foreign", ["manifest.json", "src/main.js"])
def test_folder_with_a_manifest_of_another_kind_stays(tmp_path, foreign):
    """Web pages have a manifest.json too; and a bundle with somebody's notes in it is not only a bundle."""
    out = write_tiny_bundle(tmp_path / "site")
    (out / foreign).parent.mkdir(exist_ok=True)
    (out / foreign).write_text('{"name": "page", "schema": 1}')
    with pytest.raises(OutputExistsError, match="not a whole bundle"):
        check_out(out)


def test_what_comes_while_the_export_runs_stays(tmp_path):
    out = tmp_path / "bundle"
    manifest = open_bundle(write_tiny_bundle(tmp_path / "other")).manifest
    shutil.rmtree(tmp_path / "other")

    def export():
        with workspace(out) as space:
            (space.folder / "bundle").mkdir()
            out.mkdir()
            (out / "notes.txt").write_text("mine")
            space.complete(manifest)

    with pytest.raises(OutputExistsError):
        export()
    assert [p.name for p in tmp_path.rglob("*")] == ["bundle", "notes.txt"]


def test_what_is_not_a_bundle_stays(tmp_path):
    check_out(tmp_path)
    (tmp_path / "photo.png").write_text("precious")
    with pytest.raises(OutputExistsError, match="--out"):
        check_out(tmp_path)
    with pytest.raises(OutputExistsError):
        check_out(tmp_path / "photo.png")
    with pytest.raises(OutputNotWritableError), workspace(tmp_path / "photo.png" / "bundle"):
        pass


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--context", "c"], 1, "error: CheckpointNotFoundError: --config and --context belong to a checkpoint"),
        (
            ["--checkpoint", "none.ckpt"],
            1,
            "error: CheckpointNotFoundError: cannot read --checkpoint none.ckpt",
        ),
        (["--checkpoint", "none.ckpt", "--engine", "tensorrt"], 1, "error: EngineUnavailableError: "),
        (["--precision", "fp8"], 2, "error: SettingsError: "),
        (["--device", "tpu"], 2, "error: SettingsError: "),
        (["--engine", "magic"], 2, "error: SettingsError: "),
        (["--prediction", "noise"], 2, "error: SettingsError: "),
        (["--static", "60x64"], 2, "error: SettingsError: --static is '60x64'"),
        (["--max-memory", "much"], 2, "error: SettingsError: 'much' is not a size of memory"),
        ([*OPTIONS, "--max-memory", "100MB"], 1, "error: MemoryBudgetError: "),
        (["--static", "64"], 2, "error: SettingsError: --static is '64'"),
        (["--t1", "half"], 2, "error: SettingsError: "),
        (["--unknown"], 2, "error: SettingsError: "),
        ([*OPTIONS, "--t1", "333"], 1, "error: ConfigError: --t1 is 333"),
        ([*OPTIONS[:4]], 1, "error: ContextError: "),
        ([*OPTIONS[:2]], 1, "error: ConfigError: "),
    ],
)
def test_errors_are_one_line(tmp_path, arguments, code, said):
    out = tmp_path / "bundle"
    no_gpu = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = command_line(*arguments, "--quiet", "--out", out, env=no_gpu)
    assert done.returncode == code
    assert done.stderr.startswith(said), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_traceback(tmp_path):
    done = command_line("--checkpoint", tmp_path / "none.ckpt", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "CheckpointNotFoundError" in done.stderr.splitlines()[-1]


class Terminal:
    def __init__(self, terminal):
        self.terminal, self.text = terminal, ""

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.mark.parametrize("terminal", [True, False])
def test_progress(terminal):
    stream = Terminal(terminal)
    with Progress(stream) as progress:
        progress.stage("encode: exporting", 0.0)
        progress.stage("decode: exporting", 0.5)
    assert "encode: exporting" in stream.text
    assert "about 0:00 left" in stream.text
    assert ("\x1b" in stream.text) == terminal
    assert stream.text.count("\n") == (0 if terminal else 2)


def test_manifest_is_plain_json(mini_bundle):
    manifest = json.loads((mini_bundle / "manifest.json").read_text())
    assert "/" not in manifest["checkpoint"]["file"]
    assert str(REPOSITORY) not in json.dumps(manifest)
    assert set(manifest["graphs"]["denoise"]["spec"]) >= {"inputs", "outputs"}
    assert graphs.DENOISE.name in manifest["graphs"]
