"""What every command line shares: one-line errors, exit codes, Ctrl-C. In: a parser and a main. Out: an exit code.

0 done   1 a named error   2 wrong usage   130 interrupted
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from engines.errors import DossrError, SettingsError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose usage errors are one line and whose options are never abbreviated."""

    def __init__(self, *, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    @property
    def options(self) -> frozenset[str]:
        """Every option's names."""
        return frozenset(self._option_string_actions)

    def error(self, message: str) -> NoReturn:
        """Leaves with code 2 and one line."""
        raise SettingsError(f"{message}; see `{self.prog} --help`")


def run_command(main: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Runs `main` and turns what goes wrong into one line on stderr and an exit code.

    Args:
        main: takes the arguments, returns the exit code.
        argv: the arguments without the program's name; sys.argv's where None. `--debug` among them adds the traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = main(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as error:
        _say("interrupted", arguments, error)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except DossrError as error:
        _say(f"error: {type(error).__name__}: {error}", arguments, error)
        return error.exit_code
    except MemoryError as error:
        _say("error: MemoryError: not enough memory; take a smaller image or close other programs", arguments, error)
        return 1
    except OSError as error:
        fix = "free some space" if error.errno == errno.ENOSPC else "check the path and its permissions"
        _say(f"error: {type(error).__name__}: {error}; {fix}", arguments, error)
        return 1


def _say(line: str, arguments: Sequence[str], error: BaseException) -> None:
    """The line, and the error's notes, which say what it left behind, each in a line of its own."""
    if "--debug" in arguments:
        traceback.print_exc()
    for text in (line, *getattr(error, "__notes__", ())):
        print(" ".join(text.split()), file=sys.stderr)
