"""What a fit starts from: a head that knows the size of its features, or one at its optimum on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from medgraft import seeds
from medgraft.errors import NotFinite
from medgraft.learn import probe, stopping
from medgraft.learn.engine import Engine
from medgraft.tasks.base import ImageTask
from medgraft.values import Batch

_MOST_NUMBERS = 2**26  # half a gigabyte in float64


class Viewed(Protocol):
    """Images that can be gone through in order, as they are (view 0) or augmented."""

    keys: tuple[str, ...]
    targets: Any
    share: np.ndarray | None
    seed: int

    def view(self, view: int) -> Iterator[Batch]:
        """Yield every image once, in order."""
        ...


def begin(
    task: ImageTask,
    engine: Engine,
    *,
    source: Viewed,
    views: int,
    groups: Sequence[str] | None,
    listen: Callable[[dict[str, Any]], None] = lambda event: None,
) -> dict[str, Any]:
    """Standardise the head's features by the training images, and with `groups` put the head at its optimum on them.

    Args:
        task: its head is changed in place.
        engine: device and precision of the encoder.
        source: the training images, as pixels or as cached activations.
        views: how many views of an image the source holds.
        groups: a name for each image; images of one name are judged together by a head that learnt from none of them.
            None leaves the head's weights alone.
        listen: gets progress events.

    Returns:
        What to tell of the head: "loss", "strength" of the penalty, "tried", "folds", "images", "views" and "seconds"
        that it took; empty without `groups`.

    Raises:
        NotFinite: the encoder gives no numbers for some image; its name is said.
        Interrupted: the run was asked to stop.
    """
    began = time.perf_counter()
    known, targets = task.named(torch.as_tensor(source.targets).cpu().numpy())
    chosen, views = _affordable(len(known), views, width=task.head.width, seed=source.seed)
    truth, chosen = targets[chosen.numpy()], torch.from_numpy(known)[chosen]
    features = torch.stack([_features(task, engine, source, view, chosen, listen) for view in range(views)], dim=1)
    if groups is None:
        task.head.standard.put(*probe.standard_of(features.flatten(0, 1).double()))
        return {}
    found = probe.solve(
        features,
        truth,
        groups=[groups[int(index)] for index in chosen],
        task=task,
        share=None if source.share is None else source.share[chosen.numpy()],
        seed=source.seed,
    )
    found.put(task)
    return {
        "loss": found.loss,
        "strength": found.strength,
        "tried": [[strength, loss] for strength, loss in found.tried.items()],
        "folds": found.folds,
        "images": len(chosen),
        "views": views,
        "seconds": round(time.perf_counter() - began, 2),
    }


def _affordable(count: int, views: int, *, width: int, seed: int) -> tuple[Tensor, int]:
    """Which images and how many views of them fit into memory: first fewer views, then fewer images."""
    views = max(1, min(views, _MOST_NUMBERS // max(1, count * width)))
    most = max(1, _MOST_NUMBERS // width)
    chosen = np.arange(count) if count <= most else np.sort(seeds.permutation(count, seed=seed, purpose="probe")[:most])
    return torch.from_numpy(chosen), views


@torch.no_grad()
def _features(
    task: ImageTask,
    engine: Engine,
    source: Viewed,
    view: int,
    chosen: Tensor,
    listen: Callable[[dict[str, Any]], None],
) -> Tensor:
    """Pooled features `(N, F)` of one view of the chosen images."""
    task.eval()
    found, done = [], 0
    for batch in source.view(view):
        stopping.check()
        batch = engine.move(batch)
        with engine.autocast():
            features = task.pooled(task.features(batch.pixels, batch.start, beside=batch.beside)).float().cpu().clone()
        strange = [key for key, row in zip(batch.keys, features, strict=True) if not bool(torch.isfinite(row).all())]
        if strange:
            raise NotFinite(
                f"the encoder gives infinite or undefined numbers for {', '.join(strange[:8])}",
                do="Look at these files, or train with --set fit.precision=fp32.",
            )
        found.append(features)
        done += len(batch.keys)
        if batch.start <= len(task.parts().stages):  # features that are there already take no time
            listen({"event": "features", "done": done, "of": len(source.keys)})
    return torch.cat(found)[chosen]
