"""benchmarks.cuda_report: nothing spills, wide accesses are there, and a kernel that spills is found."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from benchmarks import cuda_report

pytestmark = pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc on PATH")

# An array that is indexed at run time is in local memory.
SPILLS = """
__global__ void spills(float* out, int n) {
    float values[64];
    for (int i = 0; i < 64; ++i) values[i] = out[i * n];
    for (int i = 0; i < n; ++i) values[i * n % 64] += values[(i * 7 + n) % 64];
    for (int i = 0; i < 64; ++i) out[i] = values[i];
}
"""


def test_no_kernel_spills_and_large_arrays_are_moved_16_bytes_at_a_time(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert cuda_report.main(["--architectures", "86", "--out", str(page)]) == 0
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.read_text().splitlines()[9:]]
    kernels = {row[0]: list(map(int, row[1:])) for row in rows}
    sources = {path.stem for path in cuda_report.NATIVE.glob("*.cu")}
    assert len(kernels) >= len(sources)
    for source in sources - {"probe", "adain_fix", "cast"}:
        assert any(re.match(rf"{source}_kernel\b", kernel) for kernel in kernels)
    for kernel, (registers, shared, spilled, stack, loads, stores) in kernels.items():
        assert (spilled, stack) == (0, 0)
        assert registers <= 128
        assert shared <= 48 * 1024
        if kernel != "probe":
            assert loads + stores


def test_a_kernel_that_spills_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "spills.cu"
    source.write_text(SPILLS)
    assert cuda_report.main(["--architectures", "86", "--sources", str(source)]) == 1
    assert re.search(r"spills on sm_86: \d+ bytes spilled, a stack frame of \d+ bytes", capsys.readouterr().err)


def test_what_nvcc_says_is_shown(tmp_path: Path) -> None:
    source = tmp_path / "wrong.cu"
    source.write_text("__global__ void wrong() { nothing(); }")
    with pytest.raises(SystemExit, match=r"nvcc .* failed:\n.*nothing"):
        cuda_report.main(["--architectures", "86", "--sources", str(source)])


def test_without_nvcc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SystemExit, match="no nvcc on PATH: install the CUDA toolkit"):
        cuda_report.main([])
