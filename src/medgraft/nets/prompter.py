"""The face of a model that outlines what a prompt shows it: a picture is seen once, then asked as often as one likes.

Prompts and masks are in the file's own pixels. A `PromptFrame` is the way into the net's pixels and back, so that a
model has to say no more than its size, its normalisation, and what it guesses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from medgraft.values import Prompt

_SURE = 0.999  # of a mask that is given: a net wants logits, and 0 and 1 have none
OFFSET = 1.0  # of logits, up and down, by which the stability of a mask is asked
_WHOLE = 0.2  # power of the side of a window around a point


@dataclass(frozen=True)
class PromptFrame:
    """Where a picture is in the square that a net sees.

    Attributes:
        shape: (H, W) of the file.
        to_shape: (H, W) of the picture in the net, at the upper left.
        size: (H, W) of what the net sees; what the picture leaves is padding.
    """

    shape: tuple[int, int]
    to_shape: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def fitted(cls, shape: tuple[int, int], side: int) -> PromptFrame:
        """Get the frame of a picture whose longer side is stretched to `side` and whose rest is padded."""
        scale = side / max(shape)
        height, width = (int(size * scale + 0.5) for size in shape)
        return cls(shape, (max(1, height), max(1, width)), (side, side))

    @classmethod
    def stretched(cls, shape: tuple[int, int], side: int) -> PromptFrame:
        """Get the frame of a picture that is stretched to a square of `side`."""
        return cls(shape, (side, side), (side, side))

    def places(self, xy: np.ndarray) -> np.ndarray:
        """Get coordinates `(..., 2)` x, y of the file in the net's pixels; corners `(..., 4)` as well."""
        ways = [to / own for to, own in zip(self.to_shape[::-1], self.shape[::-1], strict=True)]
        return np.asarray(xy, np.float64) * np.array(ways * (np.shape(xy)[-1] // 2))

    def places_back(self, xy: np.ndarray) -> np.ndarray:
        """Undo `places`."""
        ways = [own / to for to, own in zip(self.to_shape[::-1], self.shape[::-1], strict=True)]
        return np.asarray(xy, np.float64) * np.array(ways * (np.shape(xy)[-1] // 2))

    def guess(self, mask: np.ndarray, to: tuple[int, int]) -> torch.Tensor:
        """Get a mask `(H, W)` of the file as logits `(h, w)` of covered shares, at the size that a net takes."""
        share = torch.from_numpy(np.asarray(mask, np.float32))[None, None]
        inner = functional.interpolate(share, self.to_shape, mode="area")
        inner = functional.pad(inner, (0, self.size[1] - inner.shape[3], 0, self.size[0] - inner.shape[2]))
        return torch.logit(functional.interpolate(inner, to, mode="area").clamp(1 - _SURE, _SURE))[0, 0]

    def back(self, logits: torch.Tensor) -> torch.Tensor:
        """Get logits `(N, h, w)`, coarse in the net's square, in the pixels of the file, `(N, H, W)`: linear.

        Source: `postprocess_masks` of segment-anything (Kirillov et al., ICCV 2023), as two steps where there is
        padding and as one where there is none.
        """
        whole = logits[None].float()
        if self.to_shape != self.size:
            whole = _resized(whole, self.size)[..., : self.to_shape[0], : self.to_shape[1]]
        return _resized(whole, self.shape)[0]


def _resized(values: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    return functional.interpolate(values, shape, mode="bilinear", align_corners=False)


@dataclass(frozen=True, eq=False)
class Embedding:
    """A picture as a model saw it, to be asked about.

    Attributes:
        frame: where its pixels are.
        features: what the model keeps of it.
    """

    frame: PromptFrame
    features: Any


def size_prior(edges: np.ndarray) -> np.ndarray:
    """Get how often a window around a point is as wide as what is meant, next to the widest, `(K,)` of `(K, 4)` edges.

    Who points at something mostly means the whole of it and not its part: of two candidates that look alike the wider
    one is taken. The power was chosen on training images of four kinds (nuclei, lungs, opacities, hippocampi) together.
    """
    sides = edges[:, 2] - edges[:, 0]
    return (sides / sides.max()) ** _WHOLE


@dataclass(frozen=True, eq=False)
class Guess:
    """What a model answers to prompts, coarse.

    Attributes:
        logits: `(P, K, h, w)` of K candidates each, above 0 inside; in the square that the net sees.
        quality: `(P, K)` the overlap (IoU) with the truth that the model foresees.
    """

    logits: torch.Tensor
    quality: torch.Tensor


@dataclass(frozen=True, eq=False)
class Candidates:
    """What one prompt may mean: a part, the whole, what the whole is in.

    Attributes:
        masks: `(K, H, W)` bool in the pixels of the file, in the order of the model.
        quality: `(K,)` the overlap (IoU) with the truth that the model foresees.
        stability: `(K,)` how little the mask changes with the threshold: IoU of the masks at +1 and -1.
        prior: `(K,)` how often what is meant is of its size, see `size_prior`; None where candidates are not by size.
    """

    masks: np.ndarray
    quality: np.ndarray
    stability: np.ndarray
    prior: np.ndarray | None = None

    @property
    def best(self) -> int:
        """The number of the candidate that the model thinks best of, and that is meant as often as not."""
        return int((self.quality if self.prior is None else self.quality * self.prior).argmax())


class Prompter(ABC):
    """A model that outlines what prompts show.

    Attributes:
        name: as it was asked for.
        source: where its weights came from.
        licence: of the weights; "" where it is not known.
        sha256: of the weight file.
        sure: where everything is outlined, the quality and the stability above which a structure is kept.
    """

    name: str = ""
    source: str = ""
    licence: str = ""
    sha256: str = ""
    sure: tuple[float, float] = (0.88, 0.95)  # of segment-anything

    @abstractmethod
    def encode(self, picture: np.ndarray) -> Embedding:
        """See a picture `(H, W, 3)` uint8 once."""

    @abstractmethod
    def guess(self, embedding: Embedding, prompts: Sequence[Prompt]) -> Guess:
        """Answer prompts of one structure each, coarse; all have as many points, boxes and masks as the first."""

    def decode(self, embedding: Embedding, prompt: Prompt) -> Candidates:
        """Get the candidates of a prompt of one structure, in the pixels of the file.

        Raises:
            ValueError: it is of several structures; `Prompt.each` parts it.
        """
        if len(prompt) != 1:
            raise ValueError("a prompt of several structures is parted by Prompt.each")
        coarse = self.guess(embedding, [prompt])
        return placed(embedding.frame, coarse.logits[0], coarse.quality[0])


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model answers to prompts before it is brought to the file; it can be learnt from.

    Attributes:
        logits: `(P, K, h, w)` of K candidates each, above 0 inside.
        quality: `(P, K)` the overlap (IoU) with the truth that the model foresees.
        edges: `(P, K, 4)` x0, y0, x1, y1 of what the places of `logits` cover, in pixels of the file.
    """

    logits: torch.Tensor
    quality: torch.Tensor
    edges: np.ndarray


@dataclass(frozen=True, eq=False)
class EncoderStages:
    """The stages of an encoder that runs as a whole: what freezing needs to know of it.

    Attributes:
        name: of the model.
        stages: (name, module), the first layers first.
        sha256: of the weights that it began with.
    """

    name: str
    stages: list[tuple[str, nn.Module]]
    sha256: str = ""

    def modules(self) -> Iterator[nn.Module]:
        """Get every layer."""
        for _, stage in self.stages:
            yield from stage.modules()

    def requires_grad_(self, learns: bool) -> None:
        """Let every stage learn, or none."""
        for _, stage in self.stages:
            stage.requires_grad_(learns)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Get every number."""
        for _, stage in self.stages:
            yield from stage.parameters()


class TeachablePrompter(Prompter):
    """A model that can learn from masks what its prompts should show.

    Attributes:
        net: everything that it has learnt.
        backbone: the stages of its encoder, `nets.adapt` freezes them.
        head: what is not of the encoder.
    """

    net: nn.Module
    backbone: Any
    head: nn.Module

    @abstractmethod
    def embed(self, picture: np.ndarray) -> Embedding:
        """See a picture `(H, W, 3)` uint8 once; what is kept can be learnt from."""

    @abstractmethod
    def answer(self, embedding: Embedding, prompts: Sequence[Prompt]) -> Answer:
        """Answer prompts of one structure each; all have as many points and boxes as the first."""

    @abstractmethod
    def described(self) -> dict[str, Any]:
        """Get plain JSON values of which the net can be built again, weights apart."""

    def encode(self, picture: np.ndarray) -> Embedding:
        with torch.inference_mode():
            return self.embed(picture)


def placed(frame: PromptFrame, logits: torch.Tensor, quality: torch.Tensor) -> Candidates:
    """Get candidates `(K, h, w)` in the pixels of the file."""
    fine = frame.back(logits)
    return Candidates((fine > 0).cpu().numpy(), quality.double().cpu().numpy(), stability(fine))


def stability(logits: torch.Tensor) -> np.ndarray:
    """Get of logits `(K, H, W)` how little their masks change with the threshold, `(K,)`; 0 of empty ones.

    Source: `calculate_stability_score` of segment-anything.
    """
    # Counted one by one: over two axes at once it takes twenty times as long.
    inner, outer = (np.array([int(torch.count_nonzero(one > at)) for one in logits]) for at in (OFFSET, -OFFSET))
    return inner / np.maximum(outer, 1)
