"""Volumes with a ball planted in them, and maps of a net that tells which have one.

Each volume is 32 x 64 x 64 voxels of cloudy noise with two dark balls that mean nothing; the ill have a bright one of 5
to 8 voxels' radius as well. The embedded ResNet, inflated, stays frozen; its head is put at its optimum on 160 volumes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from medgraft.explanation.methods import map_of
from medgraft.explanation.sanity import alike, randomised
from medgraft.learn import probe
from medgraft.nets import LinearHead, recalibrate, volume_backbone
from medgraft.scores.ranking import auroc
from medgraft.tasks import TASKS
from medgraft.tasks.base import Answers, ImageTask

SIZE = (32, 64, 64)
_LEARNT = 160


def volume(index: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Get a volume `(D, H, W)` float32 and the mask of its ball; every second one has one."""
    random = np.random.default_rng([seed, index])
    cloud = gaussian_filter(random.normal(0, 1, SIZE), 2)
    solid = cloud / cloud.std() * 0.5 + random.normal(0, 0.3, SIZE)
    grid = np.mgrid[: SIZE[0], : SIZE[1], : SIZE[2]]

    def ball() -> np.ndarray:
        middle = random.integers((8, 10, 10), (24, 54, 54))
        return ((grid - middle[:, None, None, None]) ** 2).sum(axis=0) < random.uniform(5, 8) ** 2

    for _ in range(2):
        solid[ball()] -= 1.5
    mask = ball() if index % 2 else np.zeros(SIZE, bool)
    solid[mask] += 2.5
    return solid.astype(np.float32), mask


def learnt(net: str) -> ImageTask:
    """Get a task whose head was solved for on volumes of seed 1."""
    encoder = volume_backbone(net, size=SIZE, channels=1, offline=True)
    answers = Answers(("none", "ball"), "ball")
    head = LinearHead(encoder.channels, 2, pooling="levels")
    task: ImageTask = TASKS["classify"](encoder, head, answers).eval()
    truth = np.arange(_LEARNT) % 2
    batch = torch.from_numpy(np.stack([volume(index, seed=1)[0] for index in range(_LEARNT)]))[:, None]
    recalibrate(encoder, batch.split(8))
    with torch.no_grad():
        features = torch.cat([task.features(part) for part in batch.split(8)])
    probe.solve(features, truth, groups=[str(index) for index in range(_LEARNT)], task=task).put(task)
    return task


def maps(
    task: ImageTask, *, seed: int, count: int, method: str
) -> Iterator[tuple[np.ndarray, np.ndarray, bool, float]]:
    """Yield map, mask, whether the net sees the ball, and how alike the map of random weights is, of the ill."""
    random, ball = randomised(task), torch.tensor([1])
    for index in range(1, 2 * count, 2):
        solid, mask = volume(index, seed=seed)
        x = torch.from_numpy(solid)[None, None]
        found = map_of(task, x, answer=ball, method=method)[0].numpy()
        other = map_of(random, x, answer=ball, method=method)[0].numpy()
        with torch.no_grad():
            logits = task(x)[0]
        yield found, mask, bool(logits[1] > logits[0]), alike(found, other)


def telling(task: ImageTask, *, seed: int, count: int) -> float:
    """Get the AUROC over `2 * count` volumes."""
    truth = np.arange(2 * count) % 2
    with torch.no_grad():
        rows = [task(torch.from_numpy(volume(index, seed=seed)[0])[None, None])[0] for index in range(2 * count)]
    return float(auroc(truth, np.array([float(row[1] - row[0]) for row in rows])))
