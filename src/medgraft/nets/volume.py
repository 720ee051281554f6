"""Encoders of volumes from encoders of pictures: the same weights, their kernels spread over depth.

    backbone (N, C, H, W)  --inflate-->  volume backbone (N, C, D, H, W)

Kernels of k x k become k x k x k with the 2-D kernel shared out among the
slices, so that a volume that is the same in every slice gives in every slice
what the 2-D net gives for it, at the first and last slice too. Whether that
holds is tried before a net is handed out, so a net with a step that only
works on pictures is refused and never silently wrong.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import nn

from medgraft.errors import BadData, BadRecipe
from medgraft.nets.backbone import Backbone, Encoder, backbone
from medgraft.nets.depth import DepthPlan, Site, plan_depth, window
from medgraft.nets.solid import BUILDERS, kind, takes_any_shape
from medgraft.nets.stages import probe_size, shape_of
from medgraft.nets.trial import first_difference, trial_pictures

_ADVICE = "Take a convolutional net, such as timm:resnet18 or torchvision:mobilenet_v2, or run this one slice by slice."


class VolumeBackbone(Encoder):
    """An encoder of volumes: pixels `(N, C, D, H, W)` -> one level `(N, C, D, H, W)` a stage.

    Attributes:
        name, architecture, options, spec, weights_spec, licence, source, sha256, gray: as in `Backbone`;
            `spec.size` is (H, W) of a slice.
        channels: C of each level.
        strides: (D, H, W) input voxels for one voxel of each level.
        how: how kernels were spread over depth, as in `inflate`.
        plan: where it reaches and strides along depth.
        size: (D, H, W) of the volumes it was asked for, or None.
    """

    def __init__(self, flat: Backbone, stages: dict[str, nn.Module], *, how: str, plan: DepthPlan) -> None:
        super().__init__(flat.name, stages)
        self.architecture, self.options, self.gray = flat.architecture, dict(flat.options), flat.gray
        self.spec, self.weights_spec = flat.spec, flat.weights_spec
        self.licence, self.source, self.sha256 = flat.licence, flat.source, flat.sha256
        self.channels, self.how, self.plan = list(flat.channels), how, plan
        deep = [math.prod(plan.strides[: round(math.log2(stride))]) for stride in flat.strides]
        self.strides = [(depth, plane, plane) for depth, plane in zip(deep, flat.strides, strict=True)]
        self.size: tuple[int, int, int] | None = None

    def run(self, x: torch.Tensor, *, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """As in `Encoder`; so is `forward`.

        Raises:
            BadData: `x` is no batch of volumes with the channels that this encoder takes.
        """
        self._check(x, start)
        return super().run(x, start=start, stop=stop)

    def forward(self, x: torch.Tensor, start: int = 0, stop: int | None = None) -> list[torch.Tensor]:
        self._check(x, start)
        return super().forward(x, start, stop)

    def _check(self, x: torch.Tensor, start: int) -> None:
        if start == 0 and (x.ndim != 5 or x.shape[1] != self.spec.channels or not x.shape[2]):
            wanted = f"(N, {self.spec.channels}, D, H, W)"
            raise BadData(f"an encoder of volumes takes {wanted}, not a tensor of shape {tuple(x.shape)}")


def inflate(
    flat: Backbone,
    *,
    how: str = "spread",
    spacing_mm: Sequence[float] | None = None,
    depth_stride: Sequence[int] | None = None,
) -> VolumeBackbone:
    """Get the encoder of volumes that has the weights of an encoder of pictures; the latter is left as it was.

    Args:
        flat: a convolutional net of any source, for 1 or 3 channels.
        how: what each slice of a kernel gets of the 2-D kernel: "spread" the same share, "binomial" more in the
            middle, "centre" all in the middle. A "centre" kernel that strides passes over the slices between.
        spacing_mm: (D, H, W) of the voxels it will see. While slices lie twice as far apart as pixels or
            more, kernels stay inside their slice and depth is not halved; None takes the voxels for cubes.
        depth_stride: 1 or 2 for each time that the net halves the picture, instead of `spacing_mm`.

    Raises:
        BadRecipe: a module has no form for volumes, named in the message; or an option is wrong.

    Source: Carreira, Zisserman, "Quo vadis, action recognition?", CVPR 2017, arXiv:1705.07750.

    Example:
        >>> net = inflate(backbone("none:torchvision:squeezenet1_1", channels=1), spacing_mm=(3.0, 1.0, 1.0))
        >>> net.strides
        [(1, 2, 2), (2, 4, 4), (4, 8, 8), (8, 16, 16)]
    """
    window(how, 1)  # a wrong word is refused before any work
    scales = _scales(flat)
    plan = plan_depth(round(math.log2(flat.strides[-1])), spacing_mm=spacing_mm, depth_stride=depth_stride)
    _try(flat, scales, plan, how)
    made = VolumeBackbone(flat, _solid_stages(flat, flat.encoder, scales, plan, how), how=how, plan=plan)
    made.training = made.encoder.training = flat.training  # the parts have the modes of those they stand for
    return made


def volume_backbone(
    name: str,
    *,
    channels: int = 1,
    size: tuple[int, int, int] | None = None,
    spacing_mm: Sequence[float] | None = None,
    how: str = "spread",
    depth_stride: Sequence[int] | None = None,
    offline: bool = False,
    seed: int = 0,
) -> VolumeBackbone:
    """Get an encoder of volumes by the name of an encoder of pictures, its head cut off, in eval mode.

    Args:
        name: as for `backbone`.
        channels: 1 or 3 input channels; CT and MR have 1.
        size: (D, H, W) in voxels that volumes will be brought to; None for slices of the size of the weights.
        spacing_mm: as for `inflate`, of volumes of that size.
        how: as for `inflate`.
        depth_stride: as for `inflate`.
        offline: True never opens a socket.
        seed: of random numbers.

    Raises:
        BadRecipe: the net cannot be inflated, or an option is wrong.
        UnknownName, Offline, BadWeights: as for `backbone`.

    Example:
        >>> net = volume_backbone("none:timm:resnet10t", size=(16, 32, 32))
        >>> [tuple(level.shape) for level in net(torch.zeros(1, 1, 16, 32, 32))][-1]
        (1, 512, 1, 1, 1)
    """
    if size is not None and (len(size) != 3 or min(size) < 1):
        raise BadRecipe(f"{size} is no size of a volume", do="Give three numbers of voxels: (D, H, W).")
    window(how, 1)  # wrong words are refused before anything is opened
    if spacing_mm is not None:
        plan_depth(0, spacing_mm=spacing_mm)
    plane = None if size is None else (size[1], size[2])
    flat = backbone(name, channels=channels, image_size=plane, offline=offline, seed=seed)
    net = inflate(flat, how=how, spacing_mm=spacing_mm, depth_stride=depth_stride)
    net.size = size
    return net


def pooled(levels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Get features `(N, F)` of whole volumes or pictures, float32, for a linear model on top.

    Args:
        levels: `(N, C, [D,] H, W)` each, as an encoder gives them.

    Returns:
        The averages of the last three levels, then the largest values of the last, side by side.
    """
    flat = [level.flatten(2).float() for level in levels[-3:]]
    return torch.cat([*(level.mean(2) for level in flat), flat[-1].amax(2)], dim=1)


def _scales(flat: Backbone) -> dict[str, set[int]]:
    """Run on shapes alone; get how often the picture was halved before each call of a module, by its path.

    Raises:
        BadRecipe: what travels between stages is no picture.
    """
    height, width = probe_size(flat.spec)
    found: dict[str, set[int]] = {}

    def note(path: str, given: tuple) -> None:
        rows = given[0].shape[2] if given and isinstance(given[0], torch.Tensor) and given[0].ndim == 4 else height
        found.setdefault(path, set()).add(max(0, round(math.log2(height / max(rows, 1)))))

    hooks = [
        module.register_forward_pre_hook(lambda _, given, path=path: note(path, given))
        for path, module in flat.encoder.named_modules()
        if path
    ]
    try:
        shape: tuple[int, ...] = (1, flat.spec.channels, height, width)
        for index, (name, module) in enumerate(flat.stages):
            shape = shape_of(module, shape)
            raw = torch.empty(shape, device="meta")
            if len(shape) != 4 or flat.level(raw, index) is not raw:
                raise _refusal(flat, name, module, "passes on tokens or channels last, not a picture")
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _solid_stages(
    flat: Backbone, encoder: nn.ModuleDict, scales: dict[str, set[int]], plan: DepthPlan, how: str
) -> dict[str, nn.Module]:
    """Copy the stages and put into each the modules of volumes."""
    made: dict[nn.Module, nn.Module] = {}

    def solid(module: nn.Module, path: str) -> nn.Module:
        if module in made:  # one module in two places stays one
            return made[module]
        if path in scales and kind(module) in BUILDERS:
            try:
                new = BUILDERS[kind(module)](module, _site(module, scales[path], plan), how)
            except ValueError as error:
                raise _refusal(flat, path, module, str(error)) from None
            new.training = module.training
        else:
            if not module._modules and path in scales and not takes_any_shape(module):
                raise _refusal(flat, path, module, "has no form for volumes")
            new = module
            for name, part in module._modules.items():
                if part is not None:
                    module._modules[name] = solid(part, f"{path}.{name}")
        made[module] = new
        return new

    copied = copy.deepcopy(encoder)
    return {name: solid(module, name) for name, module in copied.items()}


def _site(module: nn.Module, scales: set[int], plan: DepthPlan) -> Site:
    """Get what a module may do along depth.

    Raises:
        ValueError: it is used in several places where that differs.
    """
    sites = [plan.at(scale) for scale in sorted(scales)]
    step = getattr(module, "stride", None)
    if step is not None:
        step = step if isinstance(step, int) else step[0]
        if len({(site.stride(step), site.reach) for site in sites}) > 1:
            raise ValueError("is used at several resolutions, where this spacing or depth_stride asks different of it")
    return sites[0]


def _try(flat: Backbone, scales: dict[str, set[int]], plan: DepthPlan, how: str) -> None:
    """Compare the net with its inflated form on a volume that is the same in every slice.

    Raises:
        BadRecipe: they differ; names the innermost module that does. Or slices are too small for the net.
    """
    picture = copy.deepcopy(flat.encoder).float().eval()
    for module in picture.modules():
        # A block whose last norm starts at zero gives nothing, right or wrong: let it speak.
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.ndim == 1 and not bool(weight.any()):
            nn.init.ones_(weight)
    pictures = trial_pictures(picture, flat.spec)
    if pictures is None:
        height, width = flat.spec.size
        raise BadRecipe(f"{flat.name} takes no slices of {height} x {width} pixels", do="Give a larger size.")
    volume = nn.ModuleDict(_solid_stages(flat, picture, scales, plan, how))
    found = first_difference(picture, volume, pictures)
    if found is not None:
        path, why = found
        raise _refusal(flat, path, picture.get_submodule(path), why)


def _refusal(flat: Backbone, path: str, module: nn.Module, why: str) -> BadRecipe:
    what = f"{flat.name} cannot be inflated to volumes: its module {path} ({type(module).__name__}) {why}"
    return BadRecipe(what, do=_ADVICE)
