"""The console script `dossr`. In: a subcommand and its arguments. Out: what the subcommand does, and its exit code.

Subcommands that need torch become the process `python -m export...`: nothing here imports it.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from engines.cli import run_command
from engines.errors import SettingsError

_HELP = """usage: dossr COMMAND ...

  upscale INPUT... -o OUTPUT   restore and enlarge pictures      (python -m runtime)
  doctor                       say what will be used, and why    (python -m runtime.doctor)
  bench                        measure a bundle on this machine  (python -m runtime.bench)
  build --checkpoint FILE      export a checkpoint to a bundle   (python -m export.build)
  build --bundle DIR           build a bundle's TensorRT engines (python -m export.build)
  verify BUNDLE                hold its engines against fp32     (python -m export.verify)
  version                      print the version

`dossr COMMAND --help` shows a command's options."""


def _upscale(arguments: Sequence[str]) -> int:
    from runtime.cli import main as upscale

    return upscale(arguments, "dossr upscale")


def _bench(arguments: Sequence[str]) -> int:
    from runtime.bench.cli import main as bench

    return bench(arguments, "dossr bench")


def _doctor(arguments: Sequence[str]) -> int:
    from runtime.doctor.cli import main as doctor

    return doctor(arguments, "dossr doctor")


def _build(arguments: Sequence[str]) -> int:
    _become("export.build", arguments)


def _verify(arguments: Sequence[str]) -> int:
    _become("export.verify", arguments)


def _become(module: str, arguments: Sequence[str]) -> NoReturn:
    """Becomes the module's process, so that Ctrl-C and SIGTERM reach it and it can clean up."""
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606, our own interpreter


def _version(_arguments: Sequence[str]) -> int:
    print(importlib.metadata.version("dossr-deploy"))
    return 0


COMMANDS = {
    "upscale": _upscale,
    "doctor": _doctor,
    "bench": _bench,
    "build": _build,
    "verify": _verify,
    "version": _version,
}


def dispatch(arguments: Sequence[str]) -> int:
    """Runs one subcommand.

    Raises:
        SettingsError: no such command.
    """
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_HELP)
        return 0
    if arguments[0] == "--version":
        return _version(())
    if arguments[0] not in COMMANDS:
        raise SettingsError(f"command must be one of {', '.join(COMMANDS)}, not {arguments[0]!r}; see `dossr --help`")
    return COMMANDS[arguments[0]](arguments[1:])


def main() -> int:
    """Entry point of the console script."""
    return run_command(dispatch)
