"""`python -m runtime.bench`."""

import sys
from collections.abc import Sequence

from engines.cli import run_command


def _main(arguments: Sequence[str]) -> int:
    from runtime.bench.cli import main  # inside, so that Ctrl-C and a missing module are told in one line

    return main(arguments)


sys.exit(run_command(_main))
