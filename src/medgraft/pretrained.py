"""Before any grafting: a pre-trained net answers with the head it came with."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from medgraft.errors import BadData
from medgraft.opened import images_in


def predict(name: str, paths: list[Path], *, top: int, offline: bool, device: str) -> list[dict[str, Any]]:
    """Get the `top` most probable classes of every image: rows of path, rank, class, probability.

    The image is made square by cropping, as these nets were trained.

    Raises:
        BadWeights: the weights have no head of their own.
        BadData: no image can be read.
    """
    import torch

    from medgraft.files import read_many, read_pixels
    from medgraft.learn.engine import resolve_device
    from medgraft.nets.original import classifier
    from medgraft.samples.loader import normalised

    net, classes, spec = classifier(name, offline=offline)
    net.to(resolve_device(device)).eval()
    refs, _ = images_in(paths)
    work = partial(read_pixels, size=spec.size, channels=3, fit="crop", interpolation=spec.interpolation)
    rows: list[dict[str, Any]] = []
    for index, found in read_many(refs, work, workers=1):
        if isinstance(found, Exception):
            raise BadData(str(found), where=refs[index])
        with torch.inference_mode():
            chances = net(normalised(found[None], spec).to(resolve_device(device))).float().softmax(1)[0]
        best = chances.topk(min(top, len(classes)))
        for rank, (p, place) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True), 1):
            rows.append({"path": str(refs[index]), "rank": rank, "class": classes[place], "probability": round(p, 5)})
    return rows
