"""Latents learnt before anything is drawn in them: an autoencoder gives images back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from medgraft.nets.autoencoder import Autoencoder, code_loss
from medgraft.tasks.answers import Parts
from medgraft.tasks.base import Task
from medgraft.tasks.diffuse import ErrorMeter
from medgraft.values import Batch, Prediction

_WEIGHT = 1e-4  # of the Kullback-Leibler term of a number: latents stay near 0, and images stay sharp


class Code(Task):
    """An autoencoder that learns to give back images `(C, [D,] H, W)` in -1..1.

    Args:
        coder: learns in place.
    """

    wants: ClassVar[frozenset[str]] = frozenset()
    places: ClassVar[str] = "images"

    def __init__(self, coder: Autoencoder) -> None:
        super().__init__()
        self.coder = coder

    def parts(self) -> Parts:
        return Parts((), self.coder)

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """Yield the absolute error of what comes back of a drawn code, and what keeps codes near to standard ones."""
        mean, spread = self.coder(batch.pixels)
        drawn = mean + (0.5 * spread).exp() * torch.randn_like(mean, dtype=torch.float32)
        said = self.coder.raw_back(drawn)
        yield "all", code_loss(said, batch.pixels, mean=mean, spread=spread, weight=_WEIGHT)

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[Prediction]:
        """Get the mean absolute error of each image that comes back of the middle of its code."""
        said = self.coder.raw_back(self.coder(batch.pixels)[0])
        errors = (said.float() - batch.pixels.float()).abs().flatten(1).mean(dim=1).double().cpu().numpy()
        return [
            Prediction(key, np.array([one]), np.zeros(0), "", value=float(one))
            for key, one in zip(batch.keys, errors, strict=True)
        ]

    def meter(self) -> ErrorMeter:
        return ErrorMeter()
