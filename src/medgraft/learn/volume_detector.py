"""A detector grafted on an inflated encoder, and one loaded from its own file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from medgraft import seeds
from medgraft.errors import BadWeights
from medgraft.nets.backbone import backbone, saved_words
from medgraft.nets.volume import inflate
from medgraft.nets.volume_detector import VolumeBoxHead, VolumeFinderForm
from medgraft.samples.framing import FrameForm
from medgraft.scores.hits import HitRule
from medgraft.tasks.answers import Answers
from medgraft.tasks.detect_volume import DetectVolume
from medgraft.weights.tensors import load_model, save_model


@dataclass(frozen=True)
class VolumeForm:
    """How a detector in volumes is built and looks at scans.

    Attributes:
        frame: how scans become voxels.
        finder: of the head.
        patch: (D, H, W) in voxels of what is learnt from.
        window: (D, H, W) in voxels of what is looked at at once.
        lap: (D, H, W) voxels that neighbouring windows share.
        mirrored: True for four looks at a scan once it has learnt; see `DetectVolume`.
    """

    frame: FrameForm
    finder: VolumeFinderForm
    patch: tuple[int, int, int]
    window: tuple[int, int, int]
    lap: tuple[int, int, int]
    mirrored: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VolumeForm:
        """Read what `to_dict` wrote."""

        def three(name: str) -> tuple[int, int, int]:
            d, h, w = values[name]
            return int(d), int(h), int(w)

        frame, finder = FrameForm.from_dict(values["frame"]), VolumeFinderForm.from_dict(values["finder"])
        return cls(frame, finder, three("patch"), three("window"), three("lap"), bool(values.get("mirrored")))


def graft_volume_detector(
    classes: Sequence[str],
    form: VolumeForm,
    *,
    backbone_name: str,
    hit: HitRule,
    offline: bool = False,
    seed: int = 0,
    saved: Mapping[str, Any] | None = None,
) -> DetectVolume:
    """Cut off a net's prediction head, spread its kernels over depth, and put a pyramid and a detector on.

    Args:
        classes: what is to be found.
        form: of the detector.
        backbone_name: see `medgraft.nets.backbone.backbone`; an encoder of pictures.
        hit: the rule by which epochs are judged.
        offline: True never opens a network connection.
        seed: of random numbers.
        saved: `weights_spec`, `gray` and `options` of the backbone of a saved model, to build the same layers.

    Raises:
        BadRecipe: the net cannot be inflated, or MONAI is not installed.
        UnknownName, BadWeights, Offline: the backbone cannot be had.
    """
    channels, plane = (1 if form.frame.channels == 1 else 3), (form.patch[1], form.patch[2])
    flat = backbone(backbone_name, channels=channels, image_size=plane, offline=offline, seed=seed, **(saved or {}))
    encoder = inflate(flat, spacing_mm=form.frame.spacing_mm)
    encoder.size = form.patch
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.torch_seed(seed, "head"))
        head = VolumeBoxHead(encoder.channels, outputs=len(classes), form=form.finder)
    return DetectVolume(encoder, head, Answers(classes=tuple(classes)), window=form.window, lap=form.lap, hit=hit)


def save_volume_detector(path: Path, task: DetectVolume, *, card: Mapping[str, Any]) -> None:
    """Write a detector and its card, whole or not at all.

    Raises:
        DiskFull: there is no space; a former file is intact.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in task.state_dict().items()}
    save_model(path, state=state, card=card)


def load_volume_detector(path: Path) -> tuple[DetectVolume, VolumeForm, dict[str, Any]]:
    """Load a detector, its form and its card; no network is opened, no code in the file is run.

    Raises:
        BadRecipe: MONAI is not installed.
        BadWeights: damaged, from another program, or its tensors do not fit its card.
    """
    state, card = load_model(path)
    try:
        form = VolumeForm.from_dict(card["form"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # random numbers until the state is put in
            task = graft_volume_detector(
                card["classes"],
                form,
                backbone_name=f"none:{card['backbone']['architecture']}",
                hit=HitRule(card["hit"]["rule"], card["hit"]["iou"]),
                offline=True,
                saved=saved_words(card),
            )
        task.load_state_dict(state)
        task.threshold = tuple(float(value) for value in card["threshold"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BadWeights(f"the card of this model does not fit ({str(error)[:200]})", where=path) from error
    task.requires_grad_(False)
    task.mirrored = form.mirrored
    return task.eval(), form, card
