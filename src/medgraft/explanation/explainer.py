"""A map of one image, in the file's own pixels, with what it is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medgraft.errors import BadImage
from medgraft.explanation.methods import map_of, method_for
from medgraft.explanation.sanity import Sanity, alike, deletion_insertion, pointed, randomised
from medgraft.explanation.speech import SEVERITY, answer_named, most_likely
from medgraft.files import network_pixels, read_image, way_back
from medgraft.learn.infer import Predictor
from medgraft.samples.loader import normalised
from medgraft.values import Image, ImageRef, Prediction

REACH = 0.03  # of the longer side: how near a mask the largest value has to lie to count as pointing at it


@dataclass(frozen=True, eq=False)
class Explained:
    """A map of one image.

    Attributes:
        key: the image.
        prediction: what the run says of it.
        answer: what the map is of, in words: a class or label; "" for grades and numbers.
        method: how the map was made.
        map: `(H, W)` float32 in the file's own pixels, at least 0, in parts of its largest value.
        picture: `(H, W)` or `(H, W, 3)` uint8, the file as it is shown.
        sanity: what the map is worth.
        pointed: whether its largest value lies on the mask; None where no mask is known.
    """

    key: str
    prediction: Prediction
    answer: str
    method: str
    map: np.ndarray
    picture: np.ndarray
    sanity: Sanity
    pointed: bool | None = None


class Explainer:
    """Makes maps of a model's answers.

    Args:
        predictor: the model on its device.
        method: a word of `methods.METHODS`, or "auto".
        target: the class or label to explain; None takes the answer that is given.

    Raises:
        UnknownName, BadRecipe: no such method, no such class.
    """

    def __init__(self, predictor: Predictor, *, method: str = "auto", target: str | None = None) -> None:
        self.predictor, self.model, self.task = predictor, predictor.model, predictor.model.task
        self.method = method_for(self.task, method, target=target)
        target = SEVERITY if self.method == SEVERITY else target
        self.target = None if target is None else answer_named(self.task, target)
        self.task.requires_grad_(False)
        self.random = randomised(self.task, seed=int(self.model.card.get("seed") or 0))

    def explain(self, ref: ImageRef, *, mask: ImageRef | None = None) -> Explained:
        """Make the map of one image.

        Raises:
            BadImage: the image or its mask cannot be read.
        """
        pixels = self.model.pixels
        image = read_image(ref, window=pixels.window)
        words = {name: value for name, value in pixels.words().items() if name != "window"}
        rows = network_pixels(image, **words)[None]
        (prediction,) = self.predictor.predict(rows, [str(ref)])
        entering = normalised(rows, self.model.spec).to(self.predictor.device)
        answer = self._answer(entering)
        found = map_of(self.task, entering, answer=answer, method=self.method)[0].cpu()
        sanity = self._sanity(entering, answer, found)
        height, width = image.pixels.shape[-2:]
        own = way_back(found.numpy(), height=height, width=width, fit=pixels.fit)
        own = own / max(float(own.max()), 1e-12)
        names = (*self.task.answers.classes, *([SEVERITY] if self.task.answers.zones else ()))
        said = names[int(answer)] if names and self.task.answer_kind not in ("ordinal", "number") else ""
        hit = None if mask is None else self._pointed(own, mask)
        return Explained(str(ref), prediction, said, self.method, own, _shown(image), sanity, hit)

    def _answer(self, entering: Tensor) -> Tensor:
        if self.target is not None:
            return torch.tensor([self.target], device=entering.device)
        with torch.no_grad():
            return most_likely(self.task, self.task(entering)).to(entering.device)

    def _sanity(self, entering: Tensor, answer: Tensor, found: Tensor) -> Sanity:
        other = map_of(self.random, entering, answer=answer, method=self.method)[0].cpu()
        left, reached = deletion_insertion(self.task, entering, order=found, answer=answer)
        order = torch.from_numpy(np.random.default_rng(0).random(tuple(found.shape), dtype=np.float32))
        by_chance = deletion_insertion(self.task, entering, order=order, answer=answer)
        return Sanity(alike(found.numpy(), other.numpy()), left, reached, by_chance[1] - by_chance[0])

    @staticmethod
    def _pointed(own: np.ndarray, mask: ImageRef) -> bool | None:
        truth = read_image(mask).pixels.max(axis=0) > 0
        if truth.shape != own.shape:
            raise BadImage(f"the mask has {truth.shape}, the image {own.shape} pixels", where=mask.path)
        return pointed(own, truth, reach=round(REACH * max(own.shape))) if truth.any() else None


def _shown(image: Image) -> np.ndarray:
    planes = np.rint(image.display() * 255).astype(np.uint8)
    return planes[0] if len(planes) == 1 else np.moveaxis(planes[:3], 0, -1)
