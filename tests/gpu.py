"""Whether pictures can be restored on an NVIDIA GPU here."""

from functools import cache

from engines.backends import choose_backend
from engines.base import EngineSettings
from engines.errors import EngineUnavailableError
from engines.nvidia import driver
from runtime.cuda import unavailable


@cache
def gpu_missing():
    """Why not, by ONNX Runtime's CUDA provider and our kernels; empty where they can."""
    try:
        driver()
        choose_backend("onnxruntime").prepare(EngineSettings(device="cuda"))
    except EngineUnavailableError as error:
        return str(error)
    return unavailable("cuda:0")
