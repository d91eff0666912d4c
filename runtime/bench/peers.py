"""The processes of those we are compared with. In: a peer's name and a task. Out: their times, a turn at a time.

`export.peers` is started by name: the runtime imports nothing of it.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image, ImageChops, ImageStat

from engines.errors import DossrError
from runtime.bench.measure import QUICK
from runtime.bench.spread import Spread, spread
from solvers import Plan

PEERS = ("eager", "eager-half", "eager-channels-last", "compile", "compile-half", "onnxruntime", "openvino")
"""What `--against` takes."""
_NOT_ALL = {"cpu": ("eager-half", "compile-half"), "cuda": ("openvino",)}
"""What "all" leaves out: on a CPU PyTorch computes halves some 25 times more slowly; OpenVINO has no CUDA."""


def peers_named(names: Sequence[str], device: str) -> tuple[str, ...]:
    """Each name once; "all" is every peer that makes sense on the device, "cpu" or "cuda"."""
    every = [name for name in PEERS if name not in _NOT_ALL[device]]
    return tuple(dict.fromkeys(peer for name in names for peer in (every if name == "all" else [name])))


class PeerError(DossrError):
    """A peer is not on this machine, or failed."""


@dataclass(frozen=True, kw_only=True)
class PeerTask:
    """What every peer of a run is asked to do."""

    bundle: Path
    checkpoint: Path | None
    config: Path | None
    context: Path | None
    device: str
    threads: int
    plan: Plan
    seed: int
    photo: Path
    """The picture, a file."""
    demo: bool = False
    """The bundle is the demo model: its checkpoint is the one that is installed."""

    def line(self, peer: str, result: Path) -> str:
        """As `export.peers.serve` reads it."""
        setup = {
            key: None if value is None else str(Path(value).resolve())
            for key in ("bundle", "checkpoint", "config", "context")
            for value in (getattr(self, key),)
        }
        task: dict[str, Any] = {"peer": peer, "seed": self.seed, "photo": str(self.photo), "result": str(result)}
        task["setup"] = setup | {"device": self.device, "threads": self.threads, "demo": self.demo}
        task["plan"] = asdict(self.plan)
        return json.dumps(task)


@dataclass
class Peer:
    """A process that restores the same picture whenever it is asked."""

    name: str
    task: PeerTask
    result: Path
    """Where the process writes its first picture."""
    loaded: dict[str, Any] = field(init=False)
    """description, load (seconds), peak_memory, gpu_memory (bytes)."""
    rounds: list[list[dict[str, Any]]] = field(default_factory=list)
    """Answers: seconds, timings, peak_memory, gpu_memory."""

    def __post_init__(self) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed with the process; a pipe would fill
        self._process = subprocess.Popen(
            [sys.executable, "-m", "export.peers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        try:
            self.loaded = self._ask(self.task.line(self.name, self.result))
        except BaseException:
            self.close()
            raise

    def warm_up(self) -> None:
        """Restores once, and again where that was quick.

        Raises:
            PeerError: the process failed.
        """
        if self._ask("")["seconds"] < QUICK:
            self._ask("")

    def turns(self, count: int) -> None:
        """Restores that often: a round.

        Raises:
            PeerError: the process failed.
        """
        self.rounds.append([self._ask("") for _ in range(count)])

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        answer = ""
        try:
            print(line, file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            pass
        if not answer:
            raise PeerError(self._last_words())
        found: dict[str, Any] = json.loads(answer)
        return found

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines()
        return said[-1].removeprefix("error: ") if said else f"the process {self.name} ended with code {code}"

    def close(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.communicate()
        self._errors.close()


class Peers:
    """Those of the named ones that could be opened; a context manager that ends their processes.

    Args:
        names: of `PEERS`.
        task: the same for all; without a context, the checkpoint's text encoder makes one, once.
        folder: for their pictures.
    """

    def __init__(self, names: Sequence[str], task: PeerTask, folder: Path) -> None:
        self.open: list[Peer] = []
        self.failed: dict[str, str] = {}
        """Name to what went wrong."""
        if names and task.checkpoint is not None and task.context is None:
            context = folder / "context.safetensors"
            Peer("context", task, context).close()
            task = replace(task, context=context)
        try:
            for name in names:
                try:
                    self.open.append(Peer(name, task, folder / f"{name}.png"))
                except PeerError as error:
                    self.failed[name] = str(error)
        except BaseException:
            self.close()
            raise

    def warm_up(self) -> None:
        """Every peer warms up; one that fails is out."""
        self._each(Peer.warm_up)

    def turns(self, count: int) -> None:
        """Every peer restores that often; one that fails is out."""
        self._each(lambda peer: peer.turns(count))

    def _each(self, act: Callable[[Peer], None]) -> None:
        for peer in tuple(self.open):
            try:
                act(peer)
            except PeerError as error:
                self.failed[peer.name] = str(error)
                self.open.remove(peer)
                peer.close()

    def close(self) -> None:
        """Ends every process."""
        for peer in self.open:
            peer.close()

    def __enter__(self) -> Peers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


def ratios(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> Spread:
    """Our time over theirs: within each round, every pair of neighbours in it."""
    pairs = [[a / b for a, b in zip(mine, other, strict=True)] for mine, other in zip(ours, theirs, strict=True)]
    return spread(pairs)


def psnr(a: Path, b: Path) -> float:
    """Of two pictures of 8 bits, in dB; infinite where they are equal."""
    with Image.open(a) as first, Image.open(b) as second:
        difference = ImageChops.difference(first.convert("RGB"), second.convert("RGB"))
    squares = ImageStat.Stat(difference).sum2
    error = sum(squares) / (3 * difference.width * difference.height)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)
