"""A frozen encoder and a linear head that tell what the candidates of a scan are, and one loaded from its own file.

The encoder takes pictures and learnt from pictures. It sees three planes
through a candidate at each of a few sides; its features are averaged over the
planes, so that no direction matters, and the head that the probe solves for
answers by them, by the filter's own score and by the radius.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgraft.errors import BadData, BadWeights
from medgraft.learn import probe
from medgraft.learn.engine import Engine, precision_here, resolve_device
from medgraft.learn.model import graft, repool
from medgraft.nets.backbone import saved_words
from medgraft.samples.loader import normalised
from medgraft.samples.planes import Looks
from medgraft.samples.scan import Space
from medgraft.tasks.answers import Answers
from medgraft.tasks.base import ImageTask, inverse_frequency
from medgraft.tasks.box_calls import BoxCalls
from medgraft.values import Batch, Boxes, Prediction
from medgraft.weights.tensors import load_model, save_model

NOTHING = "(nothing)"
LEAST = 0.001  # a candidate whose score is less is not told of
_BATCH = 64  # pictures that go through the encoder at once, wherever the run began: sums have one order
_BESIDE = 3  # numbers beside the pictures, the last columns of the features
FILTER = -_BESIDE  # the column of the filter's own score


class Finder(BoxCalls):
    """Tells which candidates are findings.

    Args:
        judge: an encoder and a linear head over `NOTHING` and the classes.
        looks: how candidates become pictures.
        engine: where the encoder runs.

    Attributes:
        answers: the classes.
        threshold: of each class, the score from which a box counts as found; chosen on validation only.
        grow: sides of a true box by those of the candidate that hits it, the median of the training.
    """

    def __init__(self, judge: ImageTask, looks: Looks, *, engine: Engine) -> None:
        self.judge, self.looks, self.engine = judge, looks, engine
        self.answers = Answers(classes=judge.answers.classes[1:])
        self.threshold: tuple[float, ...] = (0.5,) * len(self.answers.classes)
        self.grow = 1.0
        self.each = sum(judge.head.widths)  # features of one picture
        judge.head.resize(self.each * len(looks.sides_mm) + _BESIDE)
        judge.requires_grad_(False)
        judge.eval()
        engine.place(judge)

    @torch.no_grad()
    def features(self, pictures: np.ndarray, more: np.ndarray) -> np.ndarray:
        """Get float32 `(N, F)` of pictures `(N, sides, 3, C, H, W)` uint8 and of the numbers `(N, 3)` beside them."""
        count, sides, planes = pictures.shape[:3]
        flat = pictures.reshape(-1, *pictures.shape[3:])
        found = [np.zeros((0, self.each), np.float32)]
        for start in range(0, len(flat), _BATCH):
            pixels = normalised(flat[start : start + _BATCH], self.judge.backbone.spec)
            batch = self.engine.move(Batch(pixels, ("",) * len(pixels)))
            with self.engine.autocast():
                found.append(self.judge.features(batch.pixels).float().cpu().numpy())
        each = np.concatenate(found).reshape(count, sides, planes, self.each)
        return np.concatenate([each.mean(axis=2).reshape(count, sides * self.each), more.astype(np.float32)], axis=1)

    @torch.no_grad()
    def chances(self, features: np.ndarray) -> np.ndarray:
        """Get float64 `(N, 1 + K)` probabilities of nothing and of each class."""
        rows = torch.from_numpy(features).to(self.engine.device)
        logits = self.judge.corrected(self.judge.answer(rows)).double().cpu().numpy()
        return np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))

    def told(
        self, key: str, features: np.ndarray, *, space: Space, centres: np.ndarray, radius_mm: np.ndarray
    ) -> Prediction:
        """Get what is in a scan: a box around each candidate, of its likeliest class, the surest first.

        Args:
            key: of the scan.
            features: `(N, F)` of its candidates.
            space: of its file.
            centres: `(N, 3)` (d, h, w) in voxels of the file.
            radius_mm: `(N,)`.
        """
        chances = self.chances(features)[:, 1:]
        scores = chances.max(axis=1, initial=0.0)
        corners = space.around(centres, radius_mm * self.grow)
        told = (scores >= LEAST) & (corners[:, 3:] > corners[:, :3]).all(axis=1)
        order = np.argsort(-scores, kind="stable")
        order = order[told[order]]
        labels = tuple(self.answers.classes[kind] for kind in chances[order].argmax(axis=1).tolist())
        boxes = Boxes(corners[order], labels, scores[order])
        return Prediction(key, scores[order], np.zeros(0), self.said(boxes), boxes=boxes)


def graft_finder(
    classes: Sequence[str],
    looks: Looks,
    *,
    backbone_name: str,
    engine: Engine,
    pooling: str = "levels",
    offline: bool = False,
    seed: int = 0,
    saved: Mapping[str, Any] | None = None,
) -> Finder:
    """Cut off a net's prediction head and put on one for candidates, which knows nothing yet.

    Args:
        classes: what is to be found.
        looks: how candidates become pictures.
        backbone_name: see `medgraft.nets.backbone.backbone`.
        engine: where the encoder runs.
        pooling: of the encoder's levels; see `medgraft.nets.LinearHead`.
        offline: True never opens a network connection.
        seed: of random numbers.
        saved: `weights_spec`, `gray` and `options` of the backbone of a saved model, to build the same layers.

    Raises:
        UnknownName, BadWeights, Offline: the backbone cannot be had.
    """
    judge = graft(
        "classify",
        Answers(classes=(NOTHING, *classes)),
        backbone_name=backbone_name,
        channels=1 if len(looks.windows_hu) == 1 else 3,
        image_size=(looks.pixels, looks.pixels),
        offline=offline,
        seed=seed,
        saved=saved,
    )
    repool(judge, pooling=pooling, seed=seed)
    return Finder(judge, looks, engine=engine)


def solve_finder(
    finder: Finder,
    features: np.ndarray,
    *,
    targets: np.ndarray,
    weights: np.ndarray,
    groups: Sequence[str],
    seed: int = 0,
) -> dict[str, Any]:
    """Put the head at its optimum on features of candidates, and get what is to be told of it.

    Each class counts as much as nothing does, however rare it is; what that does to the odds is taken back from the
    answers, so that a score is a probability among candidates.

    Args:
        finder: its head is changed in place.
        features: `(N, F)`.
        targets: `(N,)` 0 for nothing, k for the k-th class.
        weights: `(N,)` what each row stands for: the views of one candidate share 1.
        groups: N patients; candidates of one are held out together.
        seed: of who is held out with whom.

    Raises:
        BadData: no candidate is a finding, or every one is.
    """
    counts = np.bincount(targets, weights=weights, minlength=1 + len(finder.answers.classes))
    if not counts[0] or not counts[1:].sum():
        what = "no candidate lies in a true box" if counts[0] else "every candidate lies in a true box"
        raise BadData(what, do="Are the boxes in voxels of these scans (x0, y0, z0, x1, y1, z1), and are scans in HU?")
    balance = inverse_frequency(counts)
    judge = finder.judge
    judge.adjust.copy_(torch.from_numpy(-np.log(balance)).float())
    solved = probe.solve(features, targets, groups=groups, task=judge, share=weights * balance[targets], seed=seed)
    solved.put(judge)
    return {
        "loss": solved.loss,
        "strength": solved.strength,
        "tried": [[strength, loss] for strength, loss in solved.tried.items()],
        "folds": solved.folds,
        "images": int(weights.sum().round()),
        "views": finder.looks.views,
    }


def save_finder(path: Path, finder: Finder, *, card: Mapping[str, Any]) -> None:
    """Write encoder, head and card, whole or not at all.

    Raises:
        DiskFull: there is no space; a former file is intact.
    """
    state: dict[str, Tensor] = {
        name: tensor.detach().cpu().contiguous() for name, tensor in finder.judge.state_dict().items()
    }
    save_model(path, state=state, card=card)


def load_finder(path: Path, *, device: str = "cpu") -> tuple[Finder, dict[str, Any]]:
    """Load a finder and its card; no network is opened, no code in the file is run.

    Raises:
        BadWeights: damaged, from another program, or its tensors do not fit its card.
    """
    state, card = load_model(path)
    here = resolve_device(device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # random numbers until the state is put in
            finder = graft_finder(
                card["classes"],
                Looks.from_dict(card["looks"]),
                backbone_name=f"none:{card['backbone']['architecture']}",
                engine=Engine(
                    here, precision=precision_here(card["precision"], here), channels_last=card["channels_last"]
                ),
                pooling=card["backbone"]["pooling"],
                offline=True,
                saved=saved_words(card),
            )
        finder.judge.load_state_dict(state)
        finder.threshold = tuple(float(value) for value in card["threshold"])
        finder.grow = float(card["grow"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BadWeights(f"the card of this model does not fit ({str(error)[:200]})", where=path) from error
    return finder, card
