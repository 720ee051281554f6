"""A small net that outlines what a prompt shows, window by window of a pyramid of pictures.

    picture --encoder--> levels --roi_align--> what lies in a window --U-Net, prompt drawn in--> logits, quality

A picture is seen once at each size of a pyramid. A prompt is answered in a window that is always `SIDE` pixels wide,
about, at the size where it is asked, so that a nucleus and a lung are drawn by the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from medgraft.nets.backbone import Backbone

SIDE = 128  # pixels of a window, about
GRID = 64  # places a side at which it is answered
PLANES = ("picture", "box", "inside", "outside", "before", "anchor")
_WIDTHS = (24, 40, 64, 96, 128)
_FINE = 12  # channels that the finest level is brought to
_SPOT = 1.5  # standard deviation of the spot that a point is drawn as, in places
_SIGNS, _OWN = 4, 8  # in how many ways a place may be like what is shown, and of how many numbers each


class PromptNet(nn.Module):
    """An encoder, and a U-Net that draws.

    Args:
        encoder: levels at strides 2, 4, 8, 16 and 32.
    """

    def __init__(self, encoder: Backbone) -> None:
        super().__init__()
        self.encoder = encoder
        self.strides = (1, *encoder.strides)
        fine, *coarse = encoder.channels
        self.finest = nn.Conv2d(fine, _FINE, 1, bias=False)
        self.first = _block(3 + _FINE + len(PLANES), _WIDTHS[0])
        self.lateral = nn.ModuleList(
            nn.Conv2d(c, width, 1, bias=False) for c, width in zip(coarse, _WIDTHS[1:], strict=True)
        )
        self.alike = nn.ModuleList(nn.Conv2d(c, _SIGNS * _OWN, 1) for c in coarse[:3])
        self.down = nn.ModuleList(
            _block(low, high, stride=2) for low, high in zip(_WIDTHS[:-1], _WIDTHS[1:], strict=True)
        )
        signs = (_SIGNS, _SIGNS, _SIGNS, 0)
        self.mix = nn.ModuleList(
            nn.Sequential(_block(w + s, w), _block(w, w)) for w, s in zip(_WIDTHS[1:], signs, strict=True)
        )
        self.narrow = nn.ModuleList(nn.Conv2d(high, low, 1) for low, high in zip(_WIDTHS, _WIDTHS[1:], strict=False))
        self.up = nn.ModuleList(_block(w, w) for w in _WIDTHS[:-1])
        self.draw = nn.Conv2d(_WIDTHS[0], 1, 3, padding=1)
        self.judge = nn.Sequential(
            nn.Linear(_WIDTHS[-1] + 2 * _WIDTHS[0] + 2, 64), nn.ReLU(inplace=True), nn.Linear(64, 1)
        )

    def see(self, pixels: Tensor) -> list[Tensor]:
        """Get what is kept of pictures `(N, 3, H, W)`, normalised: themselves, and the levels of the encoder."""
        return [pixels, *self.encoder(pixels)]

    def read(self, levels: Sequence[Tensor], windows: Tensor) -> list[Tensor]:
        """Get what lies in windows `(P, 5)`: number of the picture, x0, y0, x1, y1 in its pixels.

        Returns:
            `(P, C, GRID, GRID)` of the picture and of the finest level, half as wide of each that follows.
        """
        from torchvision.ops import roi_align

        found = []
        for place, (level, stride) in enumerate(zip(levels, self.strides, strict=True)):
            side = GRID >> max(0, place - 1)
            # A window is 2 pixels wide a place: both count.
            found.append(roi_align(level, windows, side, 1 / stride, 2 if place == 0 else 1, aligned=True))
        return found

    def forward(self, read: Sequence[Tensor], planes: Tensor) -> tuple[Tensor, Tensor]:
        """Answer prompts that are drawn as planes.

        Args:
            read: what lies in the windows, as `read` gives it.
            planes: `(P, 6, GRID, GRID)` in the order of PLANES, "before" from -1 to 1.

        Returns:
            logits `(P, GRID, GRID)`, above 0 inside, and the overlap (IoU) that is foreseen, as logits `(P, )`.
        """
        picture, fine, *coarse = read
        x = self.first(torch.cat([picture, self.finest(fine), planes], 1))
        kept = [x]
        for place, level in enumerate(coarse):
            x = self.down[place](x) + self.lateral[place](level)
            if place < len(self.alike):
                x = torch.cat([x, self._likeness(self.alike[place](level), planes[:, -1:])], 1)
            x = self.mix[place](x)
            kept.append(x)
        deepest = x.mean((2, 3))
        for place in reversed(range(len(self.up))):
            x = functional.interpolate(self.narrow[place](x), scale_factor=2.0, mode="bilinear", align_corners=False)
            x = self.up[place](x + kept[place])
        logits = self.draw(x)
        return logits[:, 0], self._judged(x, logits, deepest)

    @staticmethod
    def _likeness(own: Tensor, anchor: Tensor) -> Tensor:
        """How like each place is to what is shown: `(P, _SIGNS, h, w)` cosines."""
        weight = functional.adaptive_avg_pool2d(anchor, (own.shape[2], own.shape[3])) + 1e-6
        own = own.unflatten(1, (_SIGNS, _OWN))
        shown = (own * weight[:, None]).sum((3, 4), keepdim=True) / weight[:, None].sum((3, 4), keepdim=True)
        return functional.cosine_similarity(own, shown, dim=2, eps=1e-4)

    def _judged(self, x: Tensor, logits: Tensor, deepest: Tensor) -> Tensor:
        """Foresee the overlap of what, it is thought, is drawn; the drawing does not learn from it."""
        share = logits.detach().sigmoid()
        inside = (x * share).sum((2, 3)) / (share.sum((2, 3)) + 1e-3)
        unsure = (4 * share * (1 - share)).mean((2, 3)) / (share.mean((2, 3)) + 1e-2)
        told = [deepest, inside, x.mean((2, 3)), unsure, share.mean((2, 3))]
        return self.judge(torch.cat(told, 1))[:, 0]


def _block(before: int, after: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


def planes_of(windows: Tensor, *, picture: Tensor, points: Tensor, boxes: Tensor, before: Tensor) -> Tensor:
    """Draw prompts, one a window, as what the net is shown.

    Args:
        windows: `(P, 4)` x0, y0, x1, y1.
        picture: `(P, 4)` the edges of the picture, in the frame of the windows.
        points: `(P, N, 3)` x, y from the edge, and 1 inside, 0 outside, -1 no point.
        boxes: `(P, 4)`, NaN where there is none.
        before: `(P, GRID, GRID)` a first guess in the window from -1 to 1; 0 where there is none.

    Returns:
        `(P, 6, GRID, GRID)` float32, in the order of PLANES.
    """
    low, step = windows[:, :2], (windows[:, 2:] - windows[:, :2]) / GRID

    def placed(corners: Tensor) -> Tensor:
        return ((corners.view(-1, 2, 2) - low[:, None]) / step[:, None]).flatten(1)

    box = _covered(placed(boxes)).nan_to_num(0)
    inside, outside = (_spots((points[..., :2] - low[:, None]) / step[:, None], points[..., 2] == k) for k in (1, 0))
    # What is shown: the points; where there are none the guess; else the middle of the box.
    middle = torch.arange(GRID, device=windows.device) + 0.5 - GRID / 2
    dome = torch.exp(-(middle.square()[None] + middle.square()[:, None]) / (2 * (GRID / 8) ** 2))
    shown = torch.where(_any(before > 0), before.clamp_min(0), box * dome)
    anchor = torch.where(_any(inside > 0), inside, shown)
    return torch.stack([_covered(placed(picture)), box, inside, outside, before, anchor], 1)


def _any(found: Tensor) -> Tensor:
    return found.flatten(1).any(1)[:, None, None]


def _covered(corners: Tensor) -> Tensor:
    """How much of each place boxes `(P, 4)` in places cover: `(P, GRID, GRID)`."""
    line = torch.arange(GRID, device=corners.device, dtype=corners.dtype)
    along, down = (
        (corners[:, None, high].minimum(line + 1) - corners[:, None, lower].maximum(line)).clamp(0, 1)
        for lower, high in ((0, 2), (1, 3))
    )
    return down[:, :, None] * along[:, None]


def _spots(places: Tensor, there: Tensor) -> Tensor:
    """A spot of some places' width at each point `(P, N, 2)` that is there: `(P, GRID, GRID)`."""
    middle = torch.arange(GRID, device=places.device, dtype=places.dtype) + 0.5
    across = torch.exp(-(middle - places[..., :1]).square() / (2 * _SPOT**2))
    down = torch.exp(-(middle - places[..., 1:]).square() / (2 * _SPOT**2))
    spots = down[..., :, None] * across[..., None, :] * there[..., None, None]
    return spots.amax(1) if places.shape[1] else places.new_zeros(len(places), GRID, GRID)
