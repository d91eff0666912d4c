"""Whether a bundle may be written to a place. In: a path. Out: an error where something else stands there."""

from __future__ import annotations

from pathlib import Path

from engines.bundle import MANIFEST, parse_manifest
from engines.errors import BundleSchemaError, OutputExistsError


def check_out(out: Path) -> None:
    """Refuses a place that holds anything but a bundle.

    Raises:
        OutputExistsError: it does.
    """
    if out.is_dir() and not out.is_symlink():
        names = {path.name for path in out.iterdir()}
        if not names or (names <= {MANIFEST, "onnx", "engines"} and _has_manifest(out)):
            return
    elif not out.exists() and not out.is_symlink():
        return
    raise OutputExistsError(f"{out} exists and is not a whole bundle, so it is not replaced; give another --out")


def _has_manifest(folder: Path) -> bool:
    try:
        parse_manifest((folder / MANIFEST).read_text(encoding="utf-8"), str(folder))
    except (OSError, UnicodeDecodeError, BundleSchemaError):
        return False
    return True
