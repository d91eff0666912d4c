"""TensorRT's engines of a bundle: built, verified, and built again where they prove wrong. In: a bundle, a request.
Out: plans in the bundle, and a line on each for people.
"""

from __future__ import annotations

from collections.abc import Iterator

from engines.bundle import Bundle
from engines.errors import EngineBuildError
from engines.memory import format_size
from engines.trt_bundle import build_engines, take_over
from engines.trt_plans import PLANS, PlanRecord, PlanSet, planned
from export.engine_options import DEVICE, EngineRequest, builder_here
from export.errors import PlanDepartsError
from export.plan_forms import Arithmetic, arithmetic, with_next_form
from export.progress import Reporter
from export.verifying.plan_check import NOT_VERIFIED, PlanCheck

_LEAST_STEP = 0.02


def build_plans(bundle: Bundle, request: EngineRequest, reporter: Reporter) -> tuple[Bundle, PlanSet]:
    """Builds and verifies a plan of every graph for this machine's GPU.

    Returns:
        The bundle, whose manifest may name other forms of its graphs now, and its plans.

    Raises:
        EngineUnavailableError: no driver, GPU or builder.
        SettingsError: a profile is beyond the bundle's axes.
        EngineBuildError: TensorRT cannot build a graph, or builds it wrongly in float32 as well.
        OutputNotWritableError: the bundle cannot be written, or the disk is too full.
    """
    machine, options = builder_here(), request.options(bundle.manifest.axes)
    steps = Steps(reporter)
    while True:
        try:
            plans = build_engines(
                bundle,
                DEVICE,
                options,
                watch=steps,
                check=PlanCheck(bundle, machine, options, DEVICE),
                timing_cache=request.timing_cache,
                workspace_limit=request.workspace,
            )
        except PlanDepartsError as error:
            reporter.stage(f"{error.graph}: wrong, looking for float32 islands", steps.done)
            mended = with_next_form(bundle, error.graph, machine.tensorrt, error.inputs, str(error))
            if mended is None:
                raise EngineBuildError(
                    f"{error}, and TensorRT {machine.tensorrt} has no more exact form of it; pass another "
                    "--optimization-level, update TensorRT, or use --engine onnxruntime"
                ) from error
            take_over(bundle, planned(bundle, machine, options), planned(mended, machine, options))
            bundle = mended
        else:
            return bundle, plans


class Steps:
    """A build's `Watch` that passes on what a person can follow: TensorRT takes thousands of steps."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._graph, self.done = "", 0.0

    def __call__(self, what: str, done: float) -> None:
        """See `engines.trt_bundle.Watch`."""
        graph = what.partition(":")[0]
        if graph != self._graph or not self.done <= done < self.done + _LEAST_STEP:
            self._graph, self.done = graph, done
            self._reporter.stage(what, done)


def summary(bundle: Bundle, plans: PlanSet) -> Iterator[str]:
    """The folder, and a line for each graph with what TensorRT said of it."""
    yield f"TensorRT engines for {plans.machine} in {bundle.folder / PLANS / plans.key}"
    for name, record in plans.graphs.items():
        found = f"{_figures(record)}{_form(bundle, plans, name)}"
        yield f"  {name}: {record.seconds:.1f} s, {format_size(record.size)}, {found}"
        yield from (f"    TensorRT: {message}" for message in record.messages)
    reasons = {
        record.verification[NOT_VERIFIED] for record in plans.graphs.values() if NOT_VERIFIED in record.verification
    }
    for reason in sorted(reasons):
        yield f"WARNING: these engines were NOT VERIFIED, no figure says that they compute what they should: {reason}"


def _figures(record: PlanRecord) -> str:
    found = record.verification
    if "deviation" not in found:
        return "not verified"
    return f"deviation {found['deviation']:.2e}, cosine {found['cosine']:.6f} at {', '.join(found['cases'])}"


def _form(bundle: Bundle, plans: PlanSet, graph: str) -> str:
    kind, islands = arithmetic(bundle, graph, plans.machine.tensorrt)
    if kind is Arithmetic.FP16:
        return ""
    return f", {len(islands)} operators in float32" if islands else ", all operators in float32"
