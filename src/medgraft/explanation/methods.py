"""The ways to make a map, by the words a user types."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from medgraft.errors import BadRecipe, UnknownName
from medgraft.explanation.attention import attends, attention_map, refuse_without_attention
from medgraft.explanation.cams import activation_map, severity_map
from medgraft.explanation.names import OF_ATTENTION, SEVERITY
from medgraft.explanation.occlusion import occlusion_map
from medgraft.tasks.base import ImageTask

METHODS: dict[str, Any] = {
    "hirescam": partial(activation_map, how="hirescam"),
    "layercam": partial(activation_map, how="layercam"),
    "gradcam": partial(activation_map, how="gradcam"),
    "gradcam++": partial(activation_map, how="gradcam++"),
    "occlusion": occlusion_map,
    "attention": partial(attention_map, how="attention gradients"),
    "rollout": partial(attention_map, how="rollout"),
    SEVERITY: lambda task, pixels, answer: severity_map(task, pixels),  # of all zones, whatever the answer
}


def method_for(task: ImageTask, word: str = "auto", *, target: str | None = None) -> str:
    """Get the method: the one named, or the one that suits the task and its encoder.

    Raises:
        UnknownName: there is no such method.
        BadRecipe: severities are asked for, and the task has none; or attention, and the encoder has none.
    """
    if word == SEVERITY and not task.answers.zones:
        raise BadRecipe("this run knows no severities of zones", do="Train one with --task localise, or use auto.")
    if word == SEVERITY and target not in (None, SEVERITY):
        raise BadRecipe(f"the map of severities is not of {target!r}", do="Leave the target or the method out.")
    if word == "auto" and task.answers.zones and target in (None, SEVERITY):
        return SEVERITY
    if word == "auto":
        return class_method(task)
    if word not in METHODS:
        raise UnknownName(f"there is no method {word!r}", do=f"Known: auto, {', '.join(METHODS)}.")
    if word in OF_ATTENTION:
        refuse_without_attention(task)
    return word


def class_method(task: ImageTask) -> str:
    """Get the method for maps of a class that suits an encoder."""
    return "attention" if attends(task) else "hirescam"


def map_of(task: ImageTask, pixels: Tensor, *, answer: Tensor, method: str) -> Tensor:
    """Get `(N, [D,] H, W)` float32, at least 0, in network pixels.

    Args:
        task: in eval mode.
        pixels: `(N, C, [D,] H, W)` normalised.
        answer: `(N,)` int64, see `speech.spoken`.
        method: a word of `METHODS`.
    """
    return METHODS[method](task, pixels, answer)
