"""Checks of compiled engines. In: what is asked for, and the probes. Out: a finding on the bundle's TensorRT plans:
what they were built for, and which of them run here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engines.bundle import open_bundle
from engines.errors import BundleError, BundleSchemaError
from engines.trt_plans import MANIFEST, PLANS, Machine, PlanSet, build_command, key_parts, read_plans, stale
from runtime.doctor.findings import Asked, Finding, Mark, Remedy
from runtime.doctor.probing import Probes


@dataclass(frozen=True, kw_only=True)
class _Folder:
    """One folder of plans."""

    name: str
    words: str
    """What it was built for, and why it does not run here."""
    runs: bool | None
    """None: it is not known what is here."""


def engines(asked: Asked, probes: Probes) -> Iterator[Finding]:
    """The plans in the bundle, against the GPU and the library of this machine."""
    try:
        bundle = open_bundle(asked.bundle, check_hashes=False)
    except BundleError:
        return  # the bundle's own finding says so
    machine = _machine(asked, probes)
    folders = []
    for manifest in sorted((bundle.folder / PLANS).glob(f"[!.]*/{MANIFEST}")):
        try:
            plans = read_plans(manifest.parent)
        except BundleSchemaError as error:
            folders.append(_Folder(name=manifest.parent.name, words=str(error), runs=False))
            continue
        reason = stale(bundle, plans) or (plans.unfit(machine) if machine else "")
        folders.append(_folder(manifest.parent, plans, reason, known=machine is not None))
    command = f"{build_command(bundle)}   (on the machine they are for)"
    yield engines_finding(folders, machine, command)


def _folder(folder: Path, plans: PlanSet, reason: str, *, known: bool) -> _Folder:
    shapes = ", ".join(str(profile) for profile in plans.options.profiles)
    words = f"{key_parts(plans)['gpu']}, TensorRT {plans.machine.tensorrt}, {plans.precision}, {shapes}"
    return _Folder(
        name=folder.name,
        words=f"{words} ({reason})" if reason else words,
        runs=False if reason else (True if known else None),
    )


def engines_finding(folders: list[_Folder], machine: Machine | None, command: str) -> Finding:
    """From what each folder holds."""
    facts: Mapping[str, object] = {
        "keys": [f"{PLANS.name}/{folder.name}" for folder in folders],
        "runs": {folder.name: folder.runs for folder in folders},
        "machine": str(machine) if machine else None,
    }
    if not folders:
        remedies = (Remedy(aim="TensorRT engines", command=command),) if machine and not machine.lean else ()
        return Finding(
            key="engines", mark=Mark.MISSING, text="no TensorRT engines in the bundle", facts=facts, remedies=remedies
        )
    words = "; ".join(folder.words for folder in folders)
    if machine is None:
        text = f"TensorRT engines for {words}; without a GPU and TensorRT none is used"
        return Finding(key="engines", mark=Mark.MISSING, text=text, facts=facts)
    if any(folder.runs for folder in folders):
        return Finding(key="engines", mark=Mark.OK, text=f"TensorRT engines for {words}", facts=facts)
    return Finding(
        key="engines",
        mark=Mark.WARNING,
        text=f"no TensorRT engine runs on {machine}: {words}",
        facts=facts,
        remedies=(Remedy(aim="TensorRT engines for this machine", command=command),),
    )


def _machine(asked: Asked, probes: Probes) -> Machine | None:
    """The GPU that would be used, and the library; None where one is not there."""
    gpus = {str(gpu["index"]): gpu for gpu in probes.answer("driver").facts.get("gpus", ())}
    gpu = gpus.get(asked.device.partition(":")[2] or "0")
    for module in ("tensorrt", "tensorrt_lean"):
        facts = probes.answer("tensorrt", module).facts
        if gpu is not None and facts.get("version"):
            major, minor = gpu["compute_capability"]
            return Machine(
                gpu=gpu["name"],
                compute_capability=(major, minor),
                tensorrt=facts["version"],
                lean=not facts["builder"],
            )
    return None
