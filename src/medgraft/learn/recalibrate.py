"""BatchNorm's statistics, measured anew on the training images before anything is learnt or cached.

A frozen BatchNorm layer normalises by the means and variances of the images
that its net was trained on. Where other images are darker, or of another kind,
every layer after it gets numbers that it has not learnt from. Measuring needs
images and no labels; validation and test images are never looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import Tensor

from medgraft import seeds
from medgraft.learn import stopping
from medgraft.learn.engine import Engine
from medgraft.nets import Backbone
from medgraft.nets.norms import recalibrate
from medgraft.samples.loader import Loader

MOST_IMAGES = 1024
_BATCH = 64  # not the fit's: few images a batch would make each of them noisy


def recalibrate_on(
    backbone: Backbone,
    loader: Loader,
    *,
    engine: Engine,
    listen: Callable[[dict[str, Any]], None] = lambda event: None,
) -> int:
    """Replace the stored statistics of every BatchNorm layer by those of at most `MOST_IMAGES` plain images.

    In float32. The same images, seed and machine give the same bits, so a resumed run measures what it had.

    Args:
        backbone: changed in place, and in eval mode afterwards.
        loader: the training images; which of them are taken follows from its seed.
        engine: where it runs.
        listen: gets progress events.

    Returns:
        How many images were looked at.

    Raises:
        Interrupted: the run was asked to stop; nothing is changed.
    """
    # In random order: tables are often sorted by class, and a batch of one class normalises its class away.
    chosen = seeds.permutation(len(loader.keys), seed=loader.seed, purpose="recalibrate")[:MOST_IMAGES]

    def pictures() -> Iterator[Tensor]:
        done = 0
        for batch in loader.plain(np.array_split(chosen, math.ceil(len(chosen) / _BATCH))):
            stopping.check()
            yield engine.move(batch).pixels
            done += len(batch.keys)
            listen({"event": "norms", "done": done, "of": len(chosen)})

    backbone.eval()
    return recalibrate(backbone, pictures())
