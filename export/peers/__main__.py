"""`python -m export.peers`: see `export.peers.serve`."""

import sys
from collections.abc import Sequence

from engines.cli import run_command
from engines.errors import PackageMissingError


def _main(arguments: Sequence[str]) -> int:
    try:
        from export.peers.serve import main
    except ModuleNotFoundError as error:
        raise PackageMissingError(
            f"peers need {error.name}, which is not installed; run `pip install -c constraints.txt -e '.[export]'`"
        ) from error
    return main(arguments)


sys.exit(run_command(_main))
