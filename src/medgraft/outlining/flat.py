"""Structures of a picture, of prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medgraft.nets.prompter import Candidates, Prompter
from medgraft.outlining.form import Found, cut
from medgraft.values import Prompt


def outlined(prompter: Prompter, picture: np.ndarray, prompt: Prompt) -> tuple[list[Found], list[Candidates]]:
    """Get what a model thinks best of each structure of a prompt, and all that each may mean.

    Args:
        prompter: the model.
        picture: `(H, W, 3)` uint8.
        prompt: in its pixels.
    """
    embedding = prompter.encode(picture)
    told = [prompter.decode(embedding, one) for one in prompt.each()]
    return best_of(told), told


def best_of(told: Sequence[Candidates]) -> list[Found]:
    """Get the candidate of each that the model thinks best of."""
    return [cut(one.masks[one.best], float(one.quality[one.best]), float(one.stability[one.best])) for one in told]
