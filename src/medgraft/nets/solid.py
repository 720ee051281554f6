"""Modules of pictures as modules of volumes: what stands in the place of each kind.

Every module here keeps one promise: a volume that is the same in all slices
comes out the same in all slices, as the picture would have come out of the
module it stands for, at the first and last slice too.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from medgraft.nets.depth import Site, depth_padding, pad_depth, window

Builder = Callable[[nn.Module, Site, str], nn.Module]


class SolidConv(nn.Conv3d):
    """A convolution whose 2-D kernel was spread over depth; zeros around the picture, its end slices repeated.

    Args:
        flat: the 2-D convolution.
        site: where it stands.
        how: as in `depth.window`.
        same: True pads the picture in TensorFlow's way, by its size.
    """

    def __init__(self, flat: nn.Conv2d, site: Site, how: str, *, same: bool = False) -> None:
        if flat.padding_mode != "zeros" or isinstance(flat.padding, str):
            raise ValueError(f"pads with {flat.padding_mode!r}, {flat.padding!r}")
        (kh, kw), (sh, sw), (ph, pw), (dh, dw) = flat.kernel_size, flat.stride, flat.padding, flat.dilation
        # A kernel of 1 x 7 and one of 7 x 1 share a square between them: neither reaches along depth.
        extent = site.extent(min(kh, kw))
        super().__init__(
            flat.in_channels,
            flat.out_channels,
            (extent, kh, kw),
            (site.stride(sh), sh, sw),
            (0, ph, pw),
            (dh, dh, dw),
            flat.groups,
            bias=False,
            device="meta",  # the numbers come from the 2-D kernel; none are drawn
        )
        self.same = same
        shares = window(how, extent).to(flat.weight)
        spread = flat.weight.detach()[:, :, None] * shares.view(1, 1, -1, 1, 1)
        self.weight = nn.Parameter(spread, requires_grad=flat.weight.requires_grad)
        self.bias = flat.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, C, D, H, W)` to `(N, C', ceil(D / stride), H', W')`."""
        if max(self.kernel_size) == max(self.stride) == 1 and not any(self.padding):
            # Each voxel by itself, so any layout will do: as a picture it takes half the time on a processor.
            planes = F.conv2d(x.flatten(2, 3), self.weight.squeeze(2), self.bias, groups=self.groups)
            return planes.unflatten(2, x.shape[2:4])
        if self.same:
            x = F.pad(x, _same_padding(x, self.kernel_size, self.stride, self.dilation))
        front = None if self.same else min(int(side) for side in self.padding[1:])
        extent, stride, dilation = self.kernel_size[0], self.stride[0], self.dilation[0]
        added = depth_padding(x.shape[2], extent=extent, stride=stride, dilation=dilation, front=front)
        return super().forward(pad_depth(x, *added))


def _same_padding(x: torch.Tensor, kernel: tuple, stride: tuple, dilation: tuple) -> list[int]:
    sides: list[int] = []
    for axis in (2, 1):  # F.pad names the last axis first
        args = {"extent": kernel[axis], "stride": stride[axis], "dilation": dilation[axis]}
        sides += depth_padding(x.shape[axis + 2], front=None, **args)
    return sides


class SolidNorm(nn.BatchNorm3d):
    """BatchNorm with the numbers of a 2-D one; timm's may drop and activate too.

    Args:
        flat: the 2-D norm.
    """

    def __init__(self, flat: nn.BatchNorm2d) -> None:
        affine, tracked = flat.affine, flat.track_running_stats
        super().__init__(flat.num_features, flat.eps, flat.momentum, affine=affine, track_running_stats=tracked)
        self.weight, self.bias = flat.weight, flat.bias
        self.running_mean, self.running_var = flat.running_mean, flat.running_var
        self.num_batches_tracked = flat.num_batches_tracked
        self.drop = getattr(flat, "drop", nn.Identity())
        self.act = getattr(flat, "act", nn.Identity())
        self.train(flat.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, C, D, H, W)` to the same shape."""
        return self.act(self.drop(super().forward(x)))


class SolidPool(nn.Module):
    """A pooling of pictures, then the same along depth: for averages, maxima and blurs that is the pooling of volumes.

    Args:
        flat: the 2-D pooling, with whatever it does at the border of the picture.
        shares: weights of neighbouring slices, of shape (extent,); None takes the largest value.
        extent: slices that are pooled.
        stride: along depth.
        front: padding of the picture; None splits evenly.
    """

    shares: torch.Tensor | None

    def __init__(
        self, flat: nn.Module, *, shares: torch.Tensor | None, extent: int, stride: int, front: int | None
    ) -> None:
        super().__init__()
        self.flat, self.extent, self.stride, self.front = flat, extent, stride, front
        self.register_buffer("shares", shares, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, C, D, H, W)` to `(N, C, ceil(D / stride), H', W')`."""
        slices = self.flat(x.transpose(1, 2).flatten(0, 1))
        x = slices.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
        if self.extent == self.stride == 1:
            return x
        count, step = -(-x.shape[2] // self.stride), self.stride
        padded = pad_depth(x, *depth_padding(x.shape[2], extent=self.extent, stride=step, dilation=1, front=self.front))
        parts = [padded[:, :, k : k + (count - 1) * step + 1 : step] for k in range(self.extent)]
        pooled = parts[0] if self.shares is None else parts[0] * self.shares[0]
        for k, part in enumerate(parts[1:], start=1):
            pooled = torch.maximum(pooled, part) if self.shares is None else pooled + part * self.shares[k]
        return pooled


class AsPlane(nn.Module):
    """A module that does not care where a voxel lies, on the volume laid out as one tall picture.

    For squeeze-and-excitation, norms over channels and scales: their means over the picture become means
    over the volume.

    Args:
        flat: the 2-D module.
    """

    def __init__(self, flat: nn.Module) -> None:
        super().__init__()
        self.flat = flat

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, C, D, H, W)` to `(N, C', D, H, W)`."""
        return self.flat(x.flatten(2, 3)).unflatten(2, x.shape[2:4])


def _conv(flat: nn.Module, site: Site, how: str) -> nn.Module:
    assert isinstance(flat, nn.Conv2d)
    return SolidConv(flat, site, how, same=type(flat).__name__ == "Conv2dSame")


def _norm(flat: nn.Module, site: Site, how: str) -> nn.Module:
    assert isinstance(flat, nn.BatchNorm2d)
    return SolidNorm(flat)


def _pool(flat: nn.Module, site: Site, how: str) -> nn.Module:
    assert isinstance(flat, nn.MaxPool2d | nn.AvgPool2d)
    kernel, stride, padding = _first(flat.kernel_size), _first(flat.stride), _first(flat.padding)
    if _first(getattr(flat, "dilation", 1)) != 1:
        raise ValueError("has a dilation")
    deep = site.stride(stride)
    # A pooling that halves the picture alone must not mix slices; one that keeps its size mixes them like a kernel.
    extent = kernel if deep > 1 else site.extent(kernel) if stride == 1 else 1
    shares = None if isinstance(flat, nn.MaxPool2d) else torch.full((extent,), 1.0 / extent)
    front = None if type(flat).__name__.endswith("Same") else padding
    return SolidPool(flat, shares=shares, extent=extent, stride=deep, front=front)


def _blur(flat: nn.Module, site: Site, how: str) -> nn.Module:
    size, stride = int(flat.filt_size), int(flat.stride)  # type: ignore[arg-type]
    deep = site.stride(stride)
    extent = size if deep > 1 else 1
    return SolidPool(flat, shares=window("binomial", extent), extent=extent, stride=deep, front=(size - 1) // 2)


def _whole_pool(flat: nn.Module, site: Site, how: str) -> nn.Module:
    if flat.output_size not in (1, (1, 1)):
        raise ValueError(f"pools to {flat.output_size}")
    return nn.AdaptiveAvgPool3d(1) if isinstance(flat, nn.AdaptiveAvgPool2d) else nn.AdaptiveMaxPool3d(1)


def _dropout(flat: nn.Module, site: Site, how: str) -> nn.Module:
    assert isinstance(flat, nn.Dropout2d)
    return nn.Dropout3d(flat.p, flat.inplace)


def _plane(flat: nn.Module, site: Site, how: str) -> nn.Module:
    return AsPlane(flat)


def _first(value: int | tuple[int, ...]) -> int:
    return value[0] if isinstance(value, tuple | list) else value


def kind(module: nn.Module) -> str:
    """Get the full name of a module's class: kinds are known by name, so that timm is not imported to compare."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


BUILDERS: dict[str, Builder] = {
    "torch.nn.modules.conv.Conv2d": _conv,
    "timm.layers.conv2d_same.Conv2dSame": _conv,
    "torch.nn.modules.batchnorm.BatchNorm2d": _norm,
    "timm.layers.norm_act.BatchNormAct2d": _norm,
    "torch.nn.modules.pooling.MaxPool2d": _pool,
    "torch.nn.modules.pooling.AvgPool2d": _pool,
    "timm.layers.pool2d_same.MaxPool2dSame": _pool,
    "timm.layers.pool2d_same.AvgPool2dSame": _pool,
    "timm.layers.blur_pool.BlurPool2d": _blur,
    "torch.nn.modules.pooling.AdaptiveAvgPool2d": _whole_pool,
    "torch.nn.modules.pooling.AdaptiveMaxPool2d": _whole_pool,
    "torch.nn.modules.dropout.Dropout2d": _dropout,
    "timm.layers.squeeze_excite.SEModule": _plane,
    "timm.layers.squeeze_excite.EffectiveSEModule": _plane,
    "timm.models._efficientnet_blocks.SqueezeExcite": _plane,
    "timm.models.senet.SEModule": _plane,
    "timm.models.hgnet.EseModule": _plane,
    "timm.layers.eca.EcaModule": _plane,
    "timm.layers.norm.LayerNorm2d": _plane,
    "medgraft.nets.fold.Repeat": _plane,
}
# Kinds that take any number of axes as they are. The parts of a container are looked at one by one.
ANY_SHAPE = {
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.dropout.Dropout",
    "torch.nn.modules.linear.Identity",
    "torch.nn.modules.normalization.GroupNorm",
    "timm.layers.norm.GroupNorm",
    "timm.layers.norm.GroupNorm1",
    "timm.layers.drop.DropPath",
    "timm.models.hgnet.LearnableAffineBlock",
    "torchvision.ops.stochastic_depth.StochasticDepth",
}
_ELEMENTWISE = ("torch.nn.modules.activation.", "timm.layers.activations.", "timm.layers.activations_me.")
_NOT_ELEMENTWISE = {"MultiheadAttention", "Softmax", "Softmax2d", "LogSoftmax", "Softmin", "GLU"}


def takes_any_shape(module: nn.Module) -> bool:
    """Tell whether a module without parts works on volumes as it stands."""
    name = kind(module)
    return name in ANY_SHAPE or (name.startswith(_ELEMENTWISE) and type(module).__name__ not in _NOT_ELEMENTWISE)
