"""benchmarks/gpu.sh without a GPU, and with stand-ins for nvidia-smi, the compiler and what it runs; the packing and
joining of what is carried, for real.
"""

import hashlib
import os
import re
import subprocess
import sys
import tarfile

import pytest

from tests.paths import REPOSITORY

SCRIPT = REPOSITORY / "benchmarks" / "gpu.sh"
FULL_SIZE = REPOSITORY / "benchmarks" / "full_size.sh"
PYTHON = """#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in
  *"-m pytest"*"not full_size"*) echo "the first line"; echo "1 failed"; exit 1;;
  *"-m pytest"*"gpu and full_size"*) echo "SKIPPED [2] no wheel"; echo "2 skipped";;
  *"-m pytest"*) echo "7 passed"; exit 0;;
  *sys.executable*) echo /usr/bin/python3;;
  *"import tensorrt"*) echo "No module named tensorrt"; exit 1;;
  *runtime.bench*) echo "measured"; exit 0;;
  *) echo "done: $*";;
esac
"""


def script(folder, path, program=SCRIPT, arguments=None, **environment):
    work = {"DOSSR_GPU_WORK": str(folder.parent / "work"), "CALLS": str(folder.parent / "calls")}
    return subprocess.run(
        ["bash", program, *([folder] if arguments is None else arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"HOME": str(folder), "PATH": path, "DOSSR_GOLDEN": "/nowhere"} | work | environment,
    )


def stand_in(folder, name, text):
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def path_without_gpu(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "mkdir", "tee", "env"):
        found = next(p for p in os.environ["PATH"].split(os.pathsep) if os.access(f"{p}/{name}", os.X_OK))
        (tools / name).symlink_to(f"{found}/{name}")
    return str(tools)


@pytest.fixture
def path_with_gpu(tmp_path):
    tools = tmp_path / "stand-ins"
    tools.mkdir()
    stand_in(tools, "nvidia-smi", "#!/bin/sh\ncase $* in *compute_cap*) echo 9.0;; *) echo 'Example GPU, 580';; esac\n")
    stand_in(tools, "cmake", "#!/bin/sh\necho $*; echo no compiler; exit 1\n")
    stand_in(tools, "compute-sanitizer", "#!/bin/sh\necho $*\n")
    stand_in(tools, "find", "#!/bin/sh\nexit 0\n")
    stand_in(tools, "python3", PYTHON)
    return f"{tools}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture
def copy(tmp_path):
    """A tree with the scripts alone."""
    (tmp_path / "tree" / "benchmarks").mkdir(parents=True)
    for path in (SCRIPT, FULL_SIZE):
        (tmp_path / "tree" / "benchmarks" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "tree"


def lines_of(out):
    return {line.split()[0]: line for line in (out / "summary.txt").read_text().splitlines()}


def test_without_a_gpu_it_says_so(tmp_path, path_without_gpu):
    done = script(tmp_path / "out", path_without_gpu)
    assert done.returncode == 2
    assert "no NVIDIA GPU on this machine" in done.stdout
    assert "no NVIDIA GPU" in (tmp_path / "out" / "summary.txt").read_text()


def test_a_part_that_fails_is_recorded_and_the_others_run(tmp_path, path_with_gpu, copy):
    out = tmp_path / "out"
    done = script(out, path_with_gpu, copy / "benchmarks" / "gpu.sh")
    assert done.returncode == 1, done.stdout + done.stderr
    lines = lines_of(out)
    assert "Example GPU" in done.stdout
    assert "TensorRT's libraries: nowhere on this machine" in lines["environment"]
    for name in (
        "kernels",
        "memcheck",
        "racecheck",
        "initcheck",
        "synccheck",
        "doctor",
        "ways",
        "bench",
        "bench-peers",
    ):
        assert "passed" in lines[name], lines[name]
    assert "nothing was carried here" in lines["carried"]
    assert "FAILED (1)" in lines["build"]
    assert "FAILED (1)" in lines["parity"]
    assert "    the first line\n" in done.stdout, "the end of a failed part's log is shown"
    assert "not run: no full-size bundle" in lines["full"]
    assert "no full-size model: /nowhere/full_checkpoint_shapes.json is not there" in lines["full-start"]
    assert "2 parts failed" in done.stdout
    with tarfile.open(out / "logs.tar.gz") as logs:
        assert "-DDOSSR_CUDA_ARCHITECTURES=90-real" in logs.extractfile("logs/build.log").read().decode()
        assert {"logs/environment.log", "logs/bench.log"} <= set(logs.getnames())
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call for call in calls if "runtime.bench --bundle runtime/demo" in call]
    assert len([path for path in out.rglob("*") if path.is_file()]) <= 8, "no more files come back from a lent machine"


def test_only_the_parts_that_are_asked_for(tmp_path, path_with_gpu):
    out = tmp_path / "out"
    done = script(out, path_with_gpu, PARTS="kernels doctor")
    assert done.returncode == 0, done.stdout
    assert {"kernels", "doctor"} == set(lines_of(out)) - {"Example", "no", "0"}


def test_tensorrt_comes_first_where_it_is(tmp_path, path_with_gpu):
    parts = "tensorrt-decode tensorrt tensorrt-options engines tensorrt-full kernels"
    script(tmp_path / "out", path_with_gpu, PARTS=parts, DOSSR_FULL_BUNDLE="/b")
    assert "its builder is not installed" in lines_of(tmp_path / "out")["tensorrt"]
    there = PYTHON.replace('*"import tensorrt"*) echo "No module named tensorrt"; exit 1;;', "")
    stand_in(tmp_path / "stand-ins", "python3", there.replace('echo "1 failed"; exit 1', 'echo "1 passed"'))
    script(tmp_path / "out", path_with_gpu, PARTS=parts, DOSSR_FULL_BUNDLE="/b")
    lines = lines_of(tmp_path / "out")
    assert [name for name in lines if name in parts.split()] == parts.split()
    assert "passed" in lines["tensorrt"]
    assert "passed" in lines["tensorrt-options"]
    assert lines["tensorrt-decode"].endswith("done: -m benchmarks.trt_plan /b decode")
    calls = (tmp_path / "calls").read_text()
    assert "-m gpu and not full_size -k not (options or lean or cache_of_times) -s" in calls
    assert "-m gpu and not full_size -k options or lean or cache_of_times -s" in calls
    assert "-m export.build --bundle /b --engine tensorrt --profile 64x64 --profile 8x64x64" in lines["engines"]
    assert "nothing was tested" in lines["tensorrt-full"]


def test_a_part_of_skipped_tests_fails(tmp_path, path_with_gpu):
    done = script(tmp_path / "out", path_with_gpu, PARTS="full", DOSSR_FULL_BUNDLE="/b")
    assert done.returncode == 1
    line = lines_of(tmp_path / "out")["full"]
    assert "FAILED (1)" in line
    assert line.endswith("nothing was tested: SKIPPED [2] no wheel")


def test_a_part_that_is_not_there(tmp_path, path_with_gpu):
    done = script(tmp_path / "out", path_with_gpu, PARTS="kernels speed")
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no part speed; take some of: environment carried build")


def test_a_call_ends_in_time(tmp_path, path_with_gpu):
    stand_in(tmp_path / "stand-ins", "python3", "#!/bin/sh\ncase $* in *pytest*) sleep 60;; esac\n")
    out = tmp_path / "out"
    done = script(out, path_with_gpu, PARTS="kernels doctor", LIMIT="6")
    assert done.returncode == 1
    assert "FAILED (124)" in lines_of(out)["kernels"]
    assert "NOT RUN: no time is left" in lines_of(out)["doctor"]


def test_a_full_size_model_of_ones_own(tmp_path, path_with_gpu):
    script(tmp_path / "out", path_with_gpu, PARTS="full-start ways bench-peers", DOSSR_FULL_BUNDLE="/b")
    calls = (tmp_path / "calls").read_text()
    assert "benchmarks.gpu_ways /b --out" in calls
    assert "--against onnxruntime eager-half compile-half --json" in calls
    assert "full-start" not in lines_of(tmp_path / "out")


def test_what_is_carried_is_put_together(tmp_path, path_with_gpu, copy):
    files = tmp_path / "files"
    for name in ("diffusers", "onnxruntime"):
        (files / name / name).mkdir(parents=True)
        content = f"__version__ = '1'; get_available_providers = list  # {os.urandom(3000).hex()}"
        (files / name / name / "__init__.py").write_text(content)
        archive = "first.tar.xz" if name == "diffusers" else "onnxruntime.tar.xz"
        subprocess.run(["tar", "-cJf", files / archive, "-C", files / name, name], check=True)
    archive = (files / "onnxruntime.tar.xz").read_bytes()
    parts = {"onnxruntime.tar.xz.01": archive[:1000], "onnxruntime.tar.xz.02": archive[1000:]}
    for i, (name, content) in enumerate(parts.items(), 1):
        (copy / ".carry" / str(i)).mkdir(parents=True)
        (files / name).write_bytes(content)
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in parts.items())
    (copy / ".carry/1/parts.sha256").write_text(sums)
    (copy / ".carry/1/first.tar.xz").write_bytes((files / "first.tar.xz").read_bytes())
    (copy / ".carry/1/onnxruntime.tar.xz.01").write_bytes(parts["onnxruntime.tar.xz.01"])
    program = copy / "benchmarks" / "gpu.sh"

    def carried():
        done = script(tmp_path / "out", path_with_gpu, program, PARTS="carried", PYTHON=sys.executable)
        return done.returncode, lines_of(tmp_path / "out")["carried"]

    code, line = carried()
    assert (code, line.split("   ")[-1]) == (0, "diffusers is there; still to come: onnxruntime.tar.xz.02")
    (copy / ".carry/1/onnxruntime.tar.xz.01").unlink()  # another call carries another part alone
    (copy / ".carry/2/onnxruntime.tar.xz.02").write_bytes(b"damaged")
    assert carried()[0] == 1
    (copy / ".carry/2/onnxruntime.tar.xz.02").write_bytes(parts["onnxruntime.tar.xz.02"])
    code, line = carried()
    assert code == 0
    assert line.endswith("1 []")
    for name in ("diffusers", "onnxruntime"):
        expected = (files / name / name / "__init__.py").read_bytes()
        assert (tmp_path / "work/site" / name / "__init__.py").read_bytes() == expected


def test_a_full_size_model_is_made_in_the_background(tmp_path, path_with_gpu, copy):
    for name in ("engines", "export", "runtime", "solvers"):
        (copy / name).mkdir()
    (tmp_path / "full_checkpoint_shapes.json").write_text("{}")
    maker = f"""#!{sys.executable}
import pathlib, sys, time
words = sys.argv[1:]
if "benchmarks.synthetic_checkpoint" in words:
    pathlib.Path(words[2]).write_text("weights")
else:
    time.sleep(1)
    folder = pathlib.Path(words[words.index("--out") + 1])
    folder.mkdir()
    (folder / "manifest.json").write_text(" ".join(words))
"""
    stand_in(tmp_path / "stand-ins", "python3", maker)

    def full_size(*arguments):
        program = copy / "benchmarks" / "full_size.sh"
        return script(tmp_path / "out", path_with_gpu, program, arguments, DOSSR_GOLDEN=str(tmp_path)).stdout

    assert full_size("start").startswith("begun as")
    assert full_size("start").startswith("still at work")
    full = tmp_path / "work/full"
    assert full_size("wait", "split", "60") == ""
    assert (full / "model.ckpt").read_text() == "weights"
    assert "--precision fp16 --split-controlnet" in (full / "split/manifest.json").read_text()
    assert full_size("wait", "fp32", "60") == ""
    assert re.match(r"no full-size bundle another after \d s: bundle fp32 in \d s", full_size("wait", "another", "60"))
