"""StyleGAN: images drawn from styles, learnt against a discriminator whose images are changed as it overfits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgraft import seeds
from medgraft.nets.ada import changed
from medgraft.nets.stylegan import Discriminator, Generator, StyleForm
from medgraft.scores.fidelity import kernel
from medgraft.tasks.answers import Answers, Parts
from medgraft.tasks.base import Task
from medgraft.values import Batch, Prediction

_EVERY = {"real": 16, "path": 8}  # steps between two looks at a penalty
_PATH_WEIGHT, _PATH_DECAY, _PATH_SHARE = 2.0, 0.01, 2  # of the path length; its batch is a half
_TINY = 1e-12  # where no style moves an image yet, the root has a slope all the same
_MIXED = 0.9  # chance that an image has two styles
_USUAL = 0.995  # decay of the mean style
_OVERFIT = 0.6  # share of real images that the discriminator calls real, above which images change more
_MOST = 0.85  # chance of a change, at most


@dataclass(frozen=True)
class Play:
    """How both nets play.

    Attributes:
        gamma: weight of the penalty on gradients at real images (R1).
        ramp: thousands of real images in which the chance of changes may rise from 0 to 1.
        turns: quarter turns are among the changes; not of images that have an upper side.
        mirror: mirrors are among the changes.
    """

    gamma: float = 1.0
    ramp: float = 50.0
    turns: bool = True
    mirror: bool = True


class Stylegan(Task):
    """A generator and a discriminator of images `(C, H, W)` in -1..1.

    Args:
        form: of both nets.
        answers: the classes; none where images are drawn without.
        play: how they play.
        features: what real and drawn images are compared by in validation: `(N, C, H, W)` in -1..1 -> `(N, D)`.
        seed: of what is drawn in validation.

    Attributes:
        chance: of each change of what the discriminator sees.

    Source: Karras et al., CVPR 2020, p. 8107, and NeurIPS 2020;33:12104; R1: Mescheder et al., ICML 2018, p. 3481.
    """

    step: Tensor
    chance: Tensor
    signs: Tensor
    seen: Tensor
    path: Tensor
    wants: ClassVar[frozenset[str]] = frozenset()
    places: ClassVar[str] = "images"

    def __init__(
        self, form: StyleForm, answers: Answers, *, play: Play, features: nn.Module | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.maker, self.judge = Generator(form), Discriminator(form)
        self.form, self.answers, self.play, self.seed = form, answers, play, seed
        self._features = [features]  # in a list, so that its weights are none of this module's
        for name, value in (("step", 0.0), ("chance", 0.0), ("signs", 0.0), ("seen", 0.0), ("path", 0.0)):
            self.register_buffer(name, torch.tensor(value))

    def parts(self) -> Parts:
        return Parts((), self.maker)

    def measure(self, batches: Iterable[Batch]) -> int:
        """Show images of the training to what the generator adds to, and get how many it took; 0 of none."""
        if self.maker.under is None:
            return 0
        seed = seeds.torch_seed(self.seed, "styles")
        return self.maker.under.learn((one.pixels for one in batches), styled=self._of_any_kind, seed=seed)

    def _of_any_kind(self, z: Tensor) -> Tensor:
        if not self.form.classes:
            return self.maker.styled(z)
        return self.maker.styled(z, torch.arange(len(z), device=z.device) % self.form.classes)

    # ---- learning ---------------------------------------------------------------------------------------

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        real, kinds = batch.pixels, self._kinds(batch.targets)
        yield "discriminator", self._judging(real, kinds)
        yield "generator", self._making(len(real), kinds, real)
        self.step += 1

    def _judging(self, real: Tensor, kinds: Tensor | None) -> Tensor:
        with torch.no_grad():
            made = self._made(len(real), kinds, real)
        said = self.judge(self._seen(made), kinds)
        shown = self._seen(real)
        penalty = self.play.gamma > 0 and int(self.step) % _EVERY["real"] == 0
        shown = shown.detach().requires_grad_() if penalty else shown
        truth = self.judge(shown, kinds)
        loss = F.softplus(said.float()).mean() + F.softplus(-truth.float()).mean()
        if penalty:
            (slope,) = torch.autograd.grad(truth.sum(), shown, create_graph=True)
            size = slope.float().square().sum(dim=(1, 2, 3)).mean()
            loss = loss + size * (self.play.gamma / 2 * _EVERY["real"])
        self._adapt(truth.detach())
        return loss

    def _adapt(self, truth: Tensor) -> None:
        """Change images more where the discriminator knows the real ones by heart, less where it does not."""
        self.signs += torch.sign(truth.float()).sum()
        self.seen += len(truth)
        if float(self.seen) >= 64:
            up = 1.0 if float(self.signs / self.seen) > _OVERFIT else -1.0
            self.chance.add_(up * float(self.seen) / (1000 * self.play.ramp)).clamp_(0, _MOST)
            self.signs.zero_()
            self.seen.zero_()

    def _making(self, count: int, kinds: Tensor | None, like: Tensor) -> Tensor:
        loss = F.softplus(-self.judge(self._seen(self._made(count, kinds, like)), kinds).float()).mean()
        if int(self.step) % _EVERY["path"] == 0:
            loss = loss + self._path(max(1, count // _PATH_SHARE), kinds, like)
        return loss

    def _path(self, count: int, kinds: Tensor | None, like: Tensor) -> Tensor:
        """How unevenly a step of the style moves the image."""
        few = None if kinds is None else kinds[:count]
        styles = self._styles(count, few, like)
        images = self.maker.drawn(styles, self._noises(count, like))
        directions = torch.randn_like(images) / math.sqrt(images.shape[-1] * images.shape[-2])
        (slope,) = torch.autograd.grad((images * directions).sum(), styles, create_graph=True)
        lengths = (slope.float().square().sum(dim=2).mean(dim=1) + _TINY).sqrt()
        mean = self.path.lerp(lengths.detach().mean(), _PATH_DECAY)
        self.path.copy_(mean)
        return (lengths - mean).square().mean() * (_PATH_WEIGHT * _EVERY["path"])

    def _seen(self, images: Tensor) -> Tensor:
        words = {"turns": self.play.turns, "mirror": self.play.mirror}
        return changed(images, float(self.chance), **words) if float(self.chance) > 0 else images

    def _made(self, count: int, kinds: Tensor | None, like: Tensor) -> Tensor:
        return self.maker.drawn(self._styles(count, kinds, like), self._noises(count, like))

    def _styles(self, count: int, kinds: Tensor | None, like: Tensor) -> Tensor:
        """Styles of each layer: most images have one style in the coarse layers and another one in the fine ones."""
        first, second = (
            self.maker.styled(torch.randn(count, self.form.latent, device=like.device), kinds) for _ in range(2)
        )
        with torch.no_grad():
            for number in range(max(1, self.form.classes)):
                own = first if kinds is None else first[kinds == number]
                if len(own):
                    self.maker.usual[number].lerp_(own.detach().float().mean(dim=0), 1 - _USUAL)
        layers = torch.arange(self.maker.styles, device=like.device)
        cut = torch.randint(1, self.maker.styles, (count, 1), device=like.device)
        cut = torch.where(torch.rand(count, 1, device=like.device) < _MIXED, cut, self.maker.styles)
        return torch.where((layers[None] < cut)[..., None], first[:, None], second[:, None])

    def _noises(self, count: int, like: Tensor) -> list[Tensor]:
        return [torch.randn(shape, device=like.device) for shape in self.maker.noise_shapes(count)]

    def _kinds(self, targets: Tensor | None) -> Tensor | None:
        return targets.long() if self.answers.classes and targets is not None else None

    # ---- judging ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[Prediction]:
        """Get features of each image and of one that is drawn for it, always from the same latent."""
        features = self._features[0]
        assert features is not None
        features.to(batch.pixels.device)  # it does not move with this module
        z, noises = self.latents([f"judged {key}" for key in batch.keys], like=batch.pixels)
        made = self.maker.drawn(self.maker.styled(z, self._kinds(batch.targets)), noises)
        pairs = torch.stack([features(batch.pixels), features(made.clamp(-1, 1))], dim=1).double().cpu().numpy()
        return [Prediction(key, pair.ravel(), np.zeros(0), "") for key, pair in zip(batch.keys, pairs, strict=True)]

    def latents(self, names: Sequence[str], *, like: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Get latents and noises that depend on the seed and a name each."""
        dice = [seeds.generator(self.seed, "latent", 0, name) for name in names]
        z = np.stack([one.standard_normal(self.form.latent, np.float32) for one in dice])
        noises = [
            np.stack([one.standard_normal(shape[1:], np.float32) for one in dice])
            for shape in self.maker.noise_shapes(1)
        ]
        return torch.from_numpy(z).to(like), [torch.from_numpy(one).to(like) for one in noises]

    def meter(self) -> KernelMeter:
        return KernelMeter()


class KernelMeter:
    """How far drawn images are from real ones, by the kernel of their features."""

    def __init__(self) -> None:
        self.pairs: list[np.ndarray] = []

    def update(self, predictions: Sequence[Prediction], targets: np.ndarray) -> None:
        """Add predictions, each the features of a real image and of a drawn one."""
        self.pairs += [one.logits.reshape(2, -1) for one in predictions]

    def watch(self) -> tuple[float, float]:
        """Get (loss, score): the KID, and what it lacks to zero."""
        real, made = np.stack(self.pairs).swapaxes(0, 1)
        across, (one, two) = kernel(real, made).mean(), (_apart(kernel(part, part)) for part in (real, made))
        distance = float(one + two - 2 * across)
        return distance, -distance


def _apart(table: np.ndarray) -> float:
    """The mean over pairs of different images."""
    count = len(table)
    return float((table.sum() - np.trace(table)) / max(1, count * (count - 1)))
