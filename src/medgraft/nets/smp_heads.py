"""Decoders of segmentation-models-pytorch on any encoder of pictures whose levels halve the picture one by one."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from medgraft.errors import BadRecipe
from medgraft.nets.decoder import DecoderForm, conv, grown

ARMS = {
    "smp_unet": "unet.decoder:UnetDecoder",
    "smp_unetplusplus": "unetplusplus.decoder:UnetPlusPlusDecoder",
    "smp_manet": "manet.decoder:MAnetDecoder",
    "smp_linknet": "linknet.decoder:LinknetDecoder",
    "smp_fpn": "fpn.decoder:FPNDecoder",
}
_FEWEST = 3  # levels that these decoders are built for


class SmpHead(nn.Module):
    """Levels and pixels -> logits of every pixel; arguments, attributes and output as of `nets.decoder.MaskHead`.

    Args:
        channels: C of each level of the encoder.
        strides: input pixels for one pixel of each level.
        pixels: channels of the image.
        outputs: numbers a pixel gets.
        form: its arm is a word of `ARMS`; each step of the way up has twice as many channels as the next.

    Raises:
        BadRecipe: the package is not installed, or the encoder's levels do not halve the picture one by one.

    Source: Iakubovskii, Segmentation Models Pytorch, 2019 (MIT).
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], *, pixels: int, outputs: int, form: DecoderForm
    ) -> None:
        super().__init__()
        last = {stride: level for level, stride in enumerate(strides)}
        count = 0
        while 2 ** (count + 1) in last and (not form.rungs or count < form.rungs):
            count += 1
        if count < _FEWEST or set(last) - {2**step for step in range(1, 6)}:
            levels = ", ".join(map(str, strides))
            what = f"{form.arm} stands on levels of strides 2, 4, 8 and on, and this encoder has {levels}"
            raise BadRecipe(what, do="Take masks.decoder=unet.")
        self.form = form
        self.taken = tuple(last[2**step] for step in range(1, count + 1))
        self.reads, self.steps = max(self.taken) + 1, (2**count,) * 2
        own = [pixels, *(channels[level] for level in self.taken)]
        widths = [form.width * 2**step for step in range(count - 1, -1, -1)]
        self.decoder, width = _decoder(form, own, widths)
        self.last = conv(width, outputs, 2)

    def forward(self, levels: Sequence[Tensor], pixels: Tensor) -> list[Tensor]:
        """Get logits `(N, outputs, H, W)`, float32."""
        drawn = self.decoder([pixels, *(levels[level] for level in self.taken)])
        return [grown(self.last(drawn).float(), pixels.shape[2:])]


def _decoder(form: DecoderForm, own: list[int], widths: list[int]) -> tuple[Any, int]:
    """Build the decoder; also the channels that it gives."""
    module, _, name = ARMS[form.arm].partition(":")
    try:
        kind: Any = getattr(import_module(f"segmentation_models_pytorch.decoders.{module}"), name)
    except ImportError:
        do = "pip install 'medgraft[segment]', or take masks.decoder=unet."
        raise BadRecipe(f"{form.arm} needs segmentation-models-pytorch, which is not installed", do=do) from None
    count = len(own) - 1
    known = inspect.signature(kind.__init__).parameters
    given: dict[str, Any] = {"encoder_channels": own, "n_blocks": count, "encoder_depth": count}
    given |= {"decoder_channels": widths, "prefinal_channels": 2 * form.width}
    summed = 32 * max(1, form.width // 16)  # its norms have groups of 32 channels
    given |= {"pyramid_channels": 2 * summed, "segmentation_channels": summed}
    made = kind(**{key: value for key, value in given.items() if key in known})
    last = {"decoder_channels": widths[-1], "prefinal_channels": 2 * form.width, "pyramid_channels": summed}
    return made, next(width for key, width in last.items() if key in known)
