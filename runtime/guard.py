"""Whether a stage's values can be right. In: the largest absolute value that its kernel saw. Out: nothing, or a named
error.

The kernels take that value on their way (NaN counts as larger than infinity), so that a check is one comparison.
"""

from __future__ import annotations

import math

from engines.errors import NonFiniteError, OutOfRangeError
from solvers.plan import Step

LATENT_LIMIT = 100.0
"""Of latents. Those of Stable Diffusion lie within about 10; with random weights, small and full-size, 1 to 50 steps,
13.1 was the most. An engine that saturates where it should overflow gives 65,504 in fp16 and 448 in fp8."""
PICTURE_LIMIT = 20.0
"""Of the decoded picture, whose values are about 0 to 1; with random weights 2.1 was the most."""
_REMEDY = "use a bundle of --precision fp32 (as --bundle or --fallback), or check the checkpoint"


def check_start(largest: float) -> None:
    """After `kernels.start`, which sees the posterior's sample and the first latent.

    Raises:
        NonFiniteError: NaN or infinity.
        OutOfRangeError: more than `LATENT_LIMIT`.
    """
    _check(largest, LATENT_LIMIT, "encode")


def check_step(largest: float, number: int, step: Step) -> None:
    """After `kernels.solver_step` with that row of the plan (`number` from 1), which sees the new latent and the data
    prediction. The latter may be as large as the row makes it of a latent, output and sample at their limit.

    Raises:
        NonFiniteError: NaN or infinity.
        OutOfRangeError: more than `LATENT_LIMIT` times what the row multiplies by.
    """
    gain = abs(step.p_x) + abs(step.p_out) + abs(step.p_hat)
    _check(largest, LATENT_LIMIT * max(1.0, gain), f"denoise, step {number} (timestep {step.timestep:g})")


def check_picture(largest: float) -> None:
    """After `kernels.planar_to_image`, which sees the decoded picture, its colors fixed.

    Raises:
        NonFiniteError: NaN or infinity.
        OutOfRangeError: more than `PICTURE_LIMIT`.
    """
    _check(largest, PICTURE_LIMIT, "decode")


def _check(largest: float, limit: float, stage: str) -> None:
    if not math.isfinite(largest):
        value = "NaN" if math.isnan(largest) else "infinity"
        raise NonFiniteError(f"{stage} gave {value}, expected at most {limit:.4g}", _REMEDY)
    if largest > limit:
        raise OutOfRangeError(f"{stage} gave values up to {largest:.4g}, expected at most {limit:.4g}", _REMEDY)
