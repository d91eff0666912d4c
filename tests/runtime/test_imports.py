"""The runtime side needs neither torch, NumPy nor CuPy: checked in interpreters that refuse them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import REPOSITORY
from tests.runtime.odd_images import ramp, vips

BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(name + " is blocked in this test", name=name)
sys.meta_path.insert(0, Blocked())
"""
HEAVY = ("torch", "numpy", "cupy")


def run_blocked(code, blocked=HEAVY):
    script = BLOCK.format(blocked=set(blocked)) + code
    return subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120
    )


def test_plan_kernels_and_image_round_trip_without_torch_numpy_cupy(tmp_path):
    code = f"""
import runtime, solvers, engines
assert runtime.Upscaler and runtime.upscale and runtime.Result and runtime.Image8
plan = solvers.plan("dos-sde", steps=5, order=3)
from PIL import Image
from runtime import _native
from runtime.images import load_picture, finish_picture, save_picture
from runtime.noise import noise_source
x, x0_hat, output, p, z = (_native.Tensor((1, 4, 8, 8)) for _ in range(5))
noise_source("philox", 42).fill(z)
noise_source("torch-cpu", 42).fill(output)
step = plan.steps[0]
assert 0 < _native.solver_step(x, output, x0_hat, (p,), z, step.p_x, step.p_out, step.p_hat,
                           step.c_x, step.c_hat, step.c_p, step.c_z) < 100
image = Image.linear_gradient("L").resize((19, 7)).convert("RGB")
picture = load_picture(image)
planar = _native.Tensor((1, 3, 16, 32))
_native.image_to_planar(picture.pixels, planar)
_native.wavelet_fix(planar, planar_style := _native.tensor_from(planar))
_native.adain_fix(planar, planar_style)
pixels = _native.Tensor((7, 19, 3), "uint8")
_native.image_to_planar(picture.pixels, planar)
assert _native.planar_to_image(planar, pixels) <= 1
result = finish_picture(pixels, picture, (19, 7))
assert result.image.tobytes() == image.tobytes()
save_picture(result.pixels, __import__("pathlib").Path({str(tmp_path / "out.png")!r}))
assert not {set(HEAVY)} & set(sys.modules)
print("whole")
"""
    done = run_blocked(code)
    assert done.stdout == "whole\n", done.stderr


@pytest.mark.parametrize(
    "module",
    [
        "runtime.cli",
        "runtime.dossr",
        "runtime.api",
        "runtime.video.cli",
        "runtime.bench.cli",
        "runtime.doctor.cli",
        "engines.ort",
        "engines.bundle",
    ],
)
def test_every_part_imports_without_torch_numpy_cupy(module):
    done = run_blocked(f"import {module}; print('imported')")
    assert done.stdout == "imported\n", done.stderr


def test_import_runtime_loads_nothing_heavy():
    """Pillow, the compiled module, ONNX Runtime and pyvips wait until they are used."""
    heavy = "{'PIL', 'onnxruntime', 'runtime._native', 'asyncio', 'pyvips', 'av'}"
    done = run_blocked(f"import runtime; print(sorted({heavy} & set(sys.modules)))")
    assert done.stdout == "[]\n", done.stderr


def test_the_doctor_loads_nothing_foreign_itself():
    """Its probes do, in processes of their own."""
    foreign = "{'onnxruntime', 'runtime._native', 'tensorrt', 'tensorrt_lean'}"
    done = run_blocked(f"""
import contextlib, io
from runtime.doctor.cli import main
with contextlib.redirect_stdout(io.StringIO()):
    main(["--device", "cpu"])
print(sorted({foreign} & set(sys.modules)))
""")
    assert done.stdout == "[]\n", done.stderr


def test_sixteen_bit_color_without_torch_numpy_cupy_and_pyvips_only_then(tmp_path):
    path, eight = tmp_path / "deep.png", tmp_path / "eight.png"
    path.write_bytes(vips(ramp(4, 16), ".png"))
    eight.write_bytes(vips(ramp(4), ".png"))
    code = f"""
from pathlib import Path
from runtime.images import finish_picture, load_picture, save_picture
from runtime.kernels import Tensor
def run(path, dtype, out):
    picture = load_picture(path)
    pixels = finish_picture(Tensor((52, 88, 3), dtype), picture, (44, 26)).pixels
    save_picture(pixels, out, metadata=picture.metadata)
run({str(eight)!r}, "uint8", Path({str(tmp_path / "out8.png")!r}))
assert "pyvips" not in sys.modules
run({str(path)!r}, "uint16", Path({str(tmp_path / "out16.png")!r}))
assert "pyvips" in sys.modules
assert not {set(HEAVY)} & set(sys.modules)
print("whole")
"""
    done = run_blocked(code)
    assert done.stdout == "whole\n", done.stderr


def test_frames_of_clips_without_torch_numpy_cupy_and_pyav_only_then():
    done = run_blocked(
        """
import runtime.cli
assert "av" not in sys.modules
from runtime.video.pyav import load_pyav
from runtime.video.colors import colors_of, frame_of, pixels_of
frame = load_pyav().VideoFrame(66, 48, "yuv420p")
colors = colors_of(frame, 192)
pixels = pixels_of(frame, colors)
assert (pixels.shape, pixels.dtype) == ((48, 66, 3), "uint8")
assert frame_of(pixels, colors, "yuv420p").format.name == "yuv420p"
assert not {set(HEAVY)} & set(sys.modules)
print("whole")
""".replace("{set(HEAVY)}", str(set(HEAVY)))
    )
    assert done.stdout == "whole\n", done.stderr


def test_runtime_side_never_names_export():
    for room in ("runtime", "solvers", "engines"):
        for path in (REPOSITORY / room).rglob("*.py"):
            for line in path.read_text().splitlines():
                assert not line.strip().startswith(("import export", "from export")), path


def test_solvers_import_only_the_standard_library():
    allowed = set(sys.stdlib_module_names) | {"solvers"}
    for path in (REPOSITORY / "solvers").glob("*.py"):
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert words[1].split(".")[0] in allowed, f"{Path(path).name}: {line}"


def test_missing_compiled_module_is_named():
    done = run_blocked(
        """
class NoNative:
    def find_spec(self, name, path=None, target=None):
        if name == "runtime._native":
            raise ImportError("no such file")
sys.meta_path.insert(0, NoNative())
import runtime
try:
    runtime.Upscaler
except runtime.EngineUnavailableError as error:
    print(error)
"""
    )
    assert "runtime._native does not import" in done.stdout
    assert "pip install -e ." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (["--checkpoint", "FOLDER/model.ckpt"], "export needs "),
        ([], "neither --checkpoint nor --bundle is given: the demo model would be exported, and export needs "),
    ],
)
def test_export_without_torch_is_named(tmp_path, arguments, start):
    (tmp_path / "model.ckpt").touch()
    given = [argument.replace("FOLDER", str(tmp_path)) for argument in arguments]
    done = run_blocked(
        "import sys; from engines.cli import run_command; from export.build import main; "
        f"sys.exit(run_command(main, {given!r}))"
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: PackageMissingError: {start}")
    assert "[export]" in done.stderr
    assert len(done.stderr.splitlines()) == 1
