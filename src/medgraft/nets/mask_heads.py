"""Which decoder or whole net draws the label maps: ours, those of other libraries, MONAI's nets, behind one face."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from medgraft.errors import BadRecipe
from medgraft.nets import smp_heads
from medgraft.nets.decoder import ARMS, DecoderForm, MaskHead, grown

WHOLE = ("dynunet", "segresnet")  # nets of their own, which look at the pixels alone
_FEWEST = 4  # places of the coarsest map along an axis of a patch
_MOST_HALVINGS = 5


def mask_head(
    channels: Sequence[int],
    strides: Sequence[Any],
    *,
    pixels: int,
    axes: int,
    outputs: int,
    form: DecoderForm,
    patch: Sequence[int],
) -> Any:
    """Get a head of an arm; arguments as of `MaskHead`.

    Args:
        channels: C of each level of the encoder.
        strides: input pixels for one pixel of each level.
        pixels: channels of the image.
        axes: 2 for pictures, 3 for volumes.
        outputs: numbers a pixel gets.
        form: how it is built.
        patch: ([D,] H, W) of what is learnt from.

    Raises:
        BadRecipe: there is no such arm, its package is not installed, or it does not fit the encoder.
    """
    if form.arm in ARMS:
        return MaskHead(channels, strides, pixels=pixels, axes=axes, outputs=outputs, form=form)
    if form.arm in WHOLE:
        return WholeHead(pixels, axes=axes, outputs=outputs, form=form, patch=patch)
    if form.arm in smp_heads.ARMS:
        if axes != 2:
            raise BadRecipe(f"{form.arm} draws on flat images", do="Take masks.decoder=unet.")
        return smp_heads.SmpHead(channels, strides, pixels=pixels, outputs=outputs, form=form)
    known = ", ".join((*ARMS, *smp_heads.ARMS, *WHOLE))
    raise BadRecipe(f"there is no decoder {form.arm!r}", do=f"Known: {known}.")


class WholeHead(nn.Module):
    """A net of MONAI's that takes pixels to logits; the encoder under it does not run.

    Args:
        pixels: channels of the image.
        axes: 2 or 3.
        outputs: numbers a pixel gets.
        form: its arm is "dynunet" (that of nnU-Net) or "segresnet".
        patch: ([D,] H, W) of what is learnt from.

    Attributes:
        reads: 0, no level of an encoder is looked at.
        steps: pixels along each axis of a place of the coarsest map.

    Raises:
        BadRecipe: MONAI is not installed.

    Source: Isensee et al., nnU-Net, Nat Methods 2021; Myronenko, BrainLes 2018.
    """

    reads = 0

    def __init__(self, pixels: int, *, axes: int, outputs: int, form: DecoderForm, patch: Sequence[int]) -> None:
        super().__init__()
        self.form = form
        halved = [_halvings(int(side)) for side in patch]
        count = max(halved)
        # Axes that are short stop being halved before the others.
        strides = [[2 if step < own else 1 for own in halved] for step in range(count)]
        self.steps = tuple(2**own for own in halved)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if form.arm == "dynunet":
                self.net = _dynunet(pixels, axes, outputs, form, strides)
            else:
                self.net = _segresnet(pixels, axes, outputs, form, count)
                self.steps = (2**count,) * axes

    def forward(self, levels: Sequence[Tensor], pixels: Tensor) -> list[Tensor]:
        """Get logits `(N, outputs, [D,] H, W)`, float32; while it learns those of coarser maps follow."""
        del levels
        found = self.net(pixels)
        if self.training and found.ndim == pixels.ndim + 1:  # one more axis: the maps of deep supervision, stretched
            return [grown(one, pixels.shape[2:]).float() for one in found.unbind(dim=1)][: self.form.deep + 1]
        return [found.float()]


def _halvings(side: int) -> int:
    return max(1, min(_MOST_HALVINGS, int(math.log2(max(1, side / _FEWEST)))))


def _dynunet(pixels: int, axes: int, outputs: int, form: DecoderForm, strides: list[list[int]]) -> nn.Module:
    nets = _monai()
    steps = [[1] * axes, *strides]
    widths = [min(320, 2 * form.width * 2**step) for step in range(len(steps))]
    return nets.DynUNet(
        spatial_dims=axes,
        in_channels=pixels,
        out_channels=outputs,
        kernel_size=[[3] * axes] * len(steps),
        strides=steps,
        upsample_kernel_size=strides,
        filters=widths,
        deep_supervision=0 < form.deep < len(steps) - 1,
        deep_supr_num=form.deep or 1,
    )


def _segresnet(pixels: int, axes: int, outputs: int, form: DecoderForm, halvings: int) -> nn.Module:
    nets = _monai()
    return nets.SegResNet(
        spatial_dims=axes,
        in_channels=pixels,
        out_channels=outputs,
        init_filters=form.width,
        blocks_down=(1, *[2] * (halvings - 1), 4),
        blocks_up=(1,) * halvings,
    )


def _monai() -> Any:
    try:
        from monai.networks import nets
    except ImportError:
        raise BadRecipe(
            "dynunet and segresnet are nets of MONAI, which is not installed",
            do="pip install 'medgraft[volume]', or take masks.decoder=unet.",
        ) from None
    return nets
