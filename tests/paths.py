"""Where the reference vectors are."""

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
REPOSITORY = TESTS.parent
SAMPLER = TESTS / "golden" / "sampler"
MINI = TESTS / "golden" / "e2e_mini"
LARGER = Path(os.environ.get("DOSSR_GOLDEN", REPOSITORY.parent / "shared" / "golden"))

needs_larger_golden = pytest.mark.skipif(
    not (LARGER / "e2e_cond_differ").is_dir(), reason=f"no e2e_cond_differ in {LARGER}; set DOSSR_GOLDEN"
)
