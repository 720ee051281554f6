"""Anomaly: how unlike normal images an image is, and where; learnt from normal images alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from medgraft import seeds
from medgraft.nets.bottleneck import Bottleneck
from medgraft.nets.diffusing import q_sample
from medgraft.nets.patch_bank import PatchBank
from medgraft.nets.patch_scale import topmost
from medgraft.tasks.answers import Answers, Parts
from medgraft.tasks.base import Task
from medgraft.tasks.diffuse import Diffuse, ErrorMeter
from medgraft.values import Batch, InputSpec, Prediction

_INSIDE = 0.5  # share of a pixel


@dataclass(frozen=True)
class Look:
    """How images are looked at.

    Attributes:
        top: share of the places, the oddest, whose mean is the score of an image.
        whole: weight of the image as a whole beside its places (patches).
        neighbours: kept places that a score is weighed by; 0 = off (patches).
        noise: time that images are taken to (diffusion).
        noises: how many noises are averaged over (diffusion).
        steps: back from the noise (diffusion).
    """

    top: float = 0.05
    whole: float = 1.0
    neighbours: int = 0
    noise: float = 0.4
    noises: int = 4
    steps: int = 8


class Anomaly(Task):
    """Distance from normal images by one of three nets.

    A `PatchBank` compares features and learns in one pass, without losses. `Diffuse` and `Bottleneck` learn to draw
    normal images again, and what they draw otherwise is odd.

    Args:
        net: of one of these kinds.
        answers: the normal class and the other one.
        spec: what the net eats.
        look: how images are looked at.
        seed: of noises.

    Source: Roth et al., CVPR 2022, p. 14318 (features); Wyatt et al., CVPR workshops 2022, p. 649 (part of the way to
        noise and back), here with the Gaussian noise that `Diffuse` learns.
    """

    wants: ClassVar[frozenset[str]] = frozenset({"label"})
    places: ClassVar[str] = "normals"

    def __init__(
        self, net: PatchBank | Diffuse | Bottleneck, answers: Answers, *, spec: InputSpec, look: Look, seed: int = 0
    ) -> None:
        super().__init__()
        self.net, self.answers, self.spec, self.look, self.seed = net, answers, spec, look, seed

    def parts(self) -> Parts:
        if isinstance(self.net, PatchBank):
            return Parts(tuple(self.net.backbone.stages), nn.Identity())
        return Parts((), self.net)

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """Yield the mean squared error of what is drawn again, or what `Diffuse` learns from; a bank has none."""
        if isinstance(self.net, Diffuse):
            yield from self.net.losses(batch)
        elif isinstance(self.net, Bottleneck):
            yield "all", (self.net(batch.pixels).float() - batch.pixels).square().mean()

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[Prediction]:
        """Get of each image how badly it is drawn again, by which an epoch is chosen."""
        if isinstance(self.net, Diffuse):
            return self.net.predict(batch)
        if isinstance(self.net, PatchBank):
            errors = self.unlike(batch, torch.ones_like(batch.pixels[:, :1]))[0].flatten(1).mean(dim=1)
        else:
            errors = (self.net(batch.pixels).float() - batch.pixels).square().flatten(1).mean(dim=1)
        none, values = np.zeros(0), errors.double().cpu().numpy()
        return [
            Prediction(key, np.array([one]), none, "", value=float(one))
            for key, one in zip(batch.keys, values, strict=True)
        ]

    def meter(self) -> ErrorMeter:
        return ErrorMeter()

    @torch.no_grad()
    def unlike(self, batch: Batch, area: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Get how odd each place is, which places belong to the image, and the score of each image.

        Args:
            batch: network pixels.
            area: `(N, 1, H, W)` 1 where pixels belong to the image and 0 where it was padded to a square.

        Returns:
            `(N, h, w)` float32 on the net's own grid, `(N, h, w)` bool, and `(N,)` float32.
        """
        if isinstance(self.net, PatchBank):
            return self._compared(self.net, batch, area)
        odd = (self._again(batch).float() - batch.pixels).abs().mean(dim=1)
        inside = area[:, 0] >= _INSIDE
        return torch.where(inside, odd, torch.zeros_like(odd)), inside, self._scores(odd, inside)

    def _compared(self, net: PatchBank, batch: Batch, area: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Places and the whole image together, each in deviations of the scores of normal images."""
        odd, inside, whole = net(batch.pixels, area)
        scores = self._scores(odd, inside)
        if self.look.neighbours:
            scores = scores * net.weights(batch.pixels, area, neighbours=self.look.neighbours)
        odd = torch.where(inside, odd.float(), torch.zeros_like(odd, dtype=torch.float32))
        return odd, inside, net.in_units(scores) + self.look.whole * whole

    def _scores(self, odd: Tensor, inside: Tensor) -> Tensor:
        rows = [topmost(own[there], self.look.top) for own, there in zip(odd.float(), inside, strict=True)]
        return torch.stack(rows)

    def _again(self, batch: Batch) -> Tensor:
        """Get the images drawn again; by diffusion the mean over noises, the same ones whenever it is asked."""
        if isinstance(self.net, Bottleneck):
            return self.net(batch.pixels)
        assert isinstance(self.net, Diffuse)
        net, look, found = self.net, self.look, []
        time = torch.full((len(batch.keys),), look.noise, device=batch.pixels.device)
        for number in range(look.noises):
            # By number alone, not by name: an image has the same score under whatever name it comes.
            dice = seeds.generator(self.seed, "noise", index=number)
            eps = torch.from_numpy(dice.standard_normal(batch.pixels.shape[1:], np.float32)).to(batch.pixels)
            noisy, _ = q_sample(batch.pixels, time, eps=eps.expand_as(batch.pixels), side=net.side)
            *_, drawn = net.drawn(noisy, steps=look.steps, sampler="ddim", start=look.noise)
            found.append(drawn.float())
        return torch.stack(found).mean(dim=0)
