"""The statistics of BatchNorm, measured anew on other images.

A trained net stores the means and variances that its activations had on the
images it was trained on. On images of another kind, or inflated to volumes,
activations have others, and every layer after works outside what it knows.
Measuring them again costs one pass and no labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from medgraft.errors import BadData, BadRecipe
from medgraft.nets.adapt import batch_norms, has_folded_norms
from medgraft.nets.backbone import Encoder

_Norm = nn.modules.batchnorm._BatchNorm


class _Sums:
    """Mean and variance of each channel over all batches, float64, merged without loss (Chan et al. 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = torch.zeros(())

    def measure(self, norm: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        """Take in what entered a layer that normalises by what it stores."""
        x = given[0].float()
        variance, mean = torch.var_mean(x, dim=(0, *range(2, x.ndim)), correction=0)
        self._add(mean.double(), variance.double(), x.numel() // x.shape[1])

    def read(self, norm: _Norm, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        """Take in what a layer that normalises by its batch measured itself, with a momentum of 1."""
        assert norm.running_mean is not None and norm.running_var is not None
        count = given[0].numel() // given[0].shape[1]
        self._add(norm.running_mean.double(), norm.running_var.double() * ((count - 1) / count), count)

    def _add(self, mean: torch.Tensor, variance: torch.Tensor, count: int) -> None:
        total = self.count + count
        step = mean - self.mean
        self.squares = self.squares + variance * count + step.square() * (self.count * count / total)
        self.mean = self.mean + step * (count / total)
        self.count = total

    def variance(self) -> torch.Tensor:
        """The variance as BatchNorm stores it: of a sample, divided by n - 1."""
        return self.squares / max(self.count - 1, 1)


@torch.no_grad()
def recalibrate(net: Encoder, batches: Iterable[torch.Tensor]) -> int:
    """Replace the stored statistics of every BatchNorm by those of the activations on these images.

    Layers are normalised by each batch while it passes, so every layer is measured behind layers that already
    have their new statistics. What is stored are the means and variances over all batches together.

    Args:
        net: changed in place; its modes stay as they are.
        batches: `(N, C, [D,] H, W)` normalised pixels, of training images alone. More values a channel than a
            few dozen are wanted in each: several images a batch.

    Returns:
        The number of images seen.

    Raises:
        BadRecipe: BatchNorm was folded into the convolutions; the statistics are gone. See `unfold_norms`.
        BadData: there are no images, or too few in a batch.

    Source: Li et al., "Revisiting batch normalization for practical domain adaptation", arXiv:1603.04779;
        Wu, Johnson, "Rethinking 'batch' in BatchNorm", arXiv:2105.07576, section 3.
    """
    if _were_folded(net):
        raise BadRecipe(
            f"the BatchNorm layers of {net.name} were folded into its convolutions and hold no statistics",
            do="Give them statistics first with medgraft.nets.norms.unfold_norms.",
        )
    with _measuring(net, by_batch=True) as sums:
        seen = _pass(net, batches)
    for norm, found in sums.items():
        _store(norm, found)
    return seen


@torch.no_grad()
def unfold_norms(net: Encoder, batches: Iterable[torch.Tensor]) -> int:
    """Give BatchNorm layers the statistics of these images without changing what the net does.

    A layer that was folded stores mean 0 and variance 1 and passes its input on; normalising by batches, in
    training or by `recalibrate`, would break the net. Afterwards the layer stores the statistics its input has
    on these images, and its weight and bias undo them, so the net gives what it gave, and can be recalibrated.

    Args:
        net: changed in place; its modes stay as they are.
        batches: `(N, C, [D,] H, W)` normalised pixels, like those the net was trained on or will work on.

    Returns:
        The number of images seen.

    Raises:
        BadData: there are no images.
    """
    with _measuring(net, by_batch=False) as sums:
        seen = _pass(net, batches)
    for norm, found in sums.items():
        if not found.count or norm.weight is None or norm.running_mean is None or norm.running_var is None:
            continue
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        bias = norm.bias.double() + norm.weight.double() * (found.mean - norm.running_mean.double()) * scale
        weight = norm.weight.double() * (found.variance() + norm.eps).sqrt() * scale
        norm.weight.copy_(weight)
        norm.bias.copy_(bias)
        _store(norm, found)
    return seen


def _were_folded(net: Encoder) -> bool:
    """A fresh net stores mean 0 and variance 1 too, but its biases are zero, and nothing is lost by measuring it."""
    biases = [norm.bias for norm in batch_norms(net) if norm.bias is not None]
    return has_folded_norms(net) and any(bool(bias.any()) for bias in biases)


def _store(norm: _Norm, found: _Sums) -> None:
    # A layer that no image reached keeps what it had.
    if found.count and norm.running_mean is not None and norm.running_var is not None:
        norm.running_mean.copy_(found.mean)
        norm.running_var.copy_(found.variance())


@contextmanager
def _measuring(net: Encoder, *, by_batch: bool) -> Iterator[dict[_Norm, _Sums]]:
    """Sum up what enters each BatchNorm; `by_batch` normalises by the batch meanwhile, else by what is stored.

    Modes and buffers are as before when it ends, whatever ends it.
    """
    norms = batch_norms(net)
    modes = [(module, module.training) for module in net.modules()]
    kept = [(norm, norm.momentum, [buffer.clone() for buffer in norm.buffers()]) for norm in norms]
    sums = {norm: _Sums() for norm in norms}
    hooks = [norm.register_forward_hook(own.read if by_batch else own.measure) for norm, own in sums.items()]
    net.eval()
    for norm in norms:
        norm.momentum, norm.training = 1.0, by_batch
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()
        for norm, momentum, buffers in kept:
            norm.momentum = momentum
            for buffer, value in zip(norm.buffers(), buffers, strict=True):
                buffer.copy_(value)
        for module, training in modes:
            module.training = training


def _pass(net: Encoder, batches: Iterable[torch.Tensor]) -> int:
    seen = 0
    for batch in batches:
        try:
            net.run(batch)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise BadData("a batch has a single value a channel in its last level", do="Give larger batches.") from None
        seen += len(batch)
    if not seen:
        raise BadData("there are no images to measure BatchNorm on", do="Give at least one batch.")
    return seen
