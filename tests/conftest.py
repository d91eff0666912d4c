"""Bundles of the small golden checkpoint, exported once a session."""

import pytest

from tests.parity.exporting import E2E_MINI, exported_bundle


@pytest.fixture(scope="session")
def mini_bundle():
    """Folder of e2e_mini exported in fp32."""
    return exported_bundle(E2E_MINI, "--precision", "fp32")


@pytest.fixture(scope="session")
def mini_bundle_fp16():
    """Folder of e2e_mini exported in fp16."""
    return exported_bundle(E2E_MINI, "--precision", "fp16")
