"""Diffuse: images drawn from noise, learnt by taking noise away; with a class or without."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from medgraft import seeds
from medgraft.nets.autoencoder import Autoencoder
from medgraft.nets.denoiser import Denoiser, DenoiserForm
from medgraft.nets.diffusing import go_back, parts, q_sample
from medgraft.nets.gaussian import Gaussian
from medgraft.tasks.answers import Answers, Parts
from medgraft.tasks.base import Task
from medgraft.values import Batch, Prediction

_UNTOLD = 0.1  # share of the images that are learnt without their class, for guidance
_TRIED = 4  # times at which a validation image is judged


class Diffuse(Task):
    """Denoising diffusion of images `(C, [D,] H, W)` in -1..1, or of their latents.

    Args:
        form: of the net.
        answers: the classes; none where images are drawn without.
        side: pixels of the image, or places of its latent, by which noise is shared over time.
        seed: of what validation images are judged with.
        coder: makes latents of images, and images of them; it does not learn here. Where there is one, batches are
            latents and what is foreseen is not kept in -1..1.
        gaussian: foresees what it can, once `measure` has shown it images; the net learns what is left.

    Source: Ho et al., NeurIPS 2020;33:6840; guidance without a classifier: Ho and Salimans, arXiv:2207.12598.
    """

    wants: ClassVar[frozenset[str]] = frozenset()
    places: ClassVar[str] = "images"

    def __init__(
        self,
        form: DenoiserForm,
        answers: Answers,
        *,
        side: int,
        seed: int = 0,
        coder: Autoencoder | None = None,
        gaussian: Gaussian | None = None,
    ) -> None:
        super().__init__()
        self.net, self.answers, self.coder, self.gaussian = Denoiser(form), answers, coder, gaussian
        self.side, self.seed = side, seed

    @property
    def latent(self) -> bool:
        """Tell whether it draws latents."""
        return self.coder is not None

    def shape_of(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Get the shape of what noise is drawn for: of an image `(C, [D,] H, W)` itself, or its latent."""
        return tuple(shape) if self.coder is None else self.coder.form.places(tuple(shape))

    def inside(self, images: Tensor) -> Tensor:
        """Get what it draws of images in -1..1: their latents, or themselves."""
        return images if self.coder is None else self.coder.folded(images)

    def outside(self, drawn: Tensor) -> Tensor:
        """Get images, in -1..1 about, of what it drew."""
        return drawn if self.coder is None else self.coder.unfolded(drawn)

    def measure(self, batches: Iterable[Batch]) -> int:
        """Show images of the training to the Gaussian, before the net learns, and get how many it took; 0 of none."""
        if self.gaussian is None:
            return 0
        return self.gaussian.measured(one.pixels for one in batches)

    def says(self, x_t: Tensor, time: Tensor, *, kinds: Tensor | None) -> Tensor:
        """Get the v of noisy images `(N, C, [D,] H, W)` at times `(N,)`, float32; kinds as of `drawn`."""
        told = self.net(x_t, time, kinds).float()
        if self.gaussian is None:
            return told
        alpha, sigma = parts(time, side=self.side, ndim=x_t.ndim)
        return told + self.gaussian.v(x_t, alpha=alpha, sigma=sigma)

    def parts(self) -> Parts:
        return Parts((), self.net)

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """Yield the mean squared error of v at times spread evenly over the batch."""
        x_0, count = batch.pixels, len(batch.keys)
        time = (torch.randperm(count, device=x_0.device) + torch.rand(count, device=x_0.device)) / count
        eps, untold = torch.randn_like(x_0), torch.rand(count, device=x_0.device) < _UNTOLD
        noisy, v = q_sample(x_0, time, eps=eps, side=self.side)
        kinds = None
        if self.answers.classes:
            assert batch.targets is not None
            kinds = torch.where(untold, len(self.answers.classes), batch.targets.long())
        yield "all", (self.says(noisy, time, kinds=kinds) - v.float()).square().mean()

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[Prediction]:
        """Get of each image the error of v, at the same times and with the same noise whenever it is asked."""
        errors = []
        for number in range(_TRIED):
            dice = [seeds.generator(self.seed, "judged", number, key) for key in batch.keys]
            eps = torch.from_numpy(np.stack([one.standard_normal(batch.pixels.shape[1:], np.float32) for one in dice]))
            eps = eps.to(batch.pixels)
            time = batch.pixels.new_tensor([(number + one.random()) / _TRIED for one in dice])
            noisy, v = q_sample(batch.pixels, time, eps=eps, side=self.side)
            said = self.says(noisy, time, kinds=self._kinds(batch.targets))
            errors.append((said - v.float()).square().flatten(1).mean(dim=1))
        means = torch.stack(errors).mean(dim=0).double().cpu().numpy()
        none = np.zeros(0)
        return [
            Prediction(key, np.array([one]), none, "", value=float(one))
            for key, one in zip(batch.keys, means, strict=True)
        ]

    def _kinds(self, targets: Tensor | None) -> Tensor | None:
        return targets.long() if self.answers.classes and targets is not None else None

    def meter(self) -> ErrorMeter:
        return ErrorMeter()

    @torch.no_grad()
    def drawn(
        self,
        noise: Tensor,
        kinds: Tensor | None = None,
        *,
        steps: int = 40,
        sampler: str = "dpm",
        guidance: float = 0.0,
        start: float = 1.0,
        noises: Any = None,
    ) -> Iterator[Tensor]:
        """Yield what is foreseen at each step, the last being the result; see `nets.diffusing.go_back`.

        Args:
            noise: `(N, C, [D,] H, W)`, or in the shape of latents: then latents are yielded, see `outside`.
            kinds: `(N,)` classes, or None.
            steps: how often the net is asked.
            sampler: "ddpm", "ddim" or "dpm".
            guidance: how far the answer is led away from the one without a class; 0 takes the plain answer.
            start: the time of `noise`.
            noises: step -> noise, for "ddpm".
        """

        def says(x_t: Tensor, time: Tensor) -> Tensor:
            told = self.says(x_t, time, kinds=kinds)
            if not guidance or kinds is None:
                return told
            plain = self.says(x_t, time, kinds=None)
            return told + guidance * (told - plain)

        yield from go_back(
            noise, says, side=self.side, steps=steps, sampler=sampler, start=start, noises=noises, clip=not self.latent
        )


class ErrorMeter:
    """The mean error of what is foreseen."""

    def __init__(self) -> None:
        self.errors: list[float] = []

    def update(self, predictions: Sequence[Prediction], targets: np.ndarray) -> None:
        """Add predictions; there is no truth beside them."""
        self.errors += [float(one.value or 0.0) for one in predictions]

    def watch(self) -> tuple[float, float]:
        """Get (loss, score): the mean error, which rises where images are learnt by heart, and its negative."""
        error = float(np.mean(self.errors)) if self.errors else 1.0
        return error, -error
