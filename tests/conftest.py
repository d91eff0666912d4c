"""Bundles of the small golden checkpoint, exported once a session."""

import logging
import os

import pytest

from tests.parity.exporting import E2E_MINI, SESSION, exported_bundle, remove_bundles

FIRST = SESSION not in os.environ
"""Whether this is the process that began the session."""
os.environ.setdefault(SESSION, str(os.getpid()))


def pytest_sessionfinish():
    if FIRST:
        remove_bundles()


@pytest.fixture(autouse=True)
def log_level():
    """A command with --quiet, run in this process, does not silence the next test's log."""
    log = logging.getLogger("dossr")
    level = log.level
    yield
    log.setLevel(level)


@pytest.fixture(scope="session")
def mini_bundle():
    """Folder of e2e_mini exported in fp32."""
    return exported_bundle(E2E_MINI, "--precision", "fp32")


@pytest.fixture(scope="session")
def mini_bundle_fp16():
    """Folder of e2e_mini exported in fp16."""
    return exported_bundle(E2E_MINI, "--precision", "fp16")
