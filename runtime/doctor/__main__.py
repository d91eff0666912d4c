"""`python -m runtime.doctor`."""

import sys

from engines.cli import run_command
from runtime.doctor.cli import main

sys.exit(run_command(main))
