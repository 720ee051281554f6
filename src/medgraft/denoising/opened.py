"""A run that takes noise away, opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from medgraft.denoising.blind import Blindspot
from medgraft.errors import BadWeights, RunRefused
from medgraft.learn.engine import Engine, precision_here, resolve_device
from medgraft.nets.restorer import RestorerForm
from medgraft.opened import check_folder, report_in
from medgraft.tasks.denoise import Denoise
from medgraft.weights.tensors import load_model


class DenoiseRun:
    """A finished run that takes noise away.

    Args:
        folder: the run folder.
        device: "auto", "cpu", "cuda" or "cuda:1".

    Attributes:
        report: what report.json holds.
        card: what the model says of itself.
        way: its net, as a way of taking noise away.

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
        task = Denoise(RestorerForm.from_dict(self.card["net"]))
        try:
            task.load_state_dict(state)
        except RuntimeError as error:
            raise BadWeights(f"the weights do not fit the card ({str(error).splitlines()[0]})", where=path) from None
        name = resolve_device(device)
        precision = precision_here(self.card.get("precision", "fp32"), torch.device(name))
        engine = Engine(name, precision=precision, channels_last=True)
        engine.place(task)
        self.way = Blindspot(task.eval(), engine, mirrored=bool(self.card.get("mirrored", True)))

    @property
    def classes(self) -> tuple[str, ...]:
        """None: it says nothing of what an image shows."""
        return ()

    def predict(self, *given: Any, **words: Any) -> Any:
        """Refuse: it says nothing of images, and writes them without noise.

        Raises:
            RunRefused: always; it says what to do.
        """
        del given, words
        raise RunRefused("this run takes noise away", where=self.folder, do="See medgraft denoise --run.")

    predict_to = predict

    def _repr_html_(self) -> str:
        return f"<b>medgraft run</b> {self.folder}: {self.report['task']}"
