"""The domain-shift objective. In: latents of originals and low-resolution pictures. Out: noisy latents, predictions.

Source: arXiv:2409.17778, Eq. 2 (the shifted marginal) and Eq. 8 (the loss) in the form of the released code, which
predicts x0 without dividing by 1 - eta.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engines.bundle import Schedule
from export.schedule import beta_table, eta_table


@dataclass(frozen=True, kw_only=True)
class DomainShift:
    """alpha, sigma and eta of every timestep, float32 [T]."""

    alpha: Tensor
    sigma: Tensor
    eta: Tensor

    @classmethod
    def of(cls, schedule: Schedule, device: torch.device) -> DomainShift:
        """The tables of a schedule, computed in float64."""
        abar = torch.cumprod(1 - beta_table(schedule), dim=0)
        eta = eta_table(schedule.t1, schedule.train_timesteps)
        alpha, sigma, eta = (table.float().to(device) for table in (abar.sqrt(), (1 - abar).sqrt(), eta))
        return cls(alpha=alpha, sigma=sigma, eta=eta)

    def mix(self, x0: Tensor, x0_hat: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """x_t = alpha (eta x0_hat + (1 - eta) x0) + sigma noise; latents [B,4,H,W], timestep int64 [B]."""
        eta = _at(self.eta, timestep)
        return _at(self.alpha, timestep) * (eta * x0_hat + (1 - eta) * x0) + _at(self.sigma, timestep) * noise

    def denoise(self, x_t: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """The x0 that a prediction of the noise means: (x_t - sigma noise) / alpha."""
        return (x_t - _at(self.sigma, timestep) * noise) / _at(self.alpha, timestep)


def _at(table: Tensor, timestep: Tensor) -> Tensor:
    return table[timestep][:, None, None, None]
