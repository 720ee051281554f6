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
from medgraft.files import network_pixels, read_many, read_pixels
from medgraft.learn.engine import keep_memory, precision_here
from medgraft.learn.model import Model, Pixels
from medgraft.samples.loader import normalised
from medgraft.values import Batch, Image, ImageRef, Prediction

Answer = tuple[int, Prediction | BadImage]


class Predictor:
    """A model on a device, in the precision it was trained in where the device has it.

    Args:
        model: what to predict with.
        device: "cpu", "cuda" or "cuda:1".
    """

    def __init__(self, model: Model, *, device: str = "cpu") -> None:
        self.model = model
        self.device = torch.device(device)
        if self.device.type == "cpu":
            keep_memory()
        self.bf16 = precision_here(model.card.get("precision"), self.device) == "bf16"
        self.layout = torch.channels_last if model.card.get("channels_last") else torch.contiguous_format
        model.task.to(self.device)
        model.task.to(memory_format=self.layout)  # type: ignore[call-overload]
        model.task.eval()

    def seen(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Get `(N, K)` float64 logits of network pixels `(N, C, H, W)` uint8 or uint16, and their features `(N, F)`."""
        batch = Batch(self._prepared(pixels), keys=tuple(str(i) for i in range(len(pixels))))
        with torch.inference_mode(), self._autocast():
            return self.model.task.seen(batch)

    def predict(self, pixels: np.ndarray, keys: Sequence[str]) -> list[Prediction]:
        """Get a prediction for each of `(N, C, H, W)` network pixels."""
        logits, features = self.seen(pixels)
        found = self.model.task.interpret(keys, logits)
        return found if self.model.certainty is None else self.model.certainty.judged(found, features)

    def files(
        self,
        refs: Sequence[ImageRef],
        *,
        batch_size: int = 32,
        workers: int = 2,
        listen: Callable[[dict[str, Any]], None] = lambda event: None,
    ) -> Iterator[Answer]:
        """Yield (index, prediction or the reason why not) in the order of `refs`, holding one batch at a time."""
        work = partial(read_pixels, **self.model.pixels.words())
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
            yield index, predictions.get(index) or found

    def _prepared(self, pixels: np.ndarray) -> Tensor:
        moved = normalised(pixels, self.model.spec).to(self.device)
        return moved.contiguous(memory_format=self.layout)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def _groups(items: Iterable[tuple[int, Any]], size: int) -> Iterator[list[tuple[int, Any]]]:
    group: list[tuple[int, Any]] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def from_array(array: np.ndarray, pixels: Pixels, *, name: str) -> np.ndarray:
    """Turn a picture in memory into network pixels `(C, H, W)`.

    Args:
        array: `(H, W)` or `(H, W, 3)`; uint8 counts as 0..255, uint16 as 0..65535 (0..4095 where nothing is larger,
            as in files), floats as 0..1.
        pixels: what the model was trained on.
        name: for messages.

    Raises:
        BadImage: another shape or type.
    """
    words = pixels.words()
    words.pop("window")
    return network_pixels(image_of(array, name), **words)


def image_of(array: np.ndarray, name: str) -> Image:
    """Get a picture in memory as one that was read; arguments and errors as in `from_array`."""
    if array.size == 0:
        raise BadImage("an empty array is no picture", where=name)
    whole = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 4095.0 if array.max() < 4096 else 65535.0}.get(array.dtype)
    if whole is None and not np.issubdtype(array.dtype, np.floating):
        raise BadImage(
            f"an array of {array.dtype} is no picture", where=name, do="Give uint8, uint16, or floats in 0..1."
        )
    if whole is None and not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
        what = "its numbers are not all between 0 and 1" if np.isfinite(array).all() else "it holds NaN or infinity"
        raise BadImage(f"an array of floats is a picture in 0..1, and {what}", where=name, do="Scale it to 0..1 first.")
    if array.ndim == 3 and array.shape[2] == 3:
        array = np.moveaxis(array, 2, 0)
    elif array.ndim == 2:
        array = array[None]
    else:
        raise BadImage(f"an array of shape {array.shape} is no picture", where=name, do="Give (H, W) or (H, W, 3).")
    bits = 8 if whole == 255.0 else 16
    return Image(np.ascontiguousarray(array, dtype=np.float32), (0.0, whole or 1.0), name, bits=bits)
