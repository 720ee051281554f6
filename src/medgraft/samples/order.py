"""In which order an epoch shows its samples: a function of (seed, purpose, epoch) alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from medgraft import seeds


def epoch_order(
    count: int, *, seed: int, purpose: str = "train", epoch: int = 0, share: np.ndarray | None = None
) -> np.ndarray:
    """Get the positions that an epoch shows, int64 of shape (count,), shuffled.

    Args:
        count: how many samples there are, and how many positions an epoch has.
        share: `(count,)` how often each sample is wanted, in any scale; None shows each once. With shares, a
            sample wanted 2.3 times an epoch comes 2 or 3 times (systematic sampling: no luck beyond rounding).

    Example:
        >>> sorted(epoch_order(4, seed=0).tolist())
        [0, 1, 2, 3]
    """
    order = seeds.permutation(count, seed=seed, purpose=purpose, epoch=epoch)
    if share is None or count == 0:
        return order
    wanted = np.asarray(share, np.float64)
    if wanted.shape != (count,) or not np.all(wanted >= 0) or not np.isfinite(wanted).all() or wanted.sum() <= 0:
        raise ValueError(f"share must hold {count} numbers that are not negative, and one above zero")
    order = order[np.argsort(wanted[order], kind="stable")]  # so that each class, too, gets its share up to rounding
    edges = np.cumsum(wanted[order])
    random = seeds.generator(seed, f"{purpose} share", epoch)
    marks = (np.arange(count) + random.random()) * (edges[-1] / count)
    chosen = np.minimum(np.searchsorted(edges, marks, side="right"), count - 1)
    return order[random.permutation(chosen)]


def batch_slices(count: int, size: int, *, training: bool) -> list[slice]:
    """Get the parts of an epoch; in training a last image alone joins the batch before it: BatchNorm needs company.

    Example:
        >>> batch_slices(9, 4, training=True)
        [slice(0, 4, None), slice(4, 9, None)]
    """
    parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    if training and size > 1 and len(parts) > 1 and count % size == 1:
        parts[-2:] = [slice(parts[-2].start, count)]
    return parts


def occurrences(order: Iterable[int]) -> list[int]:
    """Get for each position of an order how often it came before: the second showing of a sample is another one.

    Example:
        >>> occurrences([3, 1, 3])
        [0, 0, 1]
    """
    seen: Counter[int] = Counter()
    found = []
    for position in order:
        found.append(seen[int(position)])
        seen[int(position)] += 1
    return found


def balanced_share(labels: Iterable[object]) -> np.ndarray:
    """Get shares that show every class equally often: 1 / (size of the sample's class)."""
    labels = list(labels)
    sizes = Counter(labels)
    return np.array([1.0 / sizes[label] for label in labels])
