"""A model that outlines what is as bright as the place that it is shown: what it should answer can be known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage

from medgraft.nets.prompter import Embedding, Guess, Prompter, PromptFrame
from medgraft.values import Prompt

NEAR = 12  # gray levels that count as alike
_INSIDE = 4.0  # logits


class Bright(Prompter):
    """Three candidates of each prompt: what is left when a rim is taken off, the part itself, and with a rim around.

    Args:
        quality: of the three.
    """

    name, source, licence, sha256 = "bright", "tests", "none", "0" * 64

    def __init__(self, quality: tuple[float, float, float] = (0.7, 0.95, 0.6)) -> None:
        self.quality = quality
        self.encoded = 0
        self.asked: list[Prompt] = []

    def encode(self, picture: np.ndarray) -> Embedding:
        self.encoded += 1
        shape = (int(picture.shape[0]), int(picture.shape[1]))
        return Embedding(PromptFrame(shape, shape, shape), picture[..., 0].astype(int))

    def guess(self, embedding: Embedding, prompts: Sequence[Prompt]) -> Guess:
        self.asked += prompts
        masks = [self._candidates(embedding.features, one) for one in prompts]
        logits = torch.from_numpy(np.where(np.stack(masks), _INSIDE, -_INSIDE).astype(np.float32))
        quality = [[q if one.any() else 0.0 for q, one in zip(self.quality, each, strict=True)] for each in masks]
        return Guess(logits, torch.tensor(quality))

    def _candidates(self, gray: np.ndarray, prompt: Prompt) -> np.ndarray:
        inside = np.ones(gray.shape, bool)
        if len(prompt.boxes):
            x0, y0, x1, y1 = (int(round(v)) for v in prompt.boxes[0])
            inside[:] = False
            inside[y0:y1, x0:x1] = True
        shown = prompt.points[prompt.points[:, 2] == 1]
        if len(shown):
            x, y = (int(np.clip(round(v), 0, size - 1)) for v, size in zip(shown[0], gray.shape[::-1], strict=False))
        elif prompt.mask is not None:
            y, x = (int(v) for v in np.argwhere(prompt.mask).mean(axis=0))
        else:
            x, y = (x0 + x1) // 2, (y0 + y1) // 2
        alike = (np.abs(gray - gray[y, x]) < NEAR) & inside & (gray > 20)
        for not_x, not_y, _ in prompt.points[prompt.points[:, 2] == 0]:
            if alike[int(round(not_y)), int(round(not_x))]:
                alike[:] = False
        parts, _ = ndimage.label(alike)  # type: ignore[misc]
        whole = (parts == parts[y, x]) & alike
        wide = ndimage.binary_dilation(whole, iterations=2)
        return np.stack([ndimage.binary_erosion(whole, iterations=2), whole, wide])


class Doubtful(Bright):
    """Is less sure with each picture that it sees."""

    def guess(self, embedding: Embedding, prompts: Sequence[Prompt]) -> Guess:
        told = super().guess(embedding, prompts)
        return replace(told, quality=told.quality * 0.9 ** (self.encoded - 1))
