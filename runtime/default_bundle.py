"""The bundle that is used where none is named. Out: a folder: the environment's, else the installation's demo model."""

from __future__ import annotations

import os
from pathlib import Path

from engines.errors import BundleNotFoundError

BUNDLE_VARIABLE = "DOSSR_BUNDLE"
"""Environment variable that names the default bundle."""

DEMO_BUNDLE = Path(__file__).parent / "demo"
"""Where the demo model stands in an installation that has one: small, made by `python -m training.demo`."""


def default_bundle() -> Path:
    """The folder that DOSSR_BUNDLE names, else the demo model's.

    Raises:
        BundleNotFoundError: none is named, and this installation has no demo model.
    """
    if named := os.environ.get(BUNDLE_VARIABLE):
        return Path(named)
    if DEMO_BUNDLE.is_dir():
        return DEMO_BUNDLE
    raise BundleNotFoundError(
        f"no bundle was named, and no demo model is in this installation; pass bundle= (--bundle DIR), or set "
        f"{BUNDLE_VARIABLE}, to a folder made by `python -m export.build --checkpoint model.ckpt --out DIR`"
    )
