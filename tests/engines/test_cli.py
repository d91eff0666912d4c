"""One line, one exit code, for everything that can go wrong in a command."""

import errno

import pytest

from engines import errors
from engines.cli import Parser, run_command


def failing(error):
    def main(_arguments):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (errors.BundleHashError("bad\nhash"), 1, "error: BundleHashError: bad hash"),
        (errors.SettingsError("steps"), 2, "error: SettingsError: steps"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "error: MemoryError: not enough memory; take a smaller image or close other programs"),
        (OSError(errno.ENOSPC, "No space left"), 1, "error: OSError: [Errno 28] No space left; free some space"),
    ],
)
def test_error_is_one_line(capsys, error, code, line):
    assert run_command(failing(error), []) == code
    assert capsys.readouterr().err == line + "\n"


def test_debug_shows_the_traceback(capsys):
    assert run_command(failing(errors.EngineError("broken")), ["--debug"]) == 1
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert text.endswith("error: EngineError: broken\n")


def test_a_bug_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run_command(failing(ZeroDivisionError()), [])


def test_usage_errors_are_one_line(capsys):
    def main(arguments):
        parser = Parser(prog="tool", description="x")
        parser.add_argument("--color", choices=["red"])
        parser.parse_args(arguments)
        return 0

    assert run_command(main, ["--color", "blue"]) == 2
    assert capsys.readouterr().err.startswith("error: SettingsError: argument --color: invalid choice: 'blue'")
    assert run_command(main, ["--col", "red"]) == 2
    assert "unrecognized arguments: --col red; see `tool --help`" in capsys.readouterr().err
    assert run_command(main, []) == 0
