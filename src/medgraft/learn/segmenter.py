"""A decoder grafted on a backbone, flat or deep, and one loaded from its own file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medgraft import seeds
from medgraft.errors import BadWeights
from medgraft.nets.backbone import backbone, saved_words
from medgraft.nets.decoder import DecoderForm
from medgraft.nets.mask_heads import mask_head
from medgraft.nets.volume import inflate
from medgraft.samples.framing import FrameForm
from medgraft.samples.mask_grid import GridForm, form_from
from medgraft.tasks.answers import Answers
from medgraft.tasks.segment import Losses, Segment
from medgraft.tasks.windows import Sweep
from medgraft.weights.tensors import load_model, save_model


@dataclass(frozen=True)
class DrawForm:
    """How a net that draws label maps is built and looks at images.

    Attributes:
        grid: how files become its pixels.
        decoder: of the head.
        patch: ([D,] H, W) of what is learnt from.
        window: ([D,] H, W) of what is looked at at once.
        lap: ([D,] H, W) that neighbouring windows share.
        mirrored: axes along which an image is looked at mirrored as well, once it has learnt.
        apart: True where things are told apart.
        losses: what the loss is made of.
    """

    grid: GridForm
    decoder: DecoderForm
    patch: tuple[int, ...]
    window: tuple[int, ...]
    lap: tuple[int, ...]
    mirrored: tuple[int, ...] = ()
    apart: bool = False
    losses: Losses = Losses()

    @property
    def axes(self) -> int:
        """Get 2 for pictures and 3 for volumes."""
        return len(self.patch)

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values of what prediction needs."""
        sizes = {name: list(getattr(self, name)) for name in ("patch", "window", "lap", "mirrored")}
        return {"grid": self.grid.to_dict(), "decoder": self.decoder.to_dict(), "apart": self.apart, **sizes}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DrawForm:
        """Read what `to_dict` wrote."""
        names = ("patch", "window", "lap", "mirrored")
        sizes: dict[str, Any] = {name: tuple(int(one) for one in values[name]) for name in names}
        return cls(form_from(values["grid"]), DecoderForm(**values["decoder"]), apart=bool(values["apart"]), **sizes)


def graft_segmenter(
    answers: Answers,
    form: DrawForm,
    *,
    backbone_name: str,
    offline: bool = False,
    seed: int = 0,
    saved: Mapping[str, Any] | None = None,
) -> Segment:
    """Cut off a net's prediction head and put a decoder on; for volumes its kernels are spread over depth first.

    Args:
        answers: the classes.
        form: of the decoder and its windows.
        backbone_name: see `medgraft.nets.backbone.backbone`; an encoder of pictures.
        offline: True never opens a network connection.
        seed: of random numbers.
        saved: `weights_spec`, `gray` and `options` of the backbone of a saved model, to build the same layers.

    Raises:
        BadRecipe: the net cannot be inflated, or the decoder needs a package that is not installed.
        UnknownName, BadWeights, Offline: the backbone cannot be had.
    """
    channels = 1 if form.grid.channels == 1 else 3
    plane = (form.patch[-2], form.patch[-1])
    flat = backbone(backbone_name, channels=channels, image_size=plane, offline=offline, seed=seed, **(saved or {}))
    encoder: Any = flat
    if isinstance(form.grid, FrameForm):
        encoder = inflate(flat, spacing_mm=form.grid.spacing_mm)
        encoder.size = form.patch
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.torch_seed(seed, "head"))
        head = mask_head(
            encoder.channels,
            encoder.strides,
            pixels=channels,
            axes=form.axes,
            outputs=Segment.outputs(answers, apart=form.apart),
            form=form.decoder,
            patch=form.patch,
        )
    sweep = Sweep(form.window, form.lap, head.steps)
    return Segment(encoder, head, answers, sweep=sweep, losses=form.losses, apart=form.apart)


def save_segmenter(path: Path, task: Segment, *, card: Mapping[str, Any]) -> None:
    """Write a net and its card, whole or not at all.

    Raises:
        DiskFull: there is no space; a former file is intact.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in task.state_dict().items()}
    save_model(path, state=state, card=card)


def load_segmenter(path: Path) -> tuple[Segment, DrawForm, dict[str, Any]]:
    """Load a net, its form and its card; no network is opened, no code in the file is run.

    Raises:
        BadRecipe: a package that it needs is not installed.
        BadWeights: damaged, from another program, or its tensors do not fit its card.
    """
    state, card = load_model(path)
    try:
        form = DrawForm.from_dict(card["form"])
        if form.apart and "parting" not in card:
            raise BadWeights("this run learnt to tell things apart without seams", where=path, do="Train it again.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # random numbers until the state is put in
            task = graft_segmenter(
                Answers(classes=tuple(card["classes"])),
                form,
                backbone_name=f"none:{card['backbone']['architecture']}",
                offline=True,
                saved=saved_words(card),
            )
        task.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BadWeights(f"the card of this model does not fit ({str(error)[:200]})", where=path) from error
    task.requires_grad_(False)
    task.mirrored = form.mirrored
    return task.eval(), form, card
