"""Building through TensorRT's stand-in: what is told to the library, and what is made of what it answers. That the real
builder takes it is shown by tests/parity/test_tensorrt.py, where there is one.
"""

import dataclasses
import enum
import gc
import json
import signal
import threading
import time

import onnx
import pytest
from onnx import helper

from benchmarks.trt_plan import main
from engines.errors import EngineBuildError, EngineUnavailableError, OutputNotWritableError
from engines.profiles import parse_profile
from engines.trt_bundle import build_engines
from engines.trt_options import PlanOptions
from engines.trt_plans import PLANS, find_plans, read_plans
from tests.tensorrt_standin import GPU, VERSION, faults

OPTIONS = PlanOptions(profiles=(parse_profile("16x16"), parse_profile("1x8x8:1x16x16:2x24x24")))


def silent(_what, _done):
    pass


def build(bundle, options=OPTIONS, **settings):
    return build_engines(bundle, 0, options, watch=settings.pop("watch", silent), **settings)


def left(bundle):
    """What stands in the folder of plans."""
    folder = bundle.folder / PLANS
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_every_graph_is_built_as_the_recipe_says(standin, bundle):
    plans = build(bundle, workspace_limit=5 << 30)
    assert [built["onnx"] for built in faults.builds] == [
        str(bundle.path(entry.file).resolve()) for entry in bundle.manifest.graphs.values()
    ]
    assert all(built["flags"] == [] for built in faults.builds), "no TF32, nothing else"
    assert {built["workspace"][0] for built in faults.builds} == {5 << 30}
    folder, found = find_plans(bundle, plans.machine)
    assert found == plans == read_plans(folder)
    assert left(bundle) == [plans.key]
    assert plans.machine.gpu == GPU
    assert plans.machine.tensorrt == VERSION
    assert plans.driver == "580.95.05"
    assert sorted(path.name for path in folder.iterdir()) == [
        "decode.plan",
        "denoise.plan",
        "encode.plan",
        "manifest.json",
        "preprocess.plan",
    ]


def test_profiles_are_those_of_each_graph(standin, bundle):
    plans = build(bundle)
    notes = {name: note_of(bundle, plans, name) for name in bundle.manifest.graphs}
    assert notes["preprocess"]["profiles"] == [
        {"image": [[1, 3, 32, 32]] * 3},
        {"image": [[1, 3, 16, 16], [1, 3, 32, 32], [2, 3, 48, 48]]},
    ]
    assert notes["decode"]["profiles"][1] == {"latent": [[1, 4, 8, 8], [1, 4, 16, 16], [2, 4, 24, 24]]}
    assert notes["denoise"]["profiles"][0].keys() == {"latent", "condition"}, "inputs without dynamic axes have none"


def note_of(bundle, plans, graph):
    return json.loads((bundle.folder / PLANS / plans.key / f"{graph}.plan").read_bytes().partition(b"\n")[2])


def test_one_static_size_is_the_networks_own(standin, bundle):
    plans = build(bundle, PlanOptions(profiles=(parse_profile("2x16x24"),)))
    for name, inputs in {
        "preprocess": {"image": [2, 3, 32, 48]},
        "decode": {"latent": [2, 4, 16, 24]},
        "denoise": {
            "latent": [2, 4, 16, 24],
            "condition": [2, 4, 16, 24],
            "timestep": [1],
            "control_scale": [1],
        },
    }.items():
        note = note_of(bundle, plans, name)
        assert (note["inputs"], note["profiles"]) == (inputs, [])
    plans = build(bundle, PlanOptions(profiles=(parse_profile("16x24"), parse_profile("2x16x24"))))
    note = note_of(bundle, plans, "decode")
    assert (note["inputs"], len(note["profiles"])) == ({"latent": [-1, 4, -1, -1]}, 2)


def test_ranges_ask_for_memory_by_shape_where_the_library_can(standin, bundle, monkeypatch):
    build(bundle)
    assert {tuple(b["previews"]) for b in faults.builds} == {("RUNTIME_ACTIVATION_RESIZE_10_10",)}
    faults.builds.clear()
    build(bundle, PlanOptions(profiles=OPTIONS.profiles[:1]))
    monkeypatch.setattr(standin, "PreviewFeature", enum.IntEnum("PreviewFeature", "ALIASED_PLUGIN_IO_10_03"))
    build(bundle)
    assert {tuple(b["previews"]) for b in faults.builds} == {()}


def test_a_static_graph_needs_no_profile(standin, bundle):
    path = bundle.path("onnx/decode/model.onnx")
    model = onnx.load(path)
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 4, 16, 16), strict=True):
        dim.dim_value = size
    onnx.save(model, path)
    plans = build(bundle, PlanOptions(profiles=(parse_profile("16x16"), parse_profile("1x8x8:1x16x16:1x16x16"))))
    assert note_of(bundle, plans, "decode")["profiles"] == []


@pytest.mark.parametrize(
    ("options", "flags", "level", "hardware"),
    [
        ({"version_compatible": True}, ["VERSION_COMPATIBLE"], 3, "NONE"),
        ({"weight_streaming": True, "optimization_level": 5}, ["WEIGHT_STREAMING"], 5, "NONE"),
        ({"strip_weights": True}, ["REFIT_IDENTICAL", "STRIP_PLAN"], 3, "NONE"),
        ({"hardware_compatible": "ampere+"}, [], 3, "AMPERE_PLUS"),
        ({"hardware_compatible": "same-cc"}, [], 3, "SAME_COMPUTE_CAPABILITY"),
    ],
)
def test_options_become_flags(standin, bundle, options, flags, level, hardware):
    build(bundle, dataclasses.replace(OPTIONS, **options))
    assert {(tuple(b["flags"]), b["level"], b["hardware"]) for b in faults.builds} == {(tuple(flags), level, hardware)}


def test_the_workspace_follows_free_memory(standin, bundle):
    gib = 1 << 30
    for free, expected in ((140 * gib, 126 * gib), (4 * gib, 3 * gib), (gib, 256 << 20), (None, None)):
        faults.free = free
        faults.builds.clear()
        build(bundle)
        assert {tuple(b["workspace"]) for b in faults.builds} == {(expected,) if expected else ()}


def with_attention(bundle):
    """The bundle's denoise graph gets an Attention node, on the side."""
    path = bundle.path("onnx/denoise/model.onnx")
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Attention", ["latent"] * 3, ["attended"], "attend"))
    onnx.save(model, path)


def test_attention_is_decomposable(standin, bundle):
    with_attention(bundle)
    faults.attention_needs_decomposing = True
    build(bundle)


def test_parser_errors_name_node_operator_and_fix(standin, bundle):
    faults.parser_errors = [
        ("/down/conv", "Conv", "weights are missing"),
        ("/x", "Frob", "No importer registered for op"),
    ]
    with pytest.raises(EngineBuildError) as raised:
        build(bundle)
    text = str(raised.value)
    assert f"TensorRT {VERSION} cannot read graph preprocess" in text
    assert "node /x (Frob): No importer registered for op (this TensorRT does not know the operator: update it" in text
    assert "node /down/conv (Conv): weights are missing" in text
    assert left(bundle) == []


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        (["Could not find any implementation for node {x}."], r"for node \{x\}\. \(no kernel does this .* --workspace"),
        (
            ["Some error", "[virtualMemoryBuffer.cpp] OutOfMemory (Requested size was 1)"],
            r"build graph preprocess: .*Out",
        ),
        (["something new"], "cannot build graph preprocess: something new"),
    ],
)
def test_a_failed_build_is_told_with_its_words_and_the_fix(standin, bundle, errors, message):
    faults.build_errors = errors
    with pytest.raises(EngineBuildError, match=message):
        build(bundle)
    assert left(bundle) == []


def test_a_build_that_says_nothing(standin, bundle, monkeypatch):
    from tests.tensorrt_standin.building import Builder

    monkeypatch.setattr(Builder, "build_serialized_network", lambda *_: None)
    with pytest.raises(EngineBuildError, match="it does not say why; run again with --optimization-level 4"):
        build(bundle)


def test_a_wrong_dtype_is_refused(standin, bundle):
    faults.wrong_dtype = {"output": "HALF"}
    with pytest.raises(EngineBuildError, match=r"output of the engine of graph denoise is HALF .* expected FLOAT of 4"):
        build(bundle)
    assert not (bundle.folder / PLANS / find_key(bundle)).exists()


def find_key(bundle):
    from engines.trt_library import machine
    from engines.trt_plans import planned

    return planned(bundle, machine(0), OPTIONS).key


def test_a_plan_that_cannot_be_opened_again(standin, bundle):
    faults.cannot_open = "Serialization assertion failed"
    with pytest.raises(EngineBuildError, match=r"built graph preprocess and cannot open it: .*build it again"):
        build(bundle)


def test_a_refused_profile(standin, bundle):
    faults.refuse_profile = True
    with pytest.raises(EngineBuildError, match=r"refuses the profile 1x16x16 for graph preprocess"):
        build(bundle)


def test_shapes_that_a_profile_does_not_take(standin, bundle):
    faults.refused = {"set_shape": "Error in set shape: must satisfy min <= opt <= max"}
    with pytest.raises(EngineBuildError, match=r"refuses the profile 1x16x16 for graph .*; pass another --profile"):
        build(bundle)


@pytest.mark.parametrize(("kind", "what"), [("Builder", "builder"), ("OnnxParser", "parser"), ("Runtime", "runtime")])
def test_objects_that_are_not_made(standin, bundle, kind, what):
    faults.not_made = {kind: "Unable to load library: libnvinfer_builder_resource.so.11"}
    with pytest.raises(EngineBuildError, match=rf"makes no {what}: Unable to load library: .* free memory"):
        build(bundle)
    assert left(bundle) == []


def test_one_graph_alone(standin, bundle, capsys):
    assert main([str(bundle.folder), "decode", "--profile", "16x16"]) == 0
    (built,) = faults.builds
    assert (built["onnx"], built["level"]) == (str(bundle.path("onnx/decode/model.onnx").resolve()), 1)
    assert capsys.readouterr().out.startswith(f"decode on {GPU} (9.0) with TensorRT {VERSION}: ")
    faults.build_errors = ["Could not find any implementation for node {x}."]
    assert main([str(bundle.folder), "decode", "--profile", "16x16"]) == 1
    assert capsys.readouterr().out.startswith("error: EngineBuildError: TensorRT")
    assert left(bundle) == []


def test_the_lean_runtime_builds_nothing(lean_standin, bundle):
    with pytest.raises(EngineUnavailableError, match="lean runtime of TensorRT builds no engines; run `pip install"):
        build(bundle)
    assert left(bundle) == []


def test_harmless_messages_are_summed_up_and_others_kept(standin, bundle):
    faults.warnings = ["Skipping tactic 0x1 due to insufficient memory on requested size of 9"] * 3 + ["Odd thing"]
    plans = build(bundle)
    assert plans.graphs["decode"].messages == ("tactics were skipped (3 messages)", "Odd thing")


def test_progress_goes_up_to_the_end(standin, bundle):
    told = []
    build(bundle, watch=lambda what, done: told.append((what, done)))
    parts = [done for _, done in told]
    assert parts == sorted(parts)
    assert parts[0] >= 0
    assert parts[-1] == pytest.approx(1.0)
    assert any(what.startswith("denoise: Timing Graph") for what, _ in told)


def test_what_the_watcher_raises_ends_the_build(standin, bundle):
    def watch(what, _done):
        if "Timing" in what:
            raise ZeroDivisionError("the terminal went away")

    with pytest.raises(ZeroDivisionError):
        build(bundle, watch=watch)
    gc.collect()
    faults.freed_elsewhere.clear()  # the stand-in's own frames, which the error holds and a real builder does not have
    assert left(bundle) == []


def test_ctrl_c_ends_the_build_and_keeps_what_is_finished(standin, bundle):
    pressed = []

    def watch(what, _done):
        if what == "decode: Timing Graph" and not pressed:
            assert threading.current_thread() is not threading.main_thread()
            pressed.append(what)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.3)  # until the other thread has it

    with pytest.raises(KeyboardInterrupt):
        build(bundle, watch=watch)
    (part,) = left(bundle)
    assert part.startswith(".")
    assert sorted(path.name for path in (bundle.folder / PLANS / part).glob("*.plan")) == [
        "denoise.plan",
        "encode.plan",
        "preprocess.plan",
    ]
    before = len(faults.builds)
    told = []
    plans = build(bundle, watch=lambda what, _done: told.append(what))
    assert len(faults.builds) == before + 1, "decode alone"
    assert "denoise: kept from the build before" in told
    assert left(bundle) == [plans.key]


def test_a_damaged_rest_is_not_used_again(standin, bundle):
    def check(graph, _plan):
        if graph == "denoise":
            raise EngineBuildError("wrong")
        return {}

    with pytest.raises(EngineBuildError, match="wrong"):
        build(bundle, check=check)
    (part,) = left(bundle)
    (bundle.folder / PLANS / part / "encode.plan").write_bytes(b"something else")
    before = len(faults.builds)
    build(bundle)
    assert len(faults.builds) - before == 3, "all but preprocess"


def test_checks_are_kept_with_the_plan(standin, bundle):
    plans = build(bundle, check=lambda graph, plan: {"graph": graph, "size": plan.stat().st_size})
    for name, record in plans.graphs.items():
        assert record.verification == {"graph": name, "size": record.size}


def test_two_builds_of_one_key(standin, bundle):
    def watch(what, _done):
        if what == "encode: TensorRT":
            with pytest.raises(EngineBuildError, match="another process builds the same engines"):
                build(bundle)

    plans = build(bundle, watch=watch)
    assert left(bundle) == [plans.key]


def test_a_second_build_takes_the_place_of_the_first(standin, bundle):
    first = build(bundle)
    (bundle.folder / PLANS / first.key / "mark").touch()
    build(bundle)
    assert left(bundle) == [first.key]
    assert not (bundle.folder / PLANS / first.key / "mark").exists()


def test_a_full_disk_is_named_before_the_build(standin, bundle, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage)
    with pytest.raises(OutputNotWritableError, match=r"has 1000 bytes free, the engines need about .* --strip-weights"):
        build(bundle)
    assert faults.builds == []


def test_a_bundle_that_cannot_be_written(standin, bundle):
    (bundle.folder / "engines").write_text("in the way")
    with pytest.raises(OutputNotWritableError, match="cannot write engines into"):
        build(bundle)


def test_the_timing_cache_serves_the_next_build(standin, bundle, tmp_path):
    build(bundle)
    (cache,) = (tmp_path / "cache" / "tensorrt").glob("*.cache")
    assert cache.name == "timing-stand-in-h200-sm90-11.4.0.26.cache"
    assert faults.builds[0]["cached"] == []
    faults.builds.clear()
    build(bundle)
    assert faults.builds[0]["cached"]
    faults.builds.clear()
    build(bundle, timing_cache=False)
    assert faults.builds[0]["cached"] is None


@pytest.mark.parametrize("ends", ["by an error", "by who watches"])
def test_the_times_of_a_build_that_fails_are_kept(standin, bundle, tmp_path, ends):
    def watch(what, _done):
        if ends == "by who watches" and "Timing" in what:
            raise KeyboardInterrupt

    faults.build_errors = ["Some error"] if ends == "by an error" else []
    with pytest.raises((EngineBuildError, KeyboardInterrupt)):
        build(bundle, watch=watch)
    gc.collect()
    faults.freed_elsewhere.clear()  # see test_what_the_watcher_raises_ends_the_build
    (cache,) = (tmp_path / "cache" / "tensorrt").glob("*.cache")
    assert json.loads(cache.read_bytes())[1], "the times of the first graph, in which it ended"


@pytest.mark.parametrize("content", [b"no cache", b'["10.0.0", {"old": 1.0}]'])
def test_a_timing_cache_that_does_not_fit_is_made_anew(standin, bundle, tmp_path, content, caplog):
    build(bundle)
    (cache,) = (tmp_path / "cache" / "tensorrt").glob("*.cache")
    cache.write_bytes(content)
    faults.builds.clear()
    build(bundle)
    assert "does not fit this GPU or TensorRT; it is made anew" in caplog.text
    version, times = json.loads(cache.read_bytes())
    assert version == VERSION
    assert "old" not in times


def test_a_timing_cache_that_cannot_be_written_is_told(standin, bundle, tmp_path, caplog):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "tensorrt").write_text("in the way")
    build(bundle)
    assert "cannot be written" in caplog.text
