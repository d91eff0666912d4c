"""The summary in a bundle's manifest. In: a report. Out: `manifest.json` with the field `verified`, replaced whole."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from engines.bundle import MANIFEST, open_bundle
from engines.errors import OutputNotWritableError
from engines.files import check_writable
from export.verifying.report import Report


def check_manifest_writable(folder: Path) -> None:
    """Whether the summary can be written, before any work; a missing bundle is left to who opens it.

    Raises:
        OutputNotWritableError: it cannot.
    """
    if not folder.is_dir():
        return
    try:
        check_writable(folder / MANIFEST)
    except OutputNotWritableError as error:
        raise OutputNotWritableError(f"{error}; or pass --no-write to leave the bundle as it is") from error


def write_summary(folder: Path, report: Report) -> None:
    """Puts the summary into the manifest as it now stands.

    Raises:
        BundleError: the bundle is no longer there, or damaged.
        OutputNotWritableError: the manifest cannot be replaced.
    """
    manifest = open_bundle(folder, check_hashes=False).manifest
    dataclasses.replace(manifest, verified=report.summary()).write(folder)
