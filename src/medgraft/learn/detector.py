"""A detector grafted on a backbone, and one loaded from its own file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from medgraft import seeds
from medgraft.errors import BadWeights
from medgraft.learn.model import Pixels
from medgraft.nets.backbone import backbone, saved_words
from medgraft.nets.detector import BoxHead, FinderForm
from medgraft.tasks import TASKS
from medgraft.tasks.answers import Answers
from medgraft.tasks.detect import Detect
from medgraft.weights.tensors import load_model, save_model


def graft_detector(
    answers: Answers,
    form: FinderForm,
    *,
    task: str,
    backbone_name: str,
    channels: int,
    image_size: tuple[int, int],
    offline: bool = False,
    seed: int = 0,
    saved: Mapping[str, Any] | None = None,
) -> Detect:
    """Cut off a net's prediction head and put a pyramid and a detector on.

    Args:
        answers: the classes.
        form: of the detector.
        task: a word of TASKS.
        backbone_name: see `medgraft.nets.backbone.backbone`.
        channels: 1 or 3.
        image_size: (H, W) in pixels.
        offline: True never opens a network connection.
        seed: of random numbers.
        saved: `weights_spec`, `gray` and `options` of the backbone of a saved model, to build the same layers.

    Raises:
        UnknownName, BadWeights, Offline: the backbone cannot be had.
    """
    words: dict[str, Any] = {"channels": channels, "image_size": image_size, **(saved or {})}
    encoder = backbone(backbone_name, offline=offline, seed=seed, **words)
    return regraft(encoder, answers, form=form, task=task, seed=seed)


def regraft(encoder: Any, answers: Answers, *, form: FinderForm, task: str, seed: int = 0) -> Detect:
    """Put another pyramid and detector on an encoder; arguments as in `graft_detector`."""
    kind: type[Detect] = TASKS[task]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.torch_seed(seed, "head"))
        head = BoxHead(encoder.channels, encoder.strides, outputs=len(answers.classes), form=form)
    return kind(encoder, head, answers)


def save_detector(path: Path, task: Detect, *, card: dict[str, Any]) -> None:
    """Write a detector and its card, whole or not at all.

    Raises:
        DiskFull: there is no space; a former file is intact.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in task.state_dict().items()}
    save_model(path, state=state, card=card)


def load_detector(path: Path) -> tuple[Detect, Pixels, dict[str, Any]]:
    """Load a detector, how files become its pixels, and its card; no network is opened, no code in the file is run.

    Raises:
        BadWeights: damaged, from another program, or its tensors do not fit its card.
    """
    state, card = load_model(path)
    try:
        pixels, form = Pixels.from_dict(card["pixels"]), dict(card["finder"])
        form |= {name: tuple(form[name]) for name in ("strides", "ratios", "scales") if name in form}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # random numbers until the next line but one
            task = graft_detector(
                Answers(classes=tuple(card["classes"])),
                FinderForm(**form),
                task=card["task"],
                backbone_name=f"none:{card['backbone']['architecture']}",
                channels=pixels.channels,
                image_size=pixels.size,
                offline=True,
                saved=saved_words(card),
            )
        task.load_state_dict(state)
        task.threshold = tuple(float(value) for value in card["threshold"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BadWeights(f"the card of this model does not fit ({str(error)[:200]})", where=path) from error
    task.requires_grad_(False)
    return task.eval(), pixels, card
