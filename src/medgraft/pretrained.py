"""Before any grafting: a pre-trained net answers with the head it came with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from medgraft.errors import BadData, BadImage, UserError
from medgraft.opened import images_in
from medgraft.values import ImageRef

_NEAR = 0.05
_ASKED = 16


def predict(
    name: str,
    paths: Sequence[str | Path] | str | Path,
    *,
    top: int,
    offline: bool,
    device: str,
    image_size: int | None = None,
) -> list[dict[str, Any]]:
    """Get the `top` most probable classes of every image: rows of path, rank, class, probability.

    The image is made square by cropping, as these nets were trained. Images that are within a few percent of the
    net's own size are taken as they are, because resizing by so little only blurs them.

    Raises:
        BadWeights: the weights have no head of their own.
        BadData: no image can be read.
    """
    import torch

    from medgraft.files import read_many, read_pixels
    from medgraft.learn.engine import resolve_device
    from medgraft.nets.original import classifier
    from medgraft.samples.loader import normalised

    refs, _ = images_in(paths)
    net, classes, spec = classifier(name, offline=offline, image_size=image_size)
    own = _own_size(refs, spec.size) if image_size is None else None
    if own is not None:
        with suppress(UserError):  # a net of patches may refuse that size: then the images are resized
            net, classes, spec = classifier(name, offline=offline, image_size=own)
    net.to(resolve_device(device)).eval()
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


def _own_size(refs: Sequence[ImageRef], wanted: tuple[int, ...]) -> tuple[int, int] | None:
    """The one size (H, W) of the first images when it is near what the net wants, not the same, and divides evenly."""
    from medgraft.files import header

    sizes = set()
    for ref in refs[:_ASKED]:
        with suppress(BadImage):
            sizes.add(tuple(header(ref).shape[-2:]))
    if len(sizes) != 1:
        return None
    height, width = sizes.pop()
    near = abs(height / wanted[0] - 1) <= _NEAR and abs(width / wanted[1] - 1) <= _NEAR
    return (height, width) if near and height % 32 == width % 32 == 0 and (height, width) != tuple(wanted) else None
