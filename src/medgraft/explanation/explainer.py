"""A map of one image, in the file's own pixels, with what it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medgraft.errors import BadImage, UserError
from medgraft.explanation.maker import MapMaker
from medgraft.explanation.methods import method_for
from medgraft.explanation.names import SEVERITY
from medgraft.explanation.sanity import Sanity, pointed
from medgraft.explanation.speech import answer_given, answer_named
from medgraft.files import network_pixels, read_image, way_back
from medgraft.learn.infer import Predictor
from medgraft.values import Image, ImageRef, Prediction

REACH = 0.03  # of the longer side: how near a mask the largest value has to lie to count as pointing at it


@dataclass(frozen=True, eq=False)
class Source:
    """Where a file's picture lies: affine, spacing and header facts of its `Image`, without the pixels."""

    affine: np.ndarray | None
    spacing_mm: tuple[float, ...] | None
    facts: Mapping[str, str]


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
        source: where the file's picture lies.
        pointed: whether its largest value lies on the mask; None where no mask is known.
        mask_fault: why a mask could not be used; "" where there is nothing to say.
    """

    key: str
    prediction: Prediction
    answer: str
    method: str
    map: np.ndarray
    picture: np.ndarray
    sanity: Sanity
    source: Source
    pointed: bool | None = None
    mask_fault: str = ""


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
        self.predictor, self.model = predictor, predictor.model
        task, seed = self.model.task, int(self.model.card.get("seed") or 0)
        self.method = method_for(task, method, target=target)
        target = SEVERITY if self.method == SEVERITY else target
        self.target = None if target is None else answer_named(task, target)
        self.maker = MapMaker(task, device=predictor.device, method=self.method, seed=seed)

    def explain(self, ref: ImageRef, *, masks: Sequence[ImageRef] = ()) -> Explained:
        """Make the map of one image.

        Args:
            ref: the image.
            masks: of what is to be found there; together they are one mask. The map is worth having without them: one
                that cannot be used is told by `mask_fault`.

        Raises:
            BadImage: the image cannot be read.
        """
        pixels, task = self.model.pixels, self.model.task
        image = read_image(ref, window=pixels.window)
        words = {name: value for name, value in pixels.words().items() if name != "window"}
        rows = network_pixels(image, **words)[None]
        (prediction,) = self.predictor.predict(rows, [str(ref)])
        answer = answer_given(task, prediction) if self.target is None else self.target
        made = self.maker.make(rows, answer=answer)
        own = way_back(made.map, size=image.pixels.shape[1:], fit=pixels.fit)
        own = own / max(float(own.max()), 1e-12)
        names = (*task.answers.classes, *([SEVERITY] if task.answers.zones else ()))
        said = names[made.answer] if names and task.answer_kind not in ("ordinal", "number") else ""
        source = Source(image.affine, image.spacing_mm, image.facts)
        hit, fault = _pointed(own, masks)
        return Explained(str(ref), prediction, said, self.method, own, shown(image), made.sanity, source, hit, fault)


def _pointed(own: np.ndarray, masks: Sequence[ImageRef]) -> tuple[bool | None, str]:
    """Whether a map points at what its masks show together, and why that is not known."""
    truth = np.zeros(own.shape, dtype=bool)
    try:
        for mask in masks:
            found = read_image(mask).pixels.max(axis=0) > 0
            if found.shape != own.shape:
                sizes = [" x ".join(map(str, shape)) for shape in (found.shape, own.shape)]
                raise BadImage(f"the mask has {sizes[0]} pixels, the image {sizes[1]}", where=mask)
            truth |= found
    except UserError as error:
        return None, str(error)
    return (pointed(own, truth, reach=round(REACH * max(own.shape))) if truth.any() else None), ""


def shown(image: Image) -> np.ndarray:
    """Get an image as it is looked at: uint8 `(H, W)`, or `(H, W, 3)` of one in colour."""
    planes = np.rint(image.display() * 255).astype(np.uint8)
    return planes[0] if len(planes) == 1 else np.moveaxis(planes[:3], 0, -1)
