"""What the doctor says of plans in a bundle, from what its probes answered."""

import pytest

from engines.bundle import open_bundle
from engines.trt_plans import PLANS, Machine
from runtime.doctor.engines import engines
from runtime.doctor.findings import Asked, Mark
from runtime.doctor.probing import Answer
from tests.engines.trt.test_trt_plans import H100, H200, written
from tests.tiny import write_tiny_bundle


class Answers:
    """What the probes of a machine with one GPU and one library would have answered."""

    def __init__(self, machine: Machine | None) -> None:
        self._machine = machine

    def answer(self, name, *arguments):
        if self._machine is None:
            return Answer(error="EngineUnavailableError", message="it is not there")
        if name == "driver":
            gpu = {"index": 0, "name": self._machine.gpu, "compute_capability": [*self._machine.compute_capability]}
            return Answer(facts={"gpus": [gpu]})
        if arguments == ("tensorrt_lean" if self._machine.lean else "tensorrt",):
            return Answer(facts={"version": self._machine.tensorrt, "builder": not self._machine.lean})
        return Answer(error="ModuleNotFoundError", message="it is not there")


@pytest.fixture
def bundle(tmp_path):
    return open_bundle(write_tiny_bundle(tmp_path / "bundle"))


def found(bundle, machine):
    (finding,) = engines(Asked(bundle=bundle.folder), Answers(machine))
    return finding


def test_engines_for_this_machine(bundle):
    folder = written(bundle)
    finding = found(bundle, H200)
    assert finding.mark is Mark.OK
    assert finding.text == "TensorRT engines for NVIDIA H200 sm90, TensorRT 11.4.0.26, fp32, 1x64x64, 8x64x64"
    assert finding.facts["keys"] == [f"tensorrt/{folder.name}"]
    assert finding.facts["runs"] == {folder.name: True}
    assert not finding.remedies


def test_engines_for_another_machine(bundle):
    written(bundle, H100)
    finding = found(bundle, H200)
    assert finding.mark is Mark.WARNING
    assert finding.text.startswith("no TensorRT engine runs on NVIDIA H200 (9.0) with TensorRT 11.4.0.26: ")
    assert "(they are for NVIDIA H100 sm90)" in finding.text
    assert f"--bundle {bundle.folder} --engine tensorrt" in finding.remedies[0].command


def test_engines_where_nothing_can_run_them(bundle):
    written(bundle)
    finding = found(bundle, None)
    assert finding.mark is Mark.MISSING
    assert "without a GPU and TensorRT none is used" in finding.text
    assert list(finding.facts["runs"].values()) == [None]


def test_damaged_and_missing_engines(bundle):
    assert found(bundle, None).text == "no TensorRT engines in the bundle"
    assert not found(bundle, None).remedies
    assert found(bundle, H200).remedies
    (bundle.folder / PLANS / "damaged").mkdir(parents=True)
    (bundle.folder / PLANS / "damaged" / "manifest.json").write_text("[]")
    assert "cannot be read" in found(bundle, H200).text
