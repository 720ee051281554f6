"""A run that learnt to outline, opened: its report, and its model to be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from medgraft.errors import RunRefused
from medgraft.learn.engine import resolve_device
from medgraft.nets.prompter_sources import open_prompter
from medgraft.opened import check_folder, report_in
from medgraft.outlining.shown import StructureForm
from medgraft.samples.mask_meaning import MaskForm
from medgraft.weights.tensors import load_model

_PROMPTS = "Ask it with: medgraft outline IMAGE --box x0,y0,x1,y1 --backbone RUN --out DIR."


class PromptRun:
    """A finished run of a model that outlines what prompts show.

    Args:
        folder: the run folder.
        device: "auto", "cpu", "cuda" or "cuda:1".

    Attributes:
        report: what report.json holds.
        model: as `nets.prompter.Prompter`, to be asked; also the `backbone` of `medgraft.outline`.
        masks: what the numbers of the label maps of its training meant.
        form: what was a structure there.

    Raises:
        RunRefused: no such folder, or the run is not finished.
        BadWeights: the model is damaged.
        MissingExtra: it needs transformers, and that is not installed.
    """

    def __init__(self, folder: Path, *, device: str = "auto") -> None:
        self.folder = Path(folder)
        check_folder(self.folder)
        self.report: dict[str, Any] = report_in(self.folder)
        self.device = torch.device(resolve_device(device))
        self.model = open_prompter(str(self.folder), offline=True, device=str(self.device))
        _, card = load_model(self.folder / "model.safetensors")
        self.masks = MaskForm.from_dict(card["masks"])
        self.form = StructureForm(**card["structures"])
        self.volumes = int(card["axes"]) == 3

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what it learnt from."""
        return tuple(self.report["classes"])

    def predict(self, *given: Any, **words: Any) -> Any:
        """Refuse: it has to be shown what is meant.

        Raises:
            RunRefused: always; it says what to do.
        """
        del given, words
        raise RunRefused(
            "this run outlines what a prompt shows, and has to be shown it", where=self.folder, do=_PROMPTS
        )

    predict_to = predict

    def _repr_html_(self) -> str:
        score = self.report["scores"]["test"].get("iou_box") or {}
        said = f"IoU {score['value']:.3f} by a box" if score.get("value") is not None else ""
        return f"<b>medgraft run</b> {self.folder}: outline {said}"
