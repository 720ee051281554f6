"""Denoise: noise taken away, learnt from noisy images alone by foretelling pixels that are hidden from the net."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from medgraft.nets.restorer import GRIDS, Restorer, RestorerForm, hidden
from medgraft.tasks.answers import Parts
from medgraft.tasks.base import Task
from medgraft.tasks.diffuse import ErrorMeter
from medgraft.values import Batch, Prediction


class Denoise(Task):
    """A net that foretells a pixel by its surroundings: the signal can be foretold, noise cannot.

    Planes `(N, 1, H, W)` are in standard deviations of their image.

    Args:
        form: of the net.

    Source: Krull, Buchholz and Jug, CVPR 2019, p. 2129 (Noise2Void); Batson and Royer, ICML 2019, p. 524 (Noise2Self).
    """

    wants: ClassVar[frozenset[str]] = frozenset()
    places: ClassVar[str] = "pixels"

    def __init__(self, form: RestorerForm) -> None:
        super().__init__()
        self.net = Restorer(form)

    def parts(self) -> Parts:
        return Parts((), self.net)

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """Yield the mean squared error at hidden pixels."""
        shown, spots = hidden(batch.pixels, torch.randint(0, GRIDS, (len(batch.keys),)))
        yield "all", (self.net(shown).float() - batch.pixels.float())[spots].square().mean()

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[Prediction]:
        """Get of each plane the error of what is foretold of its pixels, each hidden once."""
        errors = (self.foretold(batch.pixels) - batch.pixels.float()).square().flatten(1).mean(dim=1)
        means = errors.double().cpu().tolist()
        none = np.zeros(0)
        return [
            Prediction(key, np.array([one]), none, "", value=one) for key, one in zip(batch.keys, means, strict=True)
        ]

    def foretold(self, planes: Tensor) -> Tensor:
        """Get planes `(N, 1, H, W)`, each pixel as its surroundings foretell it, float32; its own value has no part."""
        found = torch.zeros_like(planes, dtype=torch.float32)
        for grid in range(GRIDS):
            shown, spots = hidden(planes, torch.full((len(planes),), grid))
            found = torch.where(spots, self.net(shown).float(), found)
        return found

    def meter(self) -> ErrorMeter:
        return ErrorMeter()
