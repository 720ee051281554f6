"""Does a net of volumes do what the net of pictures does? One trial, and the module to blame."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from medgraft.values import InputSpec

_SLICES = 5  # no power of two, so that a wrong number of slices shows
_SIDE = 64
_TOLERANCE = 1e-3
_FAILURES = (RuntimeError, ValueError, TypeError, AttributeError, IndexError, AssertionError)


@torch.no_grad()
def first_difference(picture: nn.ModuleDict, volume: nn.ModuleDict, x: torch.Tensor) -> tuple[str, str] | None:
    """Run both on the same slices and look for the first module whose results differ.

    Args:
        picture: stage name -> module on `(N, C, H, W)`, in eval mode.
        volume: the same stages on `(N, C, D, H, W)`, in eval mode.
        x: what the net eats, `(N, C, H, W)`.

    Returns:
        None where every stage gives in every slice what the picture gives; else the path of the innermost
        module that does not, and why.
    """
    y = lifted(x)
    for name, module in picture.items():
        before, x = x, module(x)
        try:
            y = volume[name](y)
        except _FAILURES:
            return _culprit(name, module, volume[name], before)
        if not same(y, x):
            return _culprit(name, module, volume[name], before)
    return None


def lifted(value: Any) -> Any:
    """Turn pictures `(N, C, H, W)`, in lists and tuples too, into volumes with the same slices; leave the rest."""
    if isinstance(value, list | tuple):
        return type(value)(lifted(item) for item in value)
    if isinstance(value, torch.Tensor) and value.ndim == 4:
        return value[:, :, None].expand(-1, -1, _SLICES, -1, -1).contiguous()
    return value


def same(volume: Any, picture: Any) -> bool:
    """Tell whether every slice of a result is the picture's, whatever the number of slices."""
    if isinstance(picture, list | tuple):
        return len(volume) == len(picture) and all(same(v, p) for v, p in zip(volume, picture, strict=True))
    if not isinstance(picture, torch.Tensor) or not isinstance(volume, torch.Tensor):
        return volume is picture
    if picture.ndim == 4:  # anything else, such as a row of channels, is the same for both
        if volume.ndim != 5:
            return False
        picture = picture[:, :, None].expand(-1, -1, volume.shape[2], -1, -1)
    return volume.shape == picture.shape and bool((volume - picture).abs().max() <= _TOLERANCE * picture.abs().max())


@torch.no_grad()
def trial_pictures(picture: nn.ModuleDict, spec: InputSpec) -> torch.Tensor | None:
    """Get two random pictures, small where the net takes small ones; None where it takes none of its own size."""
    like = next(picture.parameters())
    for size in ((_SIDE, _SIDE), spec.size):
        x = torch.randn(2, spec.channels, *size, generator=torch.Generator().manual_seed(0)).to(like)
        try:
            out = x
            for module in picture.values():
                out = module(out)
        except _FAILURES:
            continue
        if out.numel():
            return x
    return None


def _culprit(stage: str, picture: nn.Module, volume: nn.Module, x: torch.Tensor) -> tuple[str, str]:
    """Compare a stage module by module, the inner ones first, as they finish."""
    given: dict[str, Any] = {}
    finished: list[tuple[str, Any, Any]] = []
    hooks = []
    for path, module in picture.named_modules():
        # Cloned, as the next module may work in place.
        hooks += [
            module.register_forward_pre_hook(lambda _, x, path=path: given.__setitem__(path, _cloned(x))),
            module.register_forward_hook(
                lambda _, x, out, path=path: finished.append((path, given[path], _cloned(out)))
            ),
        ]
    try:
        picture(x)
    finally:
        for hook in hooks:
            hook.remove()
    parts = dict(volume.named_modules())
    differs = "gives something else for a volume with equal slices than for the slice"
    for path, eaten, wanted in finished:
        if path not in parts:
            continue  # inside something that was replaced as a whole
        try:
            right = same(parts[path](*lifted(eaten)), wanted)
        except _FAILURES as error:
            said = " ".join(str(error).split())[:200]
            return _joined(stage, path), f"works on pictures only ({type(error).__name__}: {said})"
        if not right:
            return _joined(stage, path), differs
    return stage, differs


def _joined(stage: str, path: str) -> str:
    return f"{stage}.{path}" if path else stage


def _cloned(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_cloned(item) for item in value)
    return value.clone() if isinstance(value, torch.Tensor) else value
