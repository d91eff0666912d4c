"""TensorRT's plans in a bundle. In: a bundle, and a machine. Out: the folder whose plans run there, or why none does.

    engines/tensorrt/<key>/manifest.json     what the plans were built of, for and with; their hashes
    engines/tensorrt/<key>/<graph>.plan

Each folder has a manifest of its own: plans of several machines come to one bundle without writing to one file, and a
folder can be copied or removed as it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines.bundle import Bundle
from engines.errors import BundleSchemaError, EngineUnavailableError
from engines.graphs import AxisRange
from engines.profiles import Profile, parse_profile, profile_of
from engines.trt_options import PlanOptions

BACKEND = "tensorrt"
PLANS = Path("engines") / BACKEND
MANIFEST = "manifest.json"
SCHEMA = 1
_AMPERE = (8, 0)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What plans are built for, and what they run on."""

    gpu: str
    """The GPU's name, as the driver gives it."""
    compute_capability: tuple[int, int]
    tensorrt: str
    """Version of the library: "11.4.0.26"."""
    lean: bool = False
    """Whether the library is the lean runtime, which builds nothing and takes version-compatible plans alone."""

    def __str__(self) -> str:
        major, minor = self.compute_capability
        return f"{self.gpu} ({major}.{minor}) with TensorRT {self.tensorrt}{' lean' if self.lean else ''}"


@dataclass(frozen=True, kw_only=True)
class PlanRecord:
    """One graph's plan."""

    onnx: str
    """The ONNX file that it was built of, relative to the bundle; a stripped plan takes its weights from there."""
    sha256: tuple[str, ...]
    """Of each piece of `PIECE` bytes of the file, so that many cores can check it."""
    size: int
    seconds: float
    """That the build took."""
    messages: tuple[str, ...] = ()
    """What TensorRT said, summed up."""
    verification: Mapping[str, Any] = field(default_factory=dict)
    """Figures of the comparison with the canonical graph in float32; empty where there was none."""


PIECE = 64 << 20
"""Bytes of a plan that are hashed as one."""


@dataclass(frozen=True, kw_only=True)
class PlanSet:
    """The plans of a bundle's graphs for one kind of machine."""

    machine: Machine
    options: PlanOptions
    precision: str
    onnx: Mapping[str, str]
    """sha256 of each graph's ONNX file and its weights together, by graph; see `onnx_hash`."""
    graphs: Mapping[str, PlanRecord] = field(default_factory=dict)
    driver: str = ""
    """NVIDIA's, at the time; not part of the key: an update of it costs no rebuild."""
    schema: int = SCHEMA

    @property
    def key(self) -> str:
        """The name of the folder: what the plans fit, for people, and a hash of all that they depend on."""
        parts = key_parts(self)
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        version = ".".join(self.machine.tensorrt.split(".")[:2])
        words = f"{parts['gpu']} trt{version} {self.precision}"
        return f"{re.sub(r'[^a-z0-9.+]+', '-', words.lower()).strip('-')}-{digest[:12]}"

    def unfit(self, machine: Machine) -> str:
        """Why the plans do not run on that machine; empty where they do."""
        options, built = self.options, self.machine
        if machine.lean and options.strip_weights:
            return "the lean runtime cannot put weights in: build with --version-compatible, without --strip-weights"
        if machine.lean and not options.version_compatible:
            return "the lean runtime takes version-compatible plans alone"
        runs = built.tensorrt == machine.tensorrt or (options.version_compatible and _later(built, machine))
        if not runs:
            return f"they are of TensorRT {built.tensorrt}"
        here, there = machine.compute_capability, built.compute_capability
        fits = {
            "none": (machine.gpu, here) == (built.gpu, there),
            "same-cc": here == there,
            "ampere+": here >= _AMPERE,
        }[options.hardware_compatible]
        return "" if fits else f"they are for {key_parts(self)['gpu']}"

    def to_json(self) -> str:
        """As `manifest.json` holds it."""
        raw = dataclasses.asdict(self) | {"key": key_parts(self)}
        raw["options"]["profiles"] = [str(profile) for profile in self.options.profiles]
        return json.dumps(raw, indent=1, ensure_ascii=False) + "\n"


def key_parts(plans: PlanSet) -> dict[str, Any]:
    """All that the plans depend on, and so their key; what `hardware_compatible` opens is left out of the GPU."""
    machine, options = plans.machine, plans.options
    major, minor = machine.compute_capability
    gpu = {"none": f"{machine.gpu} sm{major}{minor}", "same-cc": f"sm{major}{minor}", "ampere+": "ampere+"}
    return {
        "gpu": gpu[options.hardware_compatible],
        "tensorrt": machine.tensorrt,
        "precision": plans.precision,
        "profiles": [str(profile) for profile in options.profiles],
        "preview_features": list(options.preview_features),
        "optimization_level": options.optimization_level,
        "version_compatible": options.version_compatible,
        "weight_streaming": options.weight_streaming,
        "strip_weights": options.strip_weights,
        "onnx": dict(plans.onnx),
    }


def default_profiles(axes: Mapping[str, AxisRange]) -> tuple[Profile, ...]:
    """One static shape: the bundle's own, or the optimum of its axes."""
    opt = profile_of(axes).opt
    return (Profile(min=opt, opt=opt, max=opt),)


def default_options(bundle: Bundle) -> PlanOptions:
    """How plans of the bundle were built last, for whatever machine; else with the default profile."""
    built = sorted((bundle.folder / PLANS).glob(f"[!.]*/{MANIFEST}"), key=lambda path: path.stat().st_mtime)
    for manifest in reversed(built):
        with contextlib.suppress(BundleSchemaError):
            return read_plans(manifest.parent).options
    return PlanOptions(profiles=default_profiles(bundle.manifest.axes))


def onnx_file(bundle: Bundle, graph: str, tensorrt: str) -> str:
    """The ONNX file of a graph that this version of TensorRT is given, relative to the bundle: with float32 islands, or
    in the operators that parsers before 10.14 know, where there is such a form.
    """
    entry = bundle.manifest.graphs[graph]
    return entry.lowered.get(form_name(tensorrt), entry.file)


def form_name(tensorrt: str) -> str:
    """What the form for this version of TensorRT is called in `GraphEntry.lowered`."""
    return "tensorrt-10.12" if parse_version(tensorrt) < (10, 14) else BACKEND


def onnx_hash(bundle: Bundle, file: str) -> str:
    """sha256 over the manifest's hashes of an ONNX file and of all weights beside it."""
    folder = file.rpartition("/")[0] + "/"
    weights = [name for name in bundle.manifest.files if name.startswith(folder) and not name.endswith(".onnx")]
    hashes = "".join(bundle.manifest.files[name].sha256 for name in (file, *sorted(weights)))
    return hashlib.sha256(hashes.encode()).hexdigest()


def planned(bundle: Bundle, machine: Machine, options: PlanOptions) -> PlanSet:
    """The set that a build would make, without its plans."""
    graphs = bundle.manifest.graphs
    return PlanSet(
        machine=machine,
        options=options,
        precision=str(bundle.manifest.precision),
        onnx={name: onnx_hash(bundle, onnx_file(bundle, name, machine.tensorrt)) for name in graphs},
    )


def parse_version(text: str) -> tuple[int, ...]:
    """Numbers of "11.4.0.26"."""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _later(built: Machine, machine: Machine) -> bool:
    """Whether a library takes version-compatible plans of another. Source: TensorRT 11.4.1's support matrix."""
    older, newer = (parse_version(side.tensorrt) for side in (built, machine))
    return older <= newer and (older[0] == newer[0] or (older[0], newer[0]) == (10, 11))


def read_plans(folder: Path) -> PlanSet:
    """The set of one folder.

    Raises:
        BundleSchemaError: no manifest, or one that lacks or misuses a field, or of a newer schema.
    """
    where = folder / MANIFEST
    try:
        raw = json.loads(where.read_text(encoding="utf-8"))
        if raw["schema"] != SCHEMA:
            raise ValueError(f"schema {raw['schema']}, this version reads {SCHEMA}")
        options = raw["options"]
        major, minor = raw["machine"]["compute_capability"]
        return PlanSet(
            machine=Machine(**raw["machine"] | {"compute_capability": (int(major), int(minor))}),
            options=PlanOptions(**options | {"profiles": tuple(map(parse_profile, options["profiles"]))}),
            precision=str(raw["precision"]),
            onnx=dict(raw["onnx"]),
            graphs={name: parse_record(entry) for name, entry in raw["graphs"].items()},
            driver=str(raw["driver"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleSchemaError(
            f"{where} cannot be read ({type(error).__name__}: {error}); remove the folder and build its engines again"
        ) from error


def parse_record(raw: Mapping[str, Any]) -> PlanRecord:
    """A record from its JSON."""
    return PlanRecord(**dict(raw) | {"sha256": tuple(raw["sha256"]), "messages": tuple(raw["messages"])})


def find_plans(bundle: Bundle, machine: Machine) -> tuple[Path, PlanSet]:
    """The folder with plans of every graph of the bundle as it is now that run on the machine; of several, those built
    last.

    Raises:
        EngineUnavailableError: there is none; with both sides, and the command that builds them.
    """
    found: list[tuple[float, Path, PlanSet]] = []
    others = []
    for manifest in sorted((bundle.folder / PLANS).glob(f"[!.]*/{MANIFEST}")):
        try:
            plans = read_plans(manifest.parent)
        except BundleSchemaError as error:
            others.append(str(error))
            continue
        if reason := plans.unfit(machine) or stale(bundle, plans):
            others.append(f"{manifest.parent.name}: {reason}")
        else:
            found.append((manifest.stat().st_mtime, manifest.parent, plans))
    if not found:
        there = f"; it has {'; '.join(others)}" if others else ""
        raise EngineUnavailableError(
            f"bundle {bundle.folder} has no TensorRT engines for {machine}{there}; run `{build_command(bundle)}` on a "
            "machine of that kind, or use --engine onnxruntime"
        )
    _, folder, plans = max(found, key=lambda entry: entry[:2])
    return folder, plans


def build_command(bundle: Bundle) -> str:
    """What builds engines for the machine that it is run on."""
    return f"python -m export.build --bundle {bundle.folder} --engine tensorrt"


def stale(bundle: Bundle, plans: PlanSet) -> str:
    """Why the plans are not of the bundle's graphs; empty where they are."""
    graphs = bundle.manifest.graphs
    if missing := sorted(graphs.keys() - plans.graphs.keys()):
        return f"they lack {', '.join(missing)}"
    for name in graphs:
        file = onnx_file(bundle, name, plans.machine.tensorrt)
        if plans.onnx[name] != onnx_hash(bundle, file):
            return f"they are of another {file}"
    return ""
