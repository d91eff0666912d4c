"""The bundle that is used where none is named. Out: a folder: the environment's, else the demo model that ships."""

from __future__ import annotations

import os
import sys
from pathlib import Path

BUNDLE_VARIABLE = "DOSSR_BUNDLE"
"""Environment variable that names the default bundle."""

DEMO_BUNDLE = Path(__file__).parent / "demo"
"""The demo model that ships: small, made by `python -m training.demo`."""


def default_bundle() -> Path:
    """The folder that DOSSR_BUNDLE names, else the demo model's."""
    return Path(os.environ.get(BUNDLE_VARIABLE) or DEMO_BUNDLE)


def tell_demo(bundle: Path) -> None:
    """A line on stderr where it is the demo model's."""
    if bundle == DEMO_BUNDLE:
        print(
            "no --bundle: the small demo model that ships is used; give a bundle of full-size weights for full quality",
            file=sys.stderr,
        )
