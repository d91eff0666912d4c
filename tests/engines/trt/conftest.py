import pytest

from engines.bundle import open_bundle
from tests import tensorrt_standin
from tests.tiny import write_tiny_bundle


@pytest.fixture
def bundle(tmp_path):
    return open_bundle(write_tiny_bundle(tmp_path / "bundle"))


@pytest.fixture
def standin(monkeypatch, tmp_path):
    """TensorRT's stand-in is installed, and caches are this test's own."""
    monkeypatch.setenv("DOSSR_CACHE", str(tmp_path / "cache"))
    with tensorrt_standin.installed(monkeypatch) as module:
        yield module


@pytest.fixture
def lean_standin(monkeypatch, tmp_path):
    """The lean runtime's stand-in is installed alone."""
    monkeypatch.setenv("DOSSR_CACHE", str(tmp_path / "cache"))
    with tensorrt_standin.installed(monkeypatch, lean=True) as module:
        yield module
