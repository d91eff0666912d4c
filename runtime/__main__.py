"""`python -m runtime INPUT... -o OUTPUT`."""

import sys

from runtime.cli import run

sys.exit(run())
