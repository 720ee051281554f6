"""A trained model as one self-describing file: weights, and in its header the card.

The card says everything that prediction needs: task, answers, architecture,
how a file becomes pixels, calibration, and where it all came from.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medgraft import seeds
from medgraft.errors import BadWeights
from medgraft.learn import certainty
from medgraft.learn.certainty import Certainty
from medgraft.nets import LinearHead
from medgraft.nets.backbone import backbone, saved_words
from medgraft.tasks import TASKS
from medgraft.tasks.base import Answers, ImageTask
from medgraft.values import InputSpec
from medgraft.weights.tensors import load_model, save_model


@dataclass(frozen=True)
class Pixels:
    """How a file becomes network pixels; the same for training and prediction.

    Attributes:
        size: (H, W).
        channels: 1 or 3.
        fit: "pad", "stretch" or "crop".
        interpolation: "bilinear" or "bicubic".
        window: (centre, width) in the file's unit, or None.
    """

    size: tuple[int, int]
    channels: int
    fit: str
    interpolation: str = "bilinear"
    window: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values, the words that the files room takes."""
        return {
            "size": list(self.size),
            "channels": self.channels,
            "fit": self.fit,
            "interpolation": self.interpolation,
            "window": None if self.window is None else list(self.window),
        }

    def words(self) -> dict[str, Any]:
        """Get the keyword arguments of `files.read_pixels`."""
        return {**self.to_dict(), "size": self.size, "window": self.window}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Pixels:
        """Read what `to_dict` wrote."""
        window = values.get("window")
        return cls(
            size=(int(values["size"][0]), int(values["size"][1])),
            channels=int(values["channels"]),
            fit=str(values["fit"]),
            interpolation=str(values["interpolation"]),
            window=None if window is None else (float(window[0]), float(window[1])),
        )


@dataclass
class Model:
    """A task ready to predict, and its card."""

    task: ImageTask
    pixels: Pixels
    spec: InputSpec
    card: dict[str, Any]
    certainty: Certainty | None = None


def graft(
    task: str,
    answers: Answers,
    *,
    backbone_name: str,
    channels: int,
    image_size: int | tuple[int, int],
    offline: bool = False,
    seed: int = 0,
    dropout: float = 0.0,
    saved: Mapping[str, Any] | None = None,
) -> ImageTask:
    """Cut off a net's prediction head and put on a new one for these answers.

    Args:
        task: a word of TASKS.
        answers: what the training labels say.
        backbone_name: see `medgraft.nets.backbone.backbone`.
        channels: 1 or 3.
        image_size: pixels.
        offline: True never opens a network connection.
        seed: of random numbers.
        dropout: before the head.
        saved: `weights_spec`, `gray` and `options` of the backbone of a saved model, to build the same layers.

    Raises:
        UnknownName, BadWeights, Offline: the backbone cannot be had; the message says what to do.
    """
    kind: type[ImageTask] = TASKS[task]
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    words: dict[str, Any] = {"channels": channels, "image_size": size, **(saved or {})}
    encoder = backbone(backbone_name, offline=offline, seed=seed, **words)
    with _head_numbers(seed):
        head = LinearHead(encoder.channels, kind.outputs(answers), dropout=dropout)
    with _head_numbers(seed):  # anew, so that the head's numbers do not depend on what stands beside it
        return kind(encoder, head, answers)


def repool(task: ImageTask, *, pooling: str, seed: int = 0) -> None:
    """Let the head look at the levels in another way, and start anew; nothing is done when it looks so already.

    Raises:
        BadRecipe: there is no such pooling.
    """
    if task.head.pooling != pooling:
        with _head_numbers(seed):
            task.head.pool(pooling)


@contextlib.contextmanager
def _head_numbers(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.torch_seed(seed, "head"))
        yield


def save(path: Path, model: Model) -> None:
    """Write the model and its card, whole or not at all.

    Raises:
        DiskFull: there is no space; a former file is intact.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.task.state_dict().items()}
    sure = model.certainty
    card = model.card if sure is None else {**model.card, "certainty": sure.card()}
    save_model(path, state=state | (sure.tensors() if sure else {}), card=card)


def load(path: Path, *, device: str = "cpu") -> Model:
    """Load a trained model; no network is opened, no code in the file is run.

    Raises:
        BadWeights: damaged, from another program, or its tensors do not fit its card.
    """
    state, card = load_model(path)
    try:
        pixels = Pixels.from_dict(card["pixels"])
        answers = Answers(
            tuple(card["classes"]),
            card["positive"],
            float(card["centre"]),
            float(card["scale"]),
            zones=tuple(card.get("zones", ())),
            grid=tuple(card.get("grid", (1, 1))),  # type: ignore[arg-type]
            grades=tuple(card.get("grades", ())),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # random numbers until the next line but one
            task = graft(
                card["task"],
                answers,
                backbone_name=f"none:{card['backbone']['architecture']}",
                channels=pixels.channels,
                image_size=pixels.size,
                offline=True,
                saved=saved_words(card),
            )
        # Before there was a choice of pooling, the head took averages of the last level as they were.
        repool(task, pooling=card["backbone"].get("pooling", "avg"))
        unset = {} if "pooling" in card["backbone"] else _buffers_of(task.head)
        state, sure = certainty.take(state, card)
        task.load_state_dict({**unset, **state})
        task.temperature = tuple(float(v) for v in card["calibration"]["temperature"])
        task.threshold = tuple(float(v) for v in card["calibration"]["threshold"])
        task.reach = tuple(math.inf if v is None else float(v) for v in card["calibration"].get("reach", ()))
    except (KeyError, TypeError, RuntimeError) as error:
        raise BadWeights(f"the card of this model does not fit ({str(error)[:200]})", where=path) from error
    task.requires_grad_(False)
    task.eval().to(device)
    return Model(task, pixels, InputSpec.from_dict(card["spec"]), card, sure)


def _buffers_of(head: LinearHead) -> dict[str, Tensor]:
    return {f"head.{name}": buffer for name, buffer in head.named_buffers()}
