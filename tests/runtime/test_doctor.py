"""`dossr doctor` as a process: on this machine, with stand-in drivers, with libraries that are missing or broken."""

import json
import os
import subprocess
import sys
import time

import pytest

from engines.errors import EngineError
from runtime.doctor.checks import CHECKS, run_check
from runtime.doctor.cli import _error
from runtime.doctor.findings import Asked, Finding, Mark, Remedy
from runtime.doctor.libraries import native_finding, provider_finding, reason_of, replacing, tensorrt_finding
from runtime.doctor.machine import driver
from runtime.doctor.model import verdict_finding
from runtime.doctor.probing import Answer, Probes
from runtime.doctor.screen import WIDTH, lines, remedies, report
from tests.nvidia_standin import build_driver, needs_gcc, with_driver
from tests.paths import REPOSITORY
from tests.tiny import write_tiny_bundle

BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name in {blocked}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Blocked())
"""
LOG = (
    "\x1b[1;31m2026-11-24 02:14:02.938611100 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] "
    "provider_bridge_ort.cc:2043 onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : "
    "FAIL : Failed to load library libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared "
    "object file: No such file or directory\n\x1b[m\n\x1b[0;93m2026-11-24 02:14:02.938654895 [W:onnxruntime:Default, "
    "onnxruntime_pybind_state.cc:1295 CreateExecutionProviderFactoryInstance] Failed to create CUDAExecutionProvider. "
    "Require cuDNN 9.* and CUDA 13.*. Please install all dependencies as mentioned in the GPU requirements page.\x1b[m"
)
"""As onnxruntime-gpu 1.31.1 wrote it on a machine without CUDA."""


def doctor(*arguments, environment=None, module="runtime.doctor"):
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=120,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"} | (environment or {}),
    )


def examined(*arguments, environment=None, code=0):
    """The report of `--json`, once its exit code and its error line are what they should be."""
    done = doctor(*arguments, "--json", environment=environment)
    assert done.returncode == code, done.stderr
    assert len(done.stderr.splitlines()) == (code != 0), done.stderr
    found = json.loads(done.stdout)
    assert found["runs"] == (code == 0)
    assert not [key for key in found["findings"] if key.endswith(".failed")], found
    return found, done.stderr


def first_on_path(folder, files):
    """Environment of a child that imports these before anything that is installed."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}


def without(folder, *modules):
    return first_on_path(folder, {"sitecustomize.py": BLOCK.format(blocked=modules)})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def gpus(tmp_path_factory):
    return build_driver(tmp_path_factory.mktemp("driver"))


def test_this_machine_on_one_screen():
    begin = time.perf_counter()
    done = doctor("--device", "cpu")
    seconds = time.perf_counter() - begin
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    screen = done.stdout.splitlines()
    assert len(screen) <= 30
    assert all(len(line) <= WIDTH for line in screen[: screen.index("")])
    assert "\x1b" not in done.stdout
    [run] = [line for line in screen if line.startswith("✓ run ")]
    assert "CPUExecutionProvider" in run
    assert "✓ provider.cpu" in done.stdout
    assert seconds < 20, "3 on an idle machine"


def test_json_has_the_same_keys_everywhere():
    found, _ = examined("--device", "cpu")
    assert found["schema"] == 1
    always = {"system", "driver", "onnxruntime", "provider.cpu", "tensorrt", "tensorrt_lean", "package", "native"}
    assert always | {"bundle", "engines", "memory", "run"} <= found["findings"].keys()
    assert all(entry.keys() == {"mark", "text", "facts"} for entry in found["findings"].values())
    assert {entry["mark"] for entry in found["findings"].values()} <= {"ok", "warning", "missing"}
    facts = found["findings"]["run"]["facts"]
    assert facts["engine"] == "onnxruntime"
    assert facts["asked_engine"] == "auto"
    assert facts["opened"].endswith("CPUExecutionProvider")
    assert found["findings"]["native"]["facts"].keys() >= {"version", "file", "cuda", "architectures", "error"}
    bundle = found["findings"]["bundle"]["facts"]
    assert bundle["demo"] is True
    assert bundle["precision"] == "fp16"
    assert bundle["largest"] == [8192, 8192]
    assert all(remedy.keys() == {"aim", "command", "needed"} for remedy in found["remedies"])


def test_what_is_asked_for_and_cannot_run_is_the_runtimes_own_error():
    done = doctor("--engine", "tensorrt", environment={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 1
    assert done.stderr.startswith("error: EngineUnavailableError: ")
    assert "NVIDIA" in done.stderr
    assert "! run " in done.stdout
    found, error = examined("--device", "dml", code=1)
    assert "DmlExecutionProvider" in error
    assert error.removeprefix("error: ").strip() in found["findings"]["run"]["text"]
    assert doctor("--engine", "torch").returncode == 2


def test_the_command_is_listed():
    call = [sys.executable, "-c", "import sys; from runtime.dossr import main; sys.exit(main())"]
    options = {"cwd": REPOSITORY, "capture_output": True, "text": True, "check": False}
    assert "\n  doctor " in subprocess.run([*call, "--help"], **options).stdout
    assert "upscale, doctor, bench" in subprocess.run([*call, "docter"], **options).stderr
    assert "usage: dossr doctor" in subprocess.run([*call, "doctor", "--help"], **options).stdout


@needs_gcc
def test_two_gpus(gpus):
    entries = examined("--device", "cpu", environment=with_driver(gpus))[0]["findings"]
    assert entries["driver"]["text"] == "NVIDIA driver 580.95.05, CUDA 13.0"
    assert entries["driver"]["facts"]["new_enough"] is True
    assert entries["gpu.0"]["text"].startswith(
        "cuda:0 Stand-in H100, compute capability 9.0, 79.0 GiB of 80.0 GiB free"
    )
    assert entries["gpu.1"]["facts"]["memory"] == 16 << 30


@needs_gcc
def test_a_driver_that_is_too_old(gpus):
    found, _ = examined("--device", "cpu", environment=with_driver(gpus, cuda=12080) | {"CUDA_VISIBLE_DEVICES": "0,1"})
    text = found["findings"]["driver"]["text"]
    assert "CUDA 12.8; CUDA_VISIBLE_DEVICES=0,1; too old for CUDA 13.0, which needs release 580" in text
    assert found["findings"]["driver"]["mark"] == "warning"
    assert "update NVIDIA's driver" in found["remedies"][0]["command"]


@needs_gcc
def test_a_driver_without_gpus(gpus):
    found, _ = examined("--device", "cpu", environment=with_driver(gpus, init=100))
    assert "cuInit fails with CUDA_ERROR_NO_DEVICE (100)" in found["findings"]["driver"]["text"]
    assert found["findings"]["driver"]["mark"] == "warning"
    assert found["remedies"][0] == {
        "aim": "an NVIDIA GPU",
        "command": "check CUDA_VISIBLE_DEVICES and `nvidia-smi`, in a container start it with `--gpus all`",
        "needed": False,
    }


@needs_gcc
def test_a_driver_that_crashes_is_a_finding(tmp_path):
    source = "#include <stdlib.h>\nint cuInit(unsigned f) { (void)f; abort(); }"
    command = ["gcc", "-x", "c", "-", "-shared", "-fPIC", "-o", str(tmp_path / "libcuda.so.1")]
    subprocess.run(command, input=source, text=True, check=True)
    found, _ = examined("--device", "cpu", environment=with_driver(tmp_path))
    assert "crashes the process (SIGABRT)" in found["findings"]["driver"]["text"]


def test_without_onnxruntime(tmp_path):
    found, error = examined(environment=without(tmp_path, "onnxruntime"), code=1)
    assert error.startswith(
        "error: EngineUnavailableError: ONNX Runtime does not import (No module named 'onnxruntime')"
    )
    assert "ONNX Runtime does not import" in found["findings"]["onnxruntime"]["text"]
    assert found["remedies"][0]["command"].startswith("pip install 'dossr-deploy[cpu]'")
    assert found["remedies"][0]["needed"] is True
    assert "provider.cpu" not in found["findings"]


def test_without_the_compiled_module(tmp_path):
    found, error = examined(environment=without(tmp_path, "runtime._native"), code=1)
    assert "runtime._native does not import (No module named 'runtime._native')" in error
    assert found["findings"]["native"]["mark"] == "missing"
    assert found["remedies"][0]["aim"] == "the compiled module"
    assert found["findings"]["provider.cpu"]["mark"] == "ok"


def test_a_library_that_crashes_on_import_is_a_finding(tmp_path):
    stand_in = {"tensorrt/__init__.py": "import os; os.abort()", "tensorrt_lean.py": "raise OSError('no libnvinfer')"}
    found, _ = examined("--device", "cpu", environment=first_on_path(tmp_path, stand_in))
    assert found["findings"]["tensorrt"]["text"] == "TensorRT: importing tensorrt crashes the process (SIGABRT)"
    assert found["findings"]["tensorrt_lean"]["text"] == "TensorRT lean does not import (OSError: no libnvinfer)"


def test_an_onnxruntime_that_crashes_ends_nothing_but_its_probes(tmp_path):
    stand_in = {"onnxruntime.py": "import os; os.abort()"}
    found, error = examined(environment=first_on_path(tmp_path, stand_in), code=1)
    assert error == "error: EngineError: the runtime crashes the process (SIGABRT)\n"
    assert found["findings"]["onnxruntime"]["text"] == "ONNX Runtime crashes the process (SIGABRT)"
    assert found["findings"]["bundle"]["mark"] == "ok"


def test_a_library_that_ends_the_process(tmp_path):
    stand_in = {"tensorrt.py": "import os, sys; print('no licence', file=sys.stderr, flush=True); os._exit(3)"}
    found, _ = examined("--device", "cpu", environment=first_on_path(tmp_path, stand_in))
    assert "importing tensorrt ended the process with code 3: no licence" in found["findings"]["tensorrt"]["text"]


def test_a_library_that_hangs(tmp_path, monkeypatch):
    (tmp_path / "tensorrt.py").write_text("import time; time.sleep(60)")
    monkeypatch.syspath_prepend(str(tmp_path))
    with Probes(seconds=1.5) as probes:
        assert probes.answer("tensorrt", "tensorrt").message == "gave no answer in 1.5 s"


def test_leaving_the_probes_ends_what_still_runs(tmp_path, monkeypatch):
    (tmp_path / "tensorrt.py").write_text("import time; time.sleep(60)")
    monkeypatch.syspath_prepend(str(tmp_path))
    begin = time.perf_counter()
    with Probes() as probes:
        probes.start("tensorrt", "tensorrt")
    assert time.perf_counter() - begin < 10


def test_two_packages_of_onnxruntime_in_one_place(tmp_path):
    packages = {
        f"{name.replace('-', '_')}-1.31.1.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.31.1\n"
        for name in ("onnxruntime", "onnxruntime-gpu")
    }
    found, _ = examined("--device", "cpu", environment=first_on_path(tmp_path, packages))
    assert found["findings"]["onnxruntime"]["mark"] == "warning"
    assert "(onnxruntime, onnxruntime-gpu)" in found["findings"]["onnxruntime"]["text"]
    assert "overwrite each other's files" in found["findings"]["onnxruntime"]["text"]
    [remedy] = [one for one in found["remedies"] if one["aim"] == "one ONNX Runtime"]
    assert remedy["command"].startswith("pip uninstall -y onnxruntime onnxruntime-gpu; pip install 'onnxruntime-gpu[")


def test_what_is_replaced_is_removed_first():
    assert replacing({"onnxruntime": "1.32.0"}, "pip install x") == "pip uninstall -y onnxruntime; pip install x"
    assert replacing({}, "pip install x") == "pip install x"


def test_a_bundles_words_do_not_steer_the_terminal():
    [line] = lines([Finding(key="bundle", mark=Mark.OK, text="forms for \x1b[2Jcpu\n")], "utf-8")
    assert line == "✓ bundle  forms for  [2Jcpu"


def test_a_named_bundle(tiny):
    entry = examined("--bundle", tiny, "--device", "cpu")[0]["findings"]["bundle"]
    assert entry["text"].startswith(f"{tiny}: fp32, 4 graphs, ")
    assert "canonical form only; not verified" in entry["text"]
    assert "hashes not checked" in entry["text"]
    from_environment = examined("--device", "cpu", environment={"DOSSR_BUNDLE": str(tiny)})[0]["findings"]["bundle"]
    assert f"{tiny} ($DOSSR_BUNDLE): " in from_environment["text"]


def test_a_static_bundle_and_a_verdict(tmp_path):
    folder = write_tiny_bundle(tmp_path / "static", static=(16, 24))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["verified"] = {"engines": {"onnxruntime-cpu": {"passed": False, "ran": True}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    entries = examined("--bundle", folder, "--device", "cpu", "--check")[0]["findings"]
    assert "one shape: pictures up to 48x32" in entries["bundle"]["text"]
    assert "verify found it wrong" in entries["bundle"]["text"]
    assert "hashes right" in entries["bundle"]["text"]
    assert entries["bundle"]["mark"] == "warning"
    assert entries["engines"]["text"] == "no TensorRT engines in the bundle"


def test_broken_bundles(tmp_path):
    found, error = examined("--bundle", tmp_path / "none", code=1)
    assert error.startswith("error: BundleNotFoundError: no bundle at ")
    assert found["findings"]["bundle"]["text"].startswith("BundleNotFoundError: ")
    assert found["findings"]["memory"]["facts"].keys() == {"available"}
    assert found["remedies"][0]["aim"] == "a bundle"
    folder = write_tiny_bundle(tmp_path / "damaged")
    file = folder / "onnx" / "decode" / "model.onnx"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    examined("--bundle", folder, "--device", "cpu")  # only its hash tells
    assert "BundleHashError" in examined("--bundle", folder, "--check", code=1)[1]
    file.write_bytes(data[:-1])
    assert "BundleHashError" in examined("--bundle", folder, code=1)[1]
    (folder / "manifest.json").write_text("[")
    assert "BundleSchemaError" in examined("--bundle", folder, code=1)[1]


def test_a_check_that_fails_is_a_line():
    def check(_asked, _probes):
        yield Finding(key="good", mark=Mark.OK, text="fine")
        raise ZeroDivisionError("by\nzero")

    with Probes() as probes:
        found = run_check("bad", check, Asked(bundle=REPOSITORY), probes)
    assert [one.key for one in found] == ["good", "bad.failed"]
    assert found[1].text == "the check bad failed (ZeroDivisionError: by zero); please report this"
    assert set(CHECKS) >= {"system", "driver", "run"}


def test_a_probe_that_breaks_is_no_driver(monkeypatch):
    """An answer that is no error of ours: the probe itself is at fault."""
    with Probes() as probes:
        monkeypatch.setattr(probes, "answer", lambda *_: Answer(error="KeyError", message="'x'"))
        [found] = driver(Asked(bundle=REPOSITORY), probes)
    assert found.text == "asking the NVIDIA driver KeyError 'x'"


def test_the_reason_is_found_in_onnxruntimes_log():
    found = provider_finding("cuda", Answer(error="EngineUnavailableError", message="did not load", log=LOG))
    missing = "libcublasLt.so.13: cannot open shared object file: No such file or directory"
    assert found.text == f"CUDAExecutionProvider does not load: {missing}"
    assert found.remedies[0].command == "pip install 'onnxruntime-gpu[cuda,cudnn]'"
    assert reason_of(Answer(log=LOG.partition("\n")[2], error="E")) == "Require cuDNN 9.* and CUDA 13.*"
    failure = "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=-1"
    assert reason_of(Answer(error="EngineError", message=f"cannot open: {failure}")).startswith(
        "CUDA failure 35: CUDA dri"
    )
    ours = (
        "CUDAExecutionProvider of ONNX Runtime 1.31.1 did not load: libcublas.so.13: no such file; run `pip`, or use it"
    )
    assert reason_of(Answer(error="EngineUnavailableError", message=ours)) == "libcublas.so.13: no such file"
    assert reason_of(Answer(error="EngineUnavailableError", message="no driver; install it")) == "no driver"
    assert reason_of(Answer(error="EngineError", message="in no known words")) == "in no known words"
    assert reason_of(Answer(message="crashes the process (SIGSEGV)")) == "crashes the process (SIGSEGV)"


def test_the_compiled_module_with_cuda():
    facts = {"version": "0.1.0", "file": "/x/_native.so", "cuda": [13, 0], "architectures": ["sm_80", "sm_90"]}
    found = native_finding(Answer(facts=facts), "0.1.0")
    assert found.text == "compiled module 0.1.0 in _native.so, CUDA 13.0 linked in, for sm_80, sm_90"
    assert (found.mark, found.remedies) == (Mark.OK, ())
    stale = native_finding(Answer(facts=facts), "0.2.0")
    assert stale.text.endswith("; the package is 0.2.0")
    assert stale.remedies[0].aim == "a compiled module of this version"
    failed = native_finding(Answer(facts=facts, error="CudaError", message="driver too old"), None)
    assert failed.mark is Mark.WARNING
    assert failed.text.endswith("; driver too old")
    assert native_finding(Answer(message="crashes the process (SIGILL)"), None).text.startswith(
        "the compiled module cr"
    )


def test_tensorrt_that_is_there():
    facts = {"version": "11.4", "file": "/x", "builder": True, "libraries": ["/x/libnvinfer.so.11"]}
    found = tensorrt_finding("tensorrt", "TensorRT", Answer(facts=facts))
    assert found.text.startswith("TensorRT 11.4 (builds and runs engines), libnvinfer.so.11")
    assert found.mark is Mark.OK


def test_the_verdict_says_why():
    cuda, cpu = "onnxruntime 1.31.1, CUDAExecutionProvider", "onnxruntime 1.31.1, CPUExecutionProvider"
    ort = Answer(facts={"providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]})
    asked = Asked(bundle=REPOSITORY / "runtime" / "demo")
    ran = {"engine": "onnxruntime", "prepared": cuda}
    fell = verdict_finding(asked, Answer(facts=ran | {"opened": cpu}), ort, Answer())
    assert fell.mark is Mark.WARNING
    assert fell.text.startswith(f"{cpu}, bundle demo (")
    assert "CUDAExecutionProvider was chosen first, and does not load" in fell.text
    loads = verdict_finding(asked, Answer(facts=ran | {"opened": f"{cuda} on cuda:0"}), ort, Answer())
    assert (loads.mark, loads.facts["why"][1]) == (Mark.OK, "there is a GPU, and CUDA loads")
    ran = Answer(facts={"engine": "onnxruntime", "prepared": cpu, "opened": cpu})
    plain = Answer(facts={"providers": ["CPUExecutionProvider"]})
    idle = verdict_finding(asked, ran, plain, Answer(facts={"gpus": [{}]}))
    assert (idle.mark, idle.facts["why"][1]) == (Mark.WARNING, "there is a GPU, but this ONNX Runtime has no CUDA")
    none = verdict_finding(asked, ran, plain, Answer(error="EngineUnavailableError", message="no driver"))
    assert (none.mark, none.facts["why"][1]) == (Mark.OK, "no NVIDIA GPU was found")
    refused = verdict_finding(asked, ran, ort, Answer(facts={"gpus": [{}]}))
    assert refused.facts["why"][1] == "there is a GPU, but ONNX Runtime's CUDA does not load"
    compiled = verdict_finding(asked, Answer(facts={"engine": "other", "prepared": "other 1"}), plain, Answer())
    assert compiled.text.startswith("other 1, bundle demo")


def test_an_error_that_is_not_ours_is_named():
    assert str(_error(Answer(error="KeyError", message="'x'"))) == "KeyError: 'x'"
    assert type(_error(Answer(error="KeyError", message="'x'"))) is EngineError


def test_a_terminal_that_shows_ascii_alone():
    found = [
        Finding(key="a", mark=Mark.OK, text="größer"),
        Finding(key="run", mark=Mark.MISSING, text="words " * 30),
    ]
    text = lines(found, "ascii")
    assert text[0] == "+ a    gr\\xf6\\xdfer"
    assert text[1].startswith("- run  words")
    assert text[2].startswith("       words")
    assert lines(found, "utf-8")[0] == "✓ a    größer"
    assert lines(found, "utf-8", bold=True)[1].startswith("\x1b[1m– run")
    done = doctor("--device", "cpu", environment={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert "+ run " in done.stdout


def test_remedies_are_told_once_and_the_needed_ones_first():
    a, b = (Remedy(aim=name, command=name, needed=name == "b") for name in "ab")
    found = [
        Finding(key="x", mark=Mark.MISSING, text="", remedies=(a, b)),
        Finding(key="y", mark=Mark.OK, text="", remedies=(a,)),
    ]
    assert [one.aim for one in remedies(found)] == ["b", "a"]
    assert lines(found, "ascii")[-3:] == ["to get", "  b  b", "  a  a"]
    assert report(found, runs=True)["remedies"][0] == {"aim": "b", "command": "b", "needed": True}
