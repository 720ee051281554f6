"""Images drawn by nets that have learnt: each a function of the seed and its number alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from medgraft import seeds
from medgraft.generation.parts import DrawnParts, spec_of
from medgraft.learn import stopping
from medgraft.learn.engine import Engine
from medgraft.tasks.diffuse import Diffuse
from medgraft.tasks.stylegan import Stylegan

_AT_ONCE, _VOXELS = 32, 2**20  # images, and voxels, that are drawn together at most


@dataclass(frozen=True)
class Way:
    """How images are drawn.

    Attributes:
        steps: from noise to image (diffuse).
        sampler: "dpm", "ddim" or "ddpm" (diffuse).
        guidance: how far an image is led to its class; 0 = off (diffuse).
        truncation: below 1 there are fewer kinds of image (stylegan).
    """

    steps: int = 32
    sampler: str = "dpm"
    guidance: float = 0.5
    truncation: float = 1.0


class Maker:
    """Draws images.

    Args:
        task: in eval mode.
        engine: device and precision.
        shape: `(C, [D,] H, W)` of an image.
        way: how.
    """

    def __init__(self, task: Diffuse | Stylegan, engine: Engine, *, shape: Sequence[int], way: Way) -> None:
        self.task, self.engine, self.shape, self.way = task, engine, tuple(shape), way

    def images(self, kinds: np.ndarray, *, seed: int, first: int = 0) -> Iterator[np.ndarray]:
        """Yield one image `(C, [D,] H, W)` float32 in -1..1 a class.

        Args:
            kinds: `(N,)` classes; what they are counts only where images are drawn by class.
            seed: other images for another one.
            first: number of the first image: the k-th is the same in whatever company it is drawn.
        """
        self.task.eval()
        each = max(1, min(_AT_ONCE, _VOXELS // int(np.prod(self.shape))))
        for start in range(0, len(kinds), each):
            stopping.check()
            some = kinds[start : start + each]
            numbers = [first + start + k for k in range(len(some))]
            with torch.inference_mode(), self.engine.autocast():
                made = self._made(torch.from_numpy(some).to(self.engine.device), numbers, seed)
            yield from made.float().clamp(-1, 1).cpu().numpy()

    def _made(self, kinds: torch.Tensor, numbers: Sequence[int], seed: int) -> torch.Tensor:
        task, by_class = self.task, bool(self.task.answers.classes)
        if isinstance(task, Stylegan):
            like = torch.zeros(1, device=self.engine.device)
            z, noises = task.latents([f"made {seed} {number}" for number in numbers], like=like)
            own = kinds if by_class else None
            styles = task.maker.truncated(task.maker.styled(z, own), self.way.truncation, kinds=own)
            return task.maker.drawn(styles, noises)
        way = self.way
        *_, made = task.drawn(
            self._noise(numbers, seed, step=-1),
            kinds if by_class else None,
            steps=way.steps,
            sampler=way.sampler,
            guidance=way.guidance,
            noises=lambda step: self._noise(numbers, seed, step=step),
        )
        return task.outside(made)

    def _noise(self, numbers: Sequence[int], seed: int, *, step: int) -> torch.Tensor:
        assert isinstance(self.task, Diffuse)
        shape = self.task.shape_of(self.shape)
        rows = [
            seeds.generator(seed, "made", step + 1, number).standard_normal(shape, np.float32) for number in numbers
        ]
        return torch.from_numpy(np.stack(rows)).to(self.engine.device)


def maker_of(parts: DrawnParts, *, steps: int | None = None) -> Maker:
    """Get what draws images with the nets of a training, in so many steps or as planned."""
    own = parts.recipe.generator
    assert own.shape is not None
    way = Way(steps or own.steps, own.sampler, own.guidance, own.truncation)
    shape = (spec_of(parts.recipe).channels, *own.shape)
    return Maker(parts.task, parts.engine, shape=shape, way=way)
