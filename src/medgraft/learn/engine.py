"""Device and precision, by Lightning Fabric, and the half-second trial that chooses between them."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from medgraft.errors import BadRecipe, OutOfMemory
from medgraft.values import Batch

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1  # what malloc.h calls M_MMAP_MAX and M_TRIM_THRESHOLD


_MEMORY = 8 << 30  # of a machine that does not say how much it has
_WORTH = 0.9  # part of the plain time below which another arithmetic is taken
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}  # by how many axes a tensor has


class Engine:
    """Where tensors live and in which precision they are multiplied.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:1".
        precision: "fp32" or "bf16".
        channels_last: memory layout of pictures, volumes and convolution weights.

    Raises:
        BadRecipe: there is no such device.
    """

    def __init__(self, device: str = "auto", *, precision: str = "fp32", channels_last: bool = False) -> None:
        self.precision, self.channels_last = precision, channels_last
        self.device = torch.device(resolve_device(device))
        if self.device.type == "cpu":
            keep_memory()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from lightning_fabric import Fabric

            logging.getLogger("lightning.fabric").setLevel(logging.ERROR)  # it announces the precision on stderr
            logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
            kind = "cuda" if self.device.type == "cuda" else "cpu"
            self.fabric = Fabric(
                accelerator=kind,
                devices=[self.device.index or 0] if kind == "cuda" else 1,
                precision="bf16-mixed" if precision == "bf16" else "32-true",
            )

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Get the context in which losses and predictions are computed."""
        return self.fabric.autocast()

    def backward(self, loss: Tensor) -> None:
        """Backpropagate one loss."""
        self.fabric.backward(loss)

    def place(self, module: nn.Module) -> nn.Module:
        """Put a module on the device in the chosen memory layout, in place."""
        return laid_out(module.to(self.device), last=self.channels_last)

    def move(self, batch: Batch) -> Batch:
        """Put a batch on the device in the chosen memory layout."""
        pixels = batch.pixels.to(self.device, non_blocking=True)
        if self.channels_last and pixels.ndim in LAYOUTS:
            pixels = pixels.contiguous(memory_format=LAYOUTS[pixels.ndim])
        others = {"targets": batch.targets, "weights": batch.weights, "beside": batch.beside}
        moved = {k: None if t is None else t.to(self.device, non_blocking=True) for k, t in others.items()}
        return replace(batch, pixels=pixels, **moved)


def laid_out(module: nn.Module, *, last: bool) -> nn.Module:
    """Put weights into the memory layout with channels last, of pictures and of volumes, or the plain one; in place."""
    for own in (*module.parameters(), *module.buffers()):
        layout = LAYOUTS.get(own.ndim, torch.contiguous_format) if last else torch.contiguous_format
        own.data = own.data.contiguous(memory_format=layout)
    return module


def keep_memory() -> None:
    """Let freed memory stay with the program for the next step, where the C library is glibc.

    By default every large activation is mapped anew and its pages are zeroed again, in each step: on two cores that
    costs a fifth of the time of prediction and of float32 training. The peak of memory rises by a tenth.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library has no mallopt, and needs none
            library = ctypes.CDLL(None)
            library.mallopt(_MMAP_MAX, 0)
            library.mallopt(_TRIM_THRESHOLD, -1)  # as a size, the largest: never


def resolve_device(name: str) -> str:
    """Turn "auto" into what is there.

    Raises:
        BadRecipe: the device is not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        index = int(name.partition(":")[2] or 0) if name.partition(":")[2].isdigit() or name == "cuda" else -1
        if not torch.cuda.is_available() or not 0 <= index < torch.cuda.device_count():
            raise BadRecipe(f"there is no device {name!r} here", do="Use --device cpu, or see medgraft doctor.")
    elif name != "cpu":
        raise BadRecipe(f"device is {name!r}; it can be auto, cpu, cuda or cuda:N")
    return name


def fastest(
    module: nn.Module, pixels: Tensor, *, run: Callable[[Tensor], object], seconds: float = 0.5
) -> tuple[str, bool]:
    """Measure which is fastest here: float32 or bfloat16, with channels last or not.

    Args:
        module: what `run` multiplies with; left in the memory layout of the fastest arm.
        pixels: `(N, C, [D,] H, W)`, like the batches to come.
        run: the work to time. Where layers learn it should go backward too: there are nets whose forward pass is
            faster in bfloat16 and whose backward pass is slower.

    Returns:
        ("fp32" | "bf16", channels_last).
    """
    if pixels.device.type == "cuda":
        return ("bf16" if has_bf16(pixels.device) else "fp32"), pixels.ndim == 4
    arms = {("fp32", False): 0.0, ("fp32", True): 0.0}
    if pixels.ndim < 5 and has_bf16(pixels.device):  # for small volumes processors find false gradients in bfloat16
        arms |= {("bf16", False): 0.0, ("bf16", True): 0.0}
    share = seconds / len(arms)
    for precision, last in arms:
        laid_out(module, last=last)
        batch = pixels.contiguous(memory_format=LAYOUTS[pixels.ndim] if last else torch.contiguous_format)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            run(batch)  # the first call compiles kernels
            best, until = float("inf"), time.perf_counter() + share
            while best == float("inf") or time.perf_counter() < until:
                began = time.perf_counter()
                run(batch)
                best = min(best, time.perf_counter() - began)
        arms[precision, last] = best
    plain = ("fp32", False)
    precision, last = min(arms, key=lambda arm: arms[arm])
    if arms[precision, last] > _WORTH * arms[plain]:  # noise of a busy machine must not decide
        precision, last = plain
    laid_out(module, last=last)
    return precision, last


def has_bf16(device: torch.device) -> bool:
    """Tell whether a device multiplies in bfloat16 by itself.

    Processors without it take ten times as long as in float32: there the half-second trial alone would take minutes.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    kernels: Any = torch.ops.mkldnn
    try:
        return bool(kernels._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # torch without oneDNN
        return False


def memory_bytes(device: str) -> int:
    """Get the memory of a device: of a GPU its own, of a processor that of the machine.

    Raises:
        BadRecipe: the device is not there.
    """
    name = resolve_device(device)
    if name.startswith("cuda"):
        return int(torch.cuda.get_device_properties(name).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # a system that does not say
        return _MEMORY


def precision_here(trained: object, device: str | torch.device) -> str:
    """Get the precision of a saved model's predictions: that of its training, where the device has it."""
    return "bf16" if trained == "bf16" and has_bf16(torch.device(device)) else "fp32"


@contextlib.contextmanager
def memory_said() -> Iterator[None]:
    """Turn every way in which libraries say that memory ran out into one plain error.

    Raises:
        OutOfMemory: the block ran out of memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        ran_out = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not ran_out and "allocate memory" not in text and "out of memory" not in text:
            raise
        raise OutOfMemory(
            f"memory ran out{f' ({_first_line(text)})' if text else ''}",
            do="Give a smaller --batch-size or --image-size, in a new --out.",
        ) from error


def _first_line(text: str) -> str:
    """Get the sentence that counts: allocators put the place in their source code before it."""
    return text.splitlines()[0].rpartition("Allocator: ")[2].strip().rstrip(".")
