"""What TensorRT's messages mean. In: severities and texts. Out: the harmless ones counted, the others with advice."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple


class Message(NamedTuple):
    """One line of TensorRT's log."""

    severe: bool
    """An error; otherwise a warning."""
    text: str


HARMLESS = {
    r"[Ss]kipping tactic|Tactic Device request|insufficient memory on requested size": "tactics were skipped",
    r"[Dd]etected layernorm nodes in FP16": "norms are computed in fp16 where the graph says so",
    r"subnormal|smallest positive FP16|FP16 subnormal": "weights are too small for fp16 and count as zero",
    r"[Ll]azy loading is not enabled": "CUDA's lazy loading is off",
    r"generated with INT64 weights|INT64 weights": "whole numbers of 64 bits stand in the graph",
    r"Using PreviewFeature|is deprecated|DEPRECATED": "a setting is called deprecated",
    r"GPU memory usage|[Uu]nable to determine GPU memory": "memory in use could not be told",
    r"TensorRT was linked against|loaded cu(DNN|BLAS)": "a library's version is another than TensorRT was built with",
    r"number of (bits|elements) .* padded|[Pp]adding .* for alignment": "memory was padded",
}
"""Pattern of messages that ask for nothing, and their meaning for people."""

FIXES = {
    r"[Oo]ut ?of ?memory|OutOfMemory|cudaErrorMemoryAllocation": "memory of the GPU ran out: end other processes on it "
    "(see `nvidia-smi`), pass a smaller --profile, or --workspace SIZE",
    r"[Cc]ould not find any implementation for node": "no kernel does this within the workspace and for this GPU: "
    "raise --workspace, or pass --optimization-level 4",
    r"no kernel image|does not support (compute capability|SM)|SM \d+\.\d+|not supported on this GPU": "this TensorRT "
    "has no code for this GPU: install the version whose support matrix names it",
    r"failure with error: 35|driver version is insufficient|insufficient driver": "update NVIDIA's driver to release "
    "580 or newer",
    r"engine plan file is|expecting library version|[Vv]ersion (tag|mismatch)|[Ss]erialization assertion": "the engine "
    "is of another TensorRT or GPU: build it again",
    r"timing cache.*(mismatch|incompatible|not compatible)|[Ii]ncompatible timing cache": "pass --no-timing-cache, or "
    "remove the file",
    r"No space left on device|[Dd]isk full": "free disk space",
    r"[Mm]yelin.*(error|failed)|MyelinCheckException": "TensorRT's compiler failed in itself: pass another "
    "--optimization-level, or update TensorRT",
    r"different(ly)? from one already registered|logger passed into": "a library in this process made a logger of "
    "TensorRT before",
    r"[Uu]nsupported (ONNX )?opset|opset version": "the graph is newer than this TensorRT reads: update it to 10.14",
    r"[Nn]o importer registered for op|[Uu]nsupported op|UNSUPPORTED_NODE": "this TensorRT does not know the operator: "
    "update it; docs/tensorrt.md names the least version",
}
"""Pattern of messages that ask for something, and what to do."""


def advice(text: str) -> str:
    """What to do about a message; "" where that is not known."""
    return next((fix for pattern, fix in FIXES.items() if re.search(pattern, text)), "")


def meaning(text: str) -> str:
    """What a harmless message means; "" for every other."""
    if advice(text) and not re.search(next(iter(HARMLESS)), text):
        return ""
    return next((words for pattern, words in HARMLESS.items() if re.search(pattern, text)), "")


def summary(messages: Sequence[Message]) -> tuple[str, ...]:
    """One line for all harmless messages, then each other one, once, with what to do."""
    counted = Counter(meaning(message.text) for message in messages if not message.severe)
    kept = [message for message in messages if message.severe or not meaning(message.text)]
    del counted[""]
    lines = [", ".join(f"{words} ({count} messages)" for words, count in sorted(counted.items()))] if counted else []
    return tuple(dict.fromkeys([*lines, *(_with_advice(message.text) for message in kept)]))


def failure(messages: Sequence[Message]) -> str:
    """Why something failed: the errors, the first of them that has a known fix first; "" where there is none."""
    errors = list(dict.fromkeys(message.text for message in messages if message.severe))
    errors.sort(key=lambda text: not advice(text))
    return "; ".join(_with_advice(text) for text in errors[:3])


def _with_advice(text: str) -> str:
    fix = advice(text)
    line = " ".join(text.split())[:400]
    return f"{line} ({fix})" if fix else line
