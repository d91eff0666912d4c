"""The weights of stripped plans. In: an engine without weights, and the ONNX file that it was built of. Out: the
engine, complete. The lean runtime cannot do this.
"""

from __future__ import annotations

import logging
from pathlib import Path

from engines.errors import EngineError
from engines.onnx_paths import check_external_paths
from engines.trt_library import trt
from engines.trt_log import LOG
from engines.trt_messages import failure
from engines.trt_objects import made

_log = logging.getLogger("dossr")


def refit(engine: trt.ICudaEngine, onnx: Path) -> None:
    """Gives the engine the weights of the file that it was built of.

    Raises:
        EngineError: TensorRT refuses them, or some are missing.
        BundlePathError: the file keeps weights outside its folder.
    """
    check_external_paths(onnx, onnx.parent)
    with LOG.collecting() as said:
        refitter = made(lambda: trt.Refitter(engine, LOG), "refitter of a stripped engine")
        parser = made(lambda: trt.OnnxParserRefitter(refitter, LOG), "reader of a stripped engine's weights")
        taken = parser.refit_from_file(str(onnx))
        errors: list[trt.ParserError] = [parser.get_error(i) for i in range(parser.num_errors)]
        words = "; ".join(error.desc() for error in errors) or failure(said)
        if missing := refitter.get_missing_weights():
            raise EngineError(
                f"{onnx} lacks {len(missing)} weights of its stripped engine, {', '.join(missing[:3])} among them"
                f"{f' ({words})' if words else ''}; build the engines again"
            )
        if not refitter.refit_cuda_engine():
            raise EngineError(
                f"TensorRT cannot put in the weights of {onnx}: {failure(said) or words or 'it does not say why'}; "
                "build the engines again"
            )
    if not taken:  # it looks for constants that have no name in the file (scales of attention), and needs none of them
        _log.debug("TensorRT did not know all weights of %s, and lacks none: %s", onnx, words)
