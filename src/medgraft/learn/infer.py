"""Inference: files in, predictions out, a batch at a time, in the order of the files.

Decoding runs in worker processes that may die without taking the program
along; the net runs here. Neither Fabric nor any training code is loaded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgraft.errors import BadImage
from medgraft.files import read_many
from medgraft.learn.model import Model, Pixels
from medgraft.samples.decode import network_input
from medgraft.values import Batch, ImageRef, InputSpec, Prediction

Answer = tuple[int, Prediction | BadImage]


class Predictor:
    """A model on a device, in the precision it was trained in.

    Args:
        model: what to predict with.
        device: "cpu", "cuda" or "cuda:1".
    """

    def __init__(self, model: Model, *, device: str = "cpu") -> None:
        self.model = model
        self.device = torch.device(device)
        self.bf16 = model.card.get("precision") == "bf16"
        self.layout = torch.channels_last if model.card.get("channels_last") else torch.contiguous_format
        model.task.to(self.device)
        model.task.to(memory_format=self.layout)  # type: ignore[call-overload]
        model.task.eval()

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Get `(N, K)` float64 logits of network pixels `(N, C, H, W)` uint8 or uint16."""
        batch = Batch(self._prepared(pixels), keys=tuple(str(i) for i in range(len(pixels))))
        with torch.inference_mode(), self._autocast():
            return self.model.task.logits(batch)

    def predict(self, pixels: np.ndarray, keys: Sequence[str]) -> list[Prediction]:
        """Get a prediction for each of `(N, C, H, W)` network pixels."""
        return self.model.task.interpret(keys, self.logits(pixels))

    def files(
        self,
        refs: Sequence[ImageRef],
        *,
        batch_size: int = 32,
        workers: int = 2,
        listen: Callable[[dict[str, Any]], None] = lambda event: None,
    ) -> Iterator[Answer]:
        """Yield (index, prediction or the reason why not) in the order of `refs`, holding one batch at a time."""
        work = partial(network_input, network=self.model.pixels.to_dict())
        done = 0
        for group in _groups(read_many(refs, work, workers=workers), batch_size):
            yield from self._answer(group, refs)
            done += len(group)
            listen({"event": "predict", "done": done, "of": len(refs)})

    def _answer(self, group: list[tuple[int, Any]], refs: Sequence[ImageRef]) -> Iterator[Answer]:
        good = [(index, found) for index, found in group if isinstance(found, np.ndarray)]
        predictions: dict[int, Prediction] = {}
        # 8-bit and deeper images never mix in one array: each kind keeps its own bits.
        for kind in {found.dtype for _, found in good}:
            of_kind = [(index, found) for index, found in good if found.dtype == kind]
            pixels = np.stack([found for _, found in of_kind])
            keys = [str(refs[index]) for index, _ in of_kind]
            for (index, _), prediction in zip(of_kind, self.predict(pixels, keys), strict=True):
                predictions[index] = prediction
        for index, found in group:
            yield index, predictions.get(index, found)

    def _prepared(self, pixels: np.ndarray) -> Tensor:
        moved = normalised(pixels, self.model.spec).to(self.device)
        return moved.contiguous(memory_format=self.layout)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def normalised(pixels: np.ndarray, spec: InputSpec) -> Tensor:
    """Turn uint8 or uint16 network pixels into the float32 that a net eats."""
    scale = 255.0 if pixels.dtype == np.uint8 else 65535.0
    shape = (1, -1) + (1,) * (pixels.ndim - 2)
    mean = torch.tensor(spec.mean).view(shape) * scale
    std = torch.tensor(spec.std).view(shape) * scale
    found = torch.from_numpy(pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)).float()
    return found.sub_(mean).div_(std)


def _groups(items: Iterable[tuple[int, Any]], size: int) -> Iterator[list[tuple[int, Any]]]:
    group: list[tuple[int, Any]] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def from_array(array: np.ndarray, pixels: Pixels, name: str) -> np.ndarray:
    """Turn a picture in memory, `(H, W)`, `(H, W, 3)` or `(C, H, W)`, into network pixels."""
    from medgraft.files import image_of_array, network_pixels

    image = image_of_array(array, source=name)
    values = pixels.to_dict()
    values.pop("window")
    return network_pixels(image, **{**values, "size": pixels.size})
