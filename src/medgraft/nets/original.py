"""A pre-trained net with the head it came with, before any grafting."""

from __future__ import annotations

from torch import nn

from medgraft.errors import BadWeights
from medgraft.nets.backbone import open_net
from medgraft.nets.request import Request
from medgraft.nets.sources import resolve
from medgraft.values import InputSpec


def classifier(
    name: str, *, offline: bool = False, image_size: int | tuple[int, int] | None = None
) -> tuple[nn.Module, tuple[str, ...], InputSpec]:
    """Get a net with its own head, in eval mode: (net, class names, what it eats).

    Args:
        name: as for `backbone`.
        offline: True never opens a socket.
        image_size: pixels; None for the size its weights were made for.

    Returns:
        The net maps `(N, 3, H, W)` normalised pixels to raw outputs `(N, K)`; the K names are in its order.

    Raises:
        BadWeights: the weights have no head of their own, or the names of its classes are not known.
    """
    full = resolve(name)
    if full.startswith("none:"):
        raise BadWeights("random numbers have no classes of their own", where=full, do="Give trained weights.")
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    opened = open_net(full, Request(image_size=size, offline=offline, head=True))
    if opened.whole is None or not opened.classes:
        raise BadWeights("the names of its classes are not known", where=full, do="Train a head with: medgraft train")
    return opened.whole.eval(), opened.classes, opened.spec
