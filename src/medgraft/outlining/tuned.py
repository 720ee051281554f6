"""A model that outlines, tuned and written: one file that says itself what it is, and opens as any other model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medgraft.tasks.outline import Outline
from medgraft.weights.tensors import save_model


def save_tuned(path: Path, task: Outline, *, card: Mapping[str, Any]) -> None:
    """Write a net and its card, whole or not at all; `nets.prompter_sources.open_prompter` opens it.

    Raises:
        DiskFull: there is no space; a former file is intact.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in task.net.state_dict().items()}
    save_model(path, state=state, card={**card, "net": task.prompter.described()})
