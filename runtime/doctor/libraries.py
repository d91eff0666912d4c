"""Checks of libraries. In: what is asked for, and the probes. Out: findings on our package and compiled module, ONNX
Runtime and its providers, and TensorRT.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import runtime
from engines.ort import PROVIDERS
from engines.ort_cuda import PACKAGE
from runtime.doctor.findings import Asked, Finding, Mark, Remedy
from runtime.doctor.probing import Answer, Probes

_ORT_PACKAGES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-directml",
    "onnxruntime-migraphx",
    "onnxruntime-rocm",
    "onnxruntime-silicon",
)
"""Packages that install the same folder `onnxruntime`: the one that was installed last overwrites the others' files."""
_TENSORRT = {"tensorrt": "TensorRT", "tensorrt_lean": "TensorRT lean"}
TENSORRT_PROBES = [("tensorrt", module) for module in _TENSORRT]
_BUILD = "pip install -e .   (in the checkout"
_CUDA_WORDS = re.compile(r"lib(cublas|cudart|cufft|curand|cudnn|nvrtc|nvJitLink)|cuDNN")
_REASONS = (
    r"[Ff]ailed to load library .*? with error: (.+)",
    r"(CUDA failure \d+: [^;]+)",
    r"did not load: ([^;]+);",
    r"(Require .+?)\. Please",
)
"""Where ONNX Runtime or our own error says why a provider did not load, the most telling first."""
_COLOR = re.compile(r"\x1b\[[\d;]*m")


def package(_asked: Asked, probes: Probes) -> Iterator[Finding]:
    """Ours: its version, and the compiled module."""
    folder = str(Path(runtime.__file__).parent)
    installed = _version("dossr-deploy")
    yield Finding(
        key="package",
        mark=Mark.OK,
        text=f"dossr-deploy {installed or '(not installed: a checkout)'} in {folder}",
        facts={"version": installed, "folder": folder},
    )
    yield native_finding(probes.answer("native"), installed)


def native_finding(answer: Answer, installed: str | None) -> Finding:
    """The compiled module, beside the version of the package that is installed."""
    facts = dict(answer.facts)
    if not facts:
        return Finding(
            key="native",
            mark=Mark.MISSING if "No module named" in answer.message else Mark.WARNING,
            text=answer.message if answer.error else f"the compiled module {answer.message}",
            facts={"error": answer.message},
            remedies=(Remedy(aim="the compiled module", command=f"{_BUILD}: needs a C++17 compiler)", needed=True),),
        )
    words = f"compiled module {facts['version']} in {Path(facts['file']).name}"
    remedies = []
    mark = Mark.OK
    if "cuda" in facts:
        words += f", CUDA {'.'.join(map(str, facts['cuda']))} linked in, for {', '.join(facts['architectures'])}"
    else:
        words += ", without CUDA"
        remedies.append(Remedy(aim="our CUDA kernels", command=f"{_BUILD}, with nvcc 13 on the PATH)"))
    if installed is not None and installed != facts["version"]:
        words += f"; the package is {installed}"
        mark = Mark.WARNING
        remedies.insert(0, Remedy(aim="a compiled module of this version", command=f"{_BUILD})"))
    if answer.message:
        words += f"; {answer.message}"
        mark = Mark.WARNING
    return Finding(
        key="native",
        mark=mark,
        text=words,
        facts={"cuda": None, "architectures": [], "error": answer.message or None} | facts,
        remedies=tuple(remedies),
    )


def onnxruntime(_asked: Asked, probes: Probes) -> Iterator[Finding]:
    """The package, and of each provider that the runtime knows whether it opens a graph."""
    answer = probes.answer("onnxruntime")
    packages = {name: found for name in _ORT_PACKAGES if (found := _version(name))}
    if "providers" not in answer.facts:
        yield Finding(
            key="onnxruntime",
            mark=Mark.MISSING if not packages and answer.error else Mark.WARNING,
            text=answer.message if answer.error else f"ONNX Runtime {answer.message}",
            facts={"error": answer.message, "packages": packages},
            remedies=(Remedy(aim="ONNX Runtime", command="pip install 'dossr-deploy[cpu]'   (or [gpu])", needed=True),),
        )
        return
    compiled_in = [name for name, known in PROVIDERS.items() if known in answer.facts["providers"]]
    short = ", ".join(name.removesuffix("ExecutionProvider") for name in answer.facts["providers"])
    built = f", built for CUDA {answer.facts['cuda']}" if answer.facts.get("cuda") else ""
    words = f"ONNX Runtime {answer.facts['version']} ({', '.join(packages) or 'of no package'}){built}: {short}"
    remedies: tuple[Remedy, ...] = ()
    if len(packages) > 1:
        words += "; these packages overwrite each other's files"
        kept = next(name for name in packages if name != "onnxruntime")
        install = PACKAGE if kept == "onnxruntime-gpu" else f"pip install {kept}"
        remedies = (Remedy(aim="one ONNX Runtime", command=replacing(packages, install)),)
    elif "cuda" not in compiled_in:
        remedies = (Remedy(aim="CUDA in ONNX Runtime", command=replacing(packages, PACKAGE)),)
    yield Finding(
        key="onnxruntime",
        mark=Mark.WARNING if len(packages) > 1 else Mark.OK,
        text=words,
        facts={**answer.facts, "packages": packages},
        remedies=remedies,
    )
    for device in compiled_in:
        probes.start("provider", device)
    for device in compiled_in:
        yield provider_finding(device, probes.answer("provider", device))


def replacing(packages: Iterable[str], install: str) -> str:
    """The command after one that removes these packages."""
    names = " ".join(packages)
    return f"pip uninstall -y {names}; {install}" if names else install


def provider_finding(device: str, answer: Answer) -> Finding:
    """Whether a provider that is compiled in opens a graph, and what ONNX Runtime says where not."""
    reason = reason_of(answer) if answer.message else ""
    remedies: tuple[Remedy, ...] = ()
    if device == "cuda" and _CUDA_WORDS.search(reason):
        remedies = (Remedy(aim="CUDA's libraries and cuDNN", command=PACKAGE),)
    return Finding(
        key=f"provider.{device}",
        mark=Mark.WARNING if reason else Mark.OK,
        text=f"{PROVIDERS[device]} does not load: {reason}" if reason else f"{PROVIDERS[device]} loads",
        facts={"provider": PROVIDERS[device], "loads": not reason, "reason": reason or None},
        remedies=remedies,
    )


def reason_of(answer: Answer) -> str:
    """The telling part of ONNX Runtime's log, or else of the error."""
    log = _COLOR.sub("", answer.log)
    words = f"{log}\n{answer.message}"
    for pattern in _REASONS:
        if found := re.search(pattern, words):
            return " ".join(found[1].split())
    what = answer.message.rpartition("; ")[0] if answer.error == "EngineUnavailableError" else ""
    return what or answer.message  # our errors end with what to do


def tensorrt(_asked: Asked, probes: Probes) -> Iterator[Finding]:
    """TensorRT, and its lean runtime: whether they import. A Runtime is not made: without a driver that crashes."""
    for module, name in _TENSORRT.items():
        yield tensorrt_finding(module, name, probes.answer("tensorrt", module))


def tensorrt_finding(module: str, name: str, answer: Answer) -> Finding:
    """One of the two packages."""
    facts = {"version": None, "libraries": [], "builder": None, "error": answer.message or None} | dict(answer.facts)
    if answer.error == "ModuleNotFoundError" and f"'{module}'" in answer.message:
        text, mark = f"{name} is not installed", Mark.MISSING
    elif answer.message:
        text, mark = f"{name}: importing {module} {answer.message}", Mark.WARNING
        if answer.error:
            text = f"{name} does not import ({answer.error}: {answer.message})"
    else:
        libraries = ", ".join(Path(file).name for file in facts["libraries"])
        kind = "builds and runs" if facts["builder"] else "runs"
        text, mark = f"{name} {facts['version']} ({kind} engines), {libraries or 'libraries unknown'}", Mark.OK
    return Finding(key=module, mark=mark, text=text, facts=facts)


def _version(distribution: str) -> str | None:
    """Of an installed package."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
