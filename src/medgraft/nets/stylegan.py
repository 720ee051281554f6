"""A generator that draws an image from a style at each resolution, and a discriminator that judges it.

Written from the papers: Karras et al., CVPR 2019, p. 4396 (style, mixing, truncation); CVPR 2020, p. 8107 (modulated
and demodulated convolutions, skips, path length); NeurIPS 2020;33:12104 (few images; class in both nets).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgraft.nets.gaussian import Gaussian

_SLOPE, _GAIN = 0.2, math.sqrt(2)  # of the leaky ReLU, and what keeps its variance
_FIRST = 4  # pixels of the coarsest map
_SLOW = 0.01  # factor on the rate of the mapping
_GROUP = 4  # images whose spread a discriminator sees
_STYLES = 4096  # styles whose spread is measured


@dataclass(frozen=True)
class StyleForm:
    """How both nets are built.

    Attributes:
        side: pixels of the square image, a power of two from 8 on.
        channels: of the image.
        width: channels at the finest resolution; each coarser one has twice as many, up to `widest`.
        widest: channels at most.
        latent: numbers of a latent, and of a style.
        layers: of the mapping from latent to style.
        classes: 0 where images have no class.
        directions: of a Gaussian of images that both nets begin from; 0 for none.
    """

    side: int = 64
    channels: int = 1
    width: int = 32
    widest: int = 256
    latent: int = 128
    layers: int = 4
    classes: int = 0
    directions: int = 0

    @property
    def sides(self) -> list[int]:
        """Get the resolutions, the coarsest first."""
        return [_FIRST << k for k in range(int(math.log2(self.side // _FIRST)) + 1)]

    def wide(self, side: int) -> int:
        """Get the channels at a resolution."""
        return min(self.widest, self.width * self.side // side)

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StyleForm:
        """Read what `to_dict` wrote."""
        return cls(**values)


class Linear(nn.Module):
    """A linear layer whose weights have variance one and are scaled as they run, so that all learn equally fast."""

    def __init__(self, inputs: int, outputs: int, *, bias: float = 0.0, slow: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / slow)
        self.bias = nn.Parameter(torch.full((outputs,), bias / slow))
        self.scale, self.slow = slow / math.sqrt(inputs), slow

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.slow)


class Conv(nn.Module):
    """A convolution with scaled weights; with `down` it halves a map after a blur."""

    def __init__(self, inputs: int, outputs: int, size: int, *, bias: bool = True, down: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale, self.down = 1 / math.sqrt(inputs * size**2), down

    def forward(self, x: Tensor) -> Tensor:
        if self.down:
            x = _halved(x)
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.weight.shape[-1] // 2)


class Styled(nn.Module):
    """A convolution whose inputs a style weighs, with its outputs brought back to variance one."""

    def __init__(self, inputs: int, outputs: int, size: int, latent: int, *, demodulate: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.style = Linear(latent, inputs, bias=1.0)
        self.scale, self.demodulate = 1 / math.sqrt(inputs * size**2), demodulate

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        weight, own = self.weight * self.scale, self.style(style)
        # Weighing inputs and outputs gives what a kernel of each image's own would, at the cost of one kernel.
        x = F.conv2d(x * own[:, :, None, None], weight, padding=weight.shape[-1] // 2)
        if not self.demodulate:
            return x
        size = (own.square() @ weight.square().sum(dim=(2, 3)).T + 1e-8).rsqrt()
        return x * size[:, :, None, None]


class _Layer(nn.Module):
    """A styled convolution, noise of its own strength, a bias and a leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, latent: int) -> None:
        super().__init__()
        self.conv = Styled(inputs, outputs, 3, latent)
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        x = self.conv(x, style) + self.bias[:, None, None]
        if noise is not None:
            x = x + self.strength * noise
        return F.leaky_relu(x, _SLOPE) * _GAIN


class Underlay(nn.Module):
    """Images of a measured Gaussian, drawn from styles: what a generator that has learnt nothing yet draws.

    A style says how far an image goes along each of the main directions, and what frequencies have beside them comes of
    noise. Both may change while the generator learns; the directions do not.
    """

    def __init__(self, form: StyleForm) -> None:
        super().__init__()
        self.gaussian = Gaussian((form.channels, form.side, form.side), form.directions)
        self.along = Linear(form.latent, form.directions)
        self.grain = nn.Parameter(torch.zeros(()))

    def forward(self, styles: Tensor, noise: Tensor | None) -> Tensor:
        """Get images `(N, C, side, side)` of styles `(N, latent)` and noise `(N, 1, side, side)`."""
        own = self.gaussian
        with torch.autocast(styles.device.type, enabled=False):  # bfloat16 is coarser than a gray level
            lengths = self.along(styles.float()) * own.variances.sqrt()
            images = own.mean + (lengths @ own.ways.T).view(-1, *own.mean.shape)
            return images if noise is None else images + self.grain * own.grained(noise)

    @torch.no_grad()
    def learn(self, batches: Iterable[Tensor], *, styled: Callable[[Tensor], Tensor], seed: int) -> int:
        """Measure images, and let styles say each direction alike; get how many images were looked at.

        Args:
            batches: `(N, C, side, side)` each.
            styled: latents `(N, latent)` to styles.
            seed: of the latents.
        """
        count = self.gaussian.measured(batches)
        if not self.gaussian.known:
            return count
        weight = self.along.weight
        dice = torch.Generator().manual_seed(seed)
        styles = styled(torch.randn(_STYLES, weight.shape[1], generator=dice).to(weight)).double()
        spread, ways = torch.linalg.eigh(torch.cov(styles.T))
        size, most = spread.flip(0)[: len(weight)].clamp_min(1e-12).sqrt(), ways.flip(1)[:, : len(weight)]
        self.along.weight.copy_((most / size).T / self.along.scale)
        self.along.bias.copy_(-(styles.mean(dim=0) @ most) / size)
        self.grain.fill_(1.0)
        return count


class Generator(nn.Module):
    """Latents and classes to images in -1..1, about.

    Attributes:
        under: what it adds to, or None; once `Underlay.learn` has measured images, they are drawn from the start.
        usual: `(classes or 1, latent)` the running mean of the styles, which truncation leads to.
    """

    usual: Tensor

    def __init__(self, form: StyleForm) -> None:
        super().__init__()
        self.form = form
        self.kind = nn.Embedding(form.classes, form.latent) if form.classes else None
        sizes = [form.latent * (2 if form.classes else 1), *(form.latent for _ in range(form.layers))]
        self.mapping = nn.ModuleList(Linear(a, b, slow=_SLOW) for a, b in zip(sizes, sizes[1:], strict=False))
        self.start = nn.Parameter(torch.randn(1, form.wide(_FIRST), _FIRST, _FIRST))
        self.layers, self.shown = nn.ModuleList(), nn.ModuleList()
        width = form.wide(_FIRST)
        for side in form.sides:
            wide = form.wide(side)
            self.layers.append(_Layer(width, wide, form.latent))
            if side > _FIRST:
                self.layers.append(_Layer(wide, wide, form.latent))
            self.shown.append(Styled(wide, form.channels, 1, form.latent, demodulate=False))
            width = wide
        self.under = Underlay(form) if form.directions else None
        if self.under is not None:
            for shown in self.shown:
                nn.init.zeros_(shown.weight)  # type: ignore[arg-type]
        self.register_buffer("usual", torch.zeros(max(1, form.classes), form.latent))

    @property
    def styles(self) -> int:
        """Get how many layers take a style."""
        return len(self.layers)

    def styled(self, z: Tensor, kinds: Tensor | None = None) -> Tensor:
        """Get styles `(N, latent)` of latents `(N, latent)` and classes `(N,)`."""
        x = _normal(z)
        if self.kind is not None:
            assert kinds is not None
            x = torch.cat([x, _normal(self.kind(kinds))], dim=1)
        for layer in self.mapping:
            x = F.leaky_relu(layer(x), _SLOPE) * _GAIN
        return x

    def drawn(self, styles: Tensor, noises: Sequence[Tensor] | None) -> Tensor:
        """Get images `(N, C, side, side)`.

        Args:
            styles: `(N, latent)` for all layers, or `(N, layers, latent)`.
            noises: of the shapes that `noise_shapes` gives, or None for none.
        """
        each = styles[:, None].expand(-1, self.styles, -1) if styles.ndim == 2 else styles
        x = self.start.expand(len(each), -1, -1, -1)
        own = [None] * self.styles if noises is None or self.under is not None else noises
        image, place = None, 0
        for number, shown in enumerate(self.shown):
            for again in range(1 if number == 0 else 2):
                x = F.interpolate(x, scale_factor=2.0, mode="bilinear") if number and not again else x
                x = self.layers[place](x, each[:, place], own[place])
                place += 1
            look = shown(x, each[:, place - 1])
            image = look if image is None else F.interpolate(image, scale_factor=2.0, mode="bilinear") + look
        assert image is not None
        if self.under is None:
            return image
        return image + self.under(each[:, 0], None if noises is None else noises[-1])

    def noise_shapes(self, count: int) -> list[tuple[int, int, int, int]]:
        """Get the shapes of the noise of each layer; of one alone, as fine as the image, where frequencies are known.

        A generator over a Gaussian has its grain from there. Given noise of its own beside it, it made specks.
        """
        if self.under is not None:
            return [(count, 1, self.form.side, self.form.side)]
        first, *rest = self.form.sides
        return [(count, 1, side, side) for side in (first, *(one for side in rest for one in (side, side)))]

    def truncated(self, styles: Tensor, psi: float, *, kinds: Tensor | None = None) -> Tensor:
        """Get styles nearer to the usual one: fewer kinds of image, each more likely."""
        centre = self.usual[kinds] if kinds is not None else self.usual[:1]
        return centre + psi * (styles - centre)


class Discriminator(nn.Module):
    """Images `(N, C, side, side)` to logits `(N,)`: large for real ones."""

    def __init__(self, form: StyleForm) -> None:
        super().__init__()
        self.form = form
        sides = form.sides[::-1]
        self.first = Conv(form.channels, form.wide(sides[0]), 1)
        self.blocks = nn.ModuleList(_Down(form.wide(side), form.wide(side // 2)) for side in sides[:-1])
        last = form.wide(_FIRST)
        self.mixed = Conv(last + 1, last, 3)
        self.flat = Linear(last * _FIRST**2, last)
        self.out = Linear(last, form.latent if form.classes else 1)
        self.kind = nn.Embedding(form.classes, form.latent) if form.classes else None

    def forward(self, images: Tensor, kinds: Tensor | None = None) -> Tensor:
        x = F.leaky_relu(self.first(images), _SLOPE) * _GAIN
        for block in self.blocks:
            x = block(x)
        x = F.leaky_relu(self.mixed(torch.cat([x, _spread(x)], dim=1)), _SLOPE) * _GAIN
        x = self.out(F.leaky_relu(self.flat(x.flatten(1)), _SLOPE) * _GAIN)
        if self.kind is None:
            return x[:, 0]
        assert kinds is not None
        return (x * _normal(self.kind(kinds))).sum(dim=1) / math.sqrt(self.form.latent)


class _Down(nn.Module):
    """Two convolutions and a halving beside a way around."""

    def __init__(self, width: int, wider: int) -> None:
        super().__init__()
        self.one, self.two = Conv(width, width, 3), Conv(width, wider, 3, down=True)
        self.around = Conv(width, wider, 1, bias=False, down=True)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.leaky_relu(self.one(x), _SLOPE) * _GAIN
        inner = F.leaky_relu(self.two(inner), _SLOPE) * _GAIN
        return (self.around(x) + inner) / math.sqrt(2)


def _halved(x: Tensor) -> Tensor:
    """Half as fine after a blur of [1, 3, 3, 1] along both axes, so that nothing folds over."""
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device) / 8
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, stride=2, groups=x.shape[1])


def _spread(x: Tensor) -> Tensor:
    """How much images of a group differ from each other, as one more channel: `(N, 1, H, W)`."""
    size = math.gcd(len(x), _GROUP)
    grouped = x.reshape(size, len(x) // size, *x.shape[1:])
    spread = (grouped.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    return spread.repeat(size)[:, None, None, None].expand(-1, 1, *x.shape[2:])


def _normal(x: Tensor) -> Tensor:
    """Rows of a mean square of one."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
