"""A run that draws images, opened: its report, and its nets to draw with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medgraft.errors import BadRecipe, BadWeights, RunRefused
from medgraft.files import network_pixels, read_image
from medgraft.generation.maker import Maker, Way
from medgraft.generation.meaning import Meaning
from medgraft.generation.parts import gaussian_of, kinds_drawn, signed
from medgraft.learn.engine import Engine, precision_here, resolve_device
from medgraft.nets.autoencoder import Autoencoder, CoderForm
from medgraft.nets.denoiser import DenoiserForm
from medgraft.nets.diffusing import SAMPLERS
from medgraft.nets.stylegan import StyleForm
from medgraft.opened import check_folder, report_in
from medgraft.tasks.answers import Answers
from medgraft.tasks.diffuse import Diffuse
from medgraft.tasks.stylegan import Play, Stylegan
from medgraft.values import ImageRef
from medgraft.weights.tensors import load_model


class GeneratorRun:
    """A finished run that draws images.

    Args:
        folder: the run folder.
        device: "auto", "cpu", "cuda" or "cuda:1".

    Attributes:
        report: what report.json holds.
        card: what the model says of itself.
        task: its nets, in eval mode.
        shape: `(C, [D,] H, W)` of an image.
        way: how images are drawn where nothing else is asked for.
        meaning: of volumes that are drawn.

    Raises:
        RunRefused: no such folder, or the run is not finished.
        BadWeights: the model is damaged.
    """

    def __init__(self, folder: Path, *, device: str = "auto") -> None:
        self.folder = Path(folder)
        check_folder(self.folder)
        self.report: dict[str, Any] = report_in(self.folder)
        path = self.folder / "model.safetensors"
        state, self.card = load_model(path)
        self.shape = tuple(int(side) for side in self.card["shape"])
        self.way = Way(**self.card["way"])
        self.meaning = Meaning.from_dict(self.card["meaning"]) if self.card.get("meaning") else None
        answers = Answers(classes=tuple(self.card["classes"]))
        self.task = _nets(self.card, answers, side=max(self.shape[1:]))
        try:
            self.task.load_state_dict(state)
        except RuntimeError as error:
            raise BadWeights(f"the weights do not fit the card ({str(error).splitlines()[0]})", where=path) from None
        device = resolve_device(device)
        precision = precision_here(self.card.get("precision"), device)
        self.engine = Engine(device, precision=precision, channels_last=False)
        self.engine.place(self.task)
        self.task.eval()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that images are drawn by; empty where they are drawn without."""
        return tuple(self.card["classes"])

    def draw(
        self,
        count: int,
        *,
        label: str | None = None,
        shares: Sequence[float] = (),
        seed: int = 0,
        first: int = 0,
        **way: Any,
    ) -> Iterator[tuple[str | None, np.ndarray]]:
        """Yield (class, image `(C, [D,] H, W)` float32 in -1..1).

        Args:
            count: how many.
            label: of all of them; None draws the classes in turn, equally often.
            shares: of the classes, where they are not to be equal.
            seed: other images for another one.
            first: number of the first: the k-th image is the same in whatever company it is drawn.
            way: steps, sampler, guidance, truncation, where they are to be others.

        Raises:
            BadRecipe: no such class or sampler.
        """
        maker = Maker(self.task, self.engine, shape=self.shape, way=self._way(way))
        if label is not None and label not in self.classes:
            known = ", ".join(self.classes) or "none, as it was trained without classes"
            raise BadRecipe(f"there is no class {label!r} to draw", do=f"Known: {known}.")
        kinds = kinds_drawn(count, self.classes, shares=shares, first=first)
        if label is not None:
            kinds = np.full(count, self.classes.index(label), np.int64)
        for kind, image in zip(kinds.tolist(), maker.images(kinds, seed=seed, first=first), strict=True):
            yield (self.classes[kind] if self.classes else None), image

    def seen(self, ref: ImageRef) -> np.ndarray:
        """Get a file as its training would have seen it: `(C, [D,] H, W)` float32 in -1..1.

        Raises:
            BadImage: it cannot be read.
        """
        window = self.card.get("window")
        image = read_image(ref, window=None if window is None else (float(window[0]), float(window[1])))
        fit = "stretch" if len(self.shape) == 4 else str(self.card.get("fit", "pad"))
        return signed(network_pixels(image, size=self.shape[1:], channels=self.shape[0], fit=fit))

    def _way(self, asked: dict[str, Any]) -> Way:
        given = {name: value for name, value in asked.items() if value is not None}
        if given.get("sampler", "dpm") not in SAMPLERS:
            raise BadRecipe(f"there is no sampler {given['sampler']!r}", do=f"Known: {', '.join(SAMPLERS)}.")
        if given.get("steps", 1) < 1:
            raise BadRecipe(f"{given['steps']} steps lead to no image", do="Give --steps 2 or more.")
        return replace(self.way, **given)

    def predict(self, *given: Any, **words: Any) -> Any:
        """Refuse: it draws images, and says nothing of those that it is given.

        Raises:
            RunRefused: always; it says what to do.
        """
        del given, words
        raise RunRefused("this run draws images", where=self.folder, do="See medgraft generate.")

    predict_to = predict

    def _repr_html_(self) -> str:
        score = self.report["scores"]["test"].get("fid_embedded") or {}
        said = f"FID {score['value']:.1f}" if score.get("value") is not None else ""
        return f"<b>medgraft run</b> {self.folder}: {self.report['task']} {said}"


def _nets(card: dict[str, Any], answers: Answers, *, side: int) -> Diffuse | Stylegan:
    if card["task"] == "diffuse":
        coded = CoderForm.from_dict(card["coder"]) if card.get("coder") else None
        coder, step = (None, 1) if coded is None else (Autoencoder(coded).requires_grad_(False), coded.step)
        form = DenoiserForm.from_dict(card["net"])
        shape = (form.channels, *(int(one) // step for one in card["shape"][1:]))
        words: dict[str, Any] = {"coder": coder, "gaussian": gaussian_of(shape, card.get("directions"))}
        return Diffuse(form, answers, side=side // step, seed=int(card["seed"]), **words)
    return Stylegan(StyleForm.from_dict(card["net"]), answers, play=Play(), seed=int(card["seed"]))
