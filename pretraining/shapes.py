"""Masks by family: coordinates and parameters -> `(N, S, S)` from 0 to 1.

Every function takes `p`, the parameters of one mask a row (see `programs`),
`at`, posed coordinates `(N, S, S, 2)`, and `draw`, random numbers of the
instance.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pretraining.fields import spectral
from pretraining.programs import FAMILIES

Parameters = dict[str, Tensor]
_LEAVES = 36
_POINTS, _STEPS, _SKIPPED = 2048, 18, 6


def _up(value: Tensor) -> Tensor:
    return value[:, None, None]


def _pitch(p: Parameters, at: Tensor) -> Tensor:
    """Get the centre of the band in cycles a pixel; it is given in those of a picture of 96 pixels."""
    return p["pitch"] * (96 / at.shape[1])


def _uniform(draw: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=draw, device=draw.device)


def contour(p: Parameters, at: Tensor, draw: torch.Generator) -> Tensor:
    """One outline: r(theta) = r0 (1 + amp/2 (sin(n1 theta + p1) + sin(n2 theta + p2))), on an oval."""
    count = len(at)
    x, y = at[..., 0] * _up(p["oval"]).sqrt(), at[..., 1] / _up(p["oval"]).sqrt()
    theta, radius = torch.atan2(y, x), torch.hypot(x, y)
    phase = _uniform(draw, count, 2) * 2 * torch.pi
    wave = torch.sin(_up(p["waves"][:, 0]) * theta + _up(phase[:, 0]))
    wave = wave + torch.sin(_up(p["waves"][:, 1]) * theta + _up(phase[:, 1]))
    outside = radius - _up(p["size"]) * (1 + 0.5 * _up(p["amplitude"]) * wave)
    mask = torch.sigmoid(-outside / (0.3 * _up(p["edge"] * p["size"]) + 0.005))
    rings = 0.5 + 0.5 * torch.cos(2 * torch.pi * _up(p["rings"]) * outside / _up(p["size"]))
    return mask * torch.where(_up(p["rings"]) > 0, rings, 1.0)


def near(
    p: Parameters, at: Tensor, draw: torch.Generator, score: Callable[..., Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Get the smallest and second smallest `score(offset, cell)` over seeds in the nine cells around each pixel.

    Returns:
        both, `(N, S, S)`, and the number of the seed that has the smallest.
    """
    count, side = len(at), 32
    table = _uniform(draw, count, side * side, 6)
    scaled = at * _up(p["count"])[..., None] + side / 2
    base = scaled.floor()
    first = torch.full(at.shape[:3], 9.0, device=at.device)
    second = first.clone()
    which = torch.zeros(at.shape[:3], dtype=torch.long, device=at.device)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            cell = base + torch.tensor([dx, dy], dtype=base.dtype, device=at.device)
            index = (cell[..., 1] % side * side + cell[..., 0] % side).long().flatten(1)
            own = torch.gather(table, 1, index[..., None].expand(-1, -1, 6)).view(*at.shape[:3], 6)
            seed = cell + 0.5 + 0.8 * (own[..., :2] - 0.5)
            value = score(scaled - seed, own)
            second = torch.minimum(torch.maximum(value, first), second)
            which = torch.where(value < first, index.view(which.shape), which)
            first = torch.minimum(value, first)
    return first, second, which


def scatter(p: Parameters, at: Tensor, draw: torch.Generator) -> Tensor:
    """Many outlines in a jittered grid, each of its own size and direction; some places stay empty."""
    return apart(p, at, draw)[0]


def apart(p: Parameters, at: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Get what `scatter` draws, which outline each pixel belongs to, and how near the next outline is.

    Returns:
        mask from 0 to 1; number of the nearest outline; 0 where the next one is far, 1 where it is as near.
    """
    phase = _uniform(draw, len(at)) * 2 * torch.pi

    def outside(offset: Tensor, own: Tensor) -> Tensor:
        turn = own[..., 2] * torch.pi
        c, s = torch.cos(turn), torch.sin(turn)
        oval = _up(p["oval"]).sqrt()
        x = (c * offset[..., 0] + s * offset[..., 1]) * oval
        y = (c * offset[..., 1] - s * offset[..., 0]) / oval
        radius = (0.15 + 0.4 * _up(p["size"])) * (0.6 + 0.6 * own[..., 3])
        theta = torch.atan2(y, x)
        wave = torch.sin(_up(p["waves"][:, 0]) * theta + own[..., 5] * 6.28 + _up(phase))
        gone = (own[..., 4] > _up(p["fill"])) * 9.0
        return torch.hypot(x, y) - radius * (1 + 0.6 * _up(p["amplitude"]) * wave) + gone

    first, second, which = near(p, at, draw, outside)
    return torch.sigmoid(-first / (0.3 * _up(p["edge"]) + 0.01)), which, torch.exp(-((second - first) / 0.12).square())


def cells(p: Parameters, at: Tensor, draw: torch.Generator) -> Tensor:
    """Walls between cells: where the nearest and the second nearest seed are equally far."""
    first, second, _ = near(p, at, draw, lambda offset, own: torch.hypot(offset[..., 0], offset[..., 1]))
    wall = torch.exp(-((second - first) / (0.5 * _up(p["width"]))).square())
    body = torch.sigmoid((_up(p["size"]) * 0.6 - first) / (0.3 * _up(p["edge"]) + 0.01))
    return torch.where(_up(p["fill"]) > 0.5, wall, body)


def leaves(p: Parameters, at: Tensor, draw: torch.Generator) -> Tensor:
    """Shapes dropped on one another, each of one value; discs, squares and outlines."""
    count = len(at)
    low, high = 0.06, 1.0
    spread = _uniform(draw, count, _LEAVES, 8)
    radius = (low**-2 + spread[..., 0] * (high**-2 - low**-2)) ** -0.5 * (0.5 + p["size"][:, None])
    centre = (spread[..., 1:3] * 2 - 1) * 1.3
    value = torch.full(at.shape[:3], 0.5, device=at.device)
    square = p["fill"] > 0.6
    for k in range(_LEAVES):
        turn = spread[:, k, 3] * 6.28
        c, s = _up(torch.cos(turn)), _up(torch.sin(turn))
        dx, dy = at[..., 0] - _up(centre[:, k, 0]), at[..., 1] - _up(centre[:, k, 1])
        x, y = (c * dx + s * dy) * _up(p["oval"]).sqrt(), (c * dy - s * dx) / _up(p["oval"]).sqrt()
        far = torch.where(_up(square), torch.maximum(x.abs(), y.abs()), torch.hypot(x, y))
        value = torch.where(far < _up(radius[:, k]), _up(spread[:, k, 4]), value)
    return value


def fractal(p: Parameters, at: Tensor, draw: torch.Generator) -> Tensor:
    """Log density of points of an iterated function system, in the frame of the picture."""
    count, size = len(at), at.shape[1]
    a, b = p["map_turn"][..., 0], p["map_turn"][..., 1]
    matrix = _rotation(a) @ torch.diag_embed(p["map_size"]) @ _rotation(b) @ torch.diag_embed(p["map_flip"])
    area = (p["map_size"][..., 0] * p["map_size"][..., 1]).clamp_min(0.02)
    share = (area / area.sum(1, keepdim=True)).cumsum(1)
    points = _uniform(draw, count, _POINTS, 2) * 2 - 1
    kept = []
    for step in range(_STEPS):
        chosen = torch.searchsorted(share, _uniform(draw, count, _POINTS)).clamp_max(share.shape[1] - 1)
        rows = torch.arange(count, device=at.device)[:, None]
        points = torch.einsum("npij,npj->npi", matrix[rows, chosen], points) + p["map_shift"][rows, chosen]
        if step >= _SKIPPED:
            kept.append(points)
    cloud = torch.cat(kept, 1)
    middle, wide = cloud.mean(1, keepdim=True), cloud.std(1, keepdim=True).amax(2, keepdim=True).clamp_min(1e-3)
    cloud = (cloud - middle) / wide * (0.25 + 0.25 * p["size"][:, None, None])
    turn = _uniform(draw, count) * 6.28
    cloud = torch.einsum("nij,npj->npi", _rotation(turn), cloud)
    cell = ((cloud * 0.5 + 0.5) * size).floor().long()
    inside = ((cell >= 0) & (cell < size)).all(-1)
    index = cell[..., 1].clamp(0, size - 1) * size + cell[..., 0].clamp(0, size - 1)
    heat = torch.zeros(count, size * size, device=at.device)
    heat.scatter_add_(1, index, inside.float())
    heat = torch.log1p(heat).view(count, size, size)
    heat = torch.nn.functional.avg_pool2d(heat[:, None], 3, 1, 1)[:, 0]
    return heat / heat.flatten(1).amax(1).clamp_min(1e-6)[:, None, None]


def _rotation(turn: Tensor) -> Tensor:
    c, s = torch.cos(turn), torch.sin(turn)
    return torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)


def blobs(p: Parameters, at: Tensor, draw: torch.Generator) -> Tensor:
    """Noise of one scale above a threshold."""
    noise = spectral(draw, slope=p["slope"], size=at.shape[1], band=_pitch(p, at) * (p["fill"] > 0.5))
    return torch.sigmoid((noise - _up(p["level"])) / _up(p["edge"]))


def ridges(p: Parameters, at: Tensor, draw: torch.Generator) -> Tensor:
    """Thin lines along a level of noise: exp(-(f/w)^2)."""
    noise = spectral(draw, slope=p["slope"] + 1, size=at.shape[1], band=0.6 * _pitch(p, at) * (p["fill"] > 0.6))
    return torch.exp(-((noise - 0.3 * _up(p["level"])) / (0.5 * _up(p["width"]))).square())


def tree(p: Parameters, at: Tensor, draw: torch.Generator) -> Tensor:
    """Lines that run from a centre and thin out: ridges of noise in polar coordinates."""
    size = at.shape[1]
    noise = spectral(draw, slope=p["slope"] + 1, size=size, band=_pitch(p, at) * (p["fill"] > 0.5))
    theta, radius = torch.atan2(at[..., 1], at[..., 0]), torch.hypot(at[..., 0], at[..., 1])
    across = torch.stack([theta / torch.pi * 0.999, (radius * 0.5 - 0.5).clamp(-1, 1) * _up(0.2 + 0.3 * p["size"])], -1)
    spread = torch.nn.functional.grid_sample(noise[:, None], across, align_corners=False, padding_mode="reflection")
    line = torch.exp(-(spread[:, 0] / (0.4 * _up(p["width"]) / (0.4 + radius))).square())
    disc = torch.sigmoid((0.2 * _up(p["size"]) - radius) / 0.02)
    return torch.maximum(line * torch.exp(-radius * _up(p["edge"]) * 6), disc)


def anatomy(p: Parameters, at: Tensor, draw: torch.Generator) -> Tensor:
    """Ellipses within an ellipse, left and right alike but for a little: values add up."""
    count, parts = len(at), p["part_value"].shape[1]
    jitter = torch.randn(count, parts, 5, generator=draw, device=at.device) * 0.06
    outline = torch.hypot(at[..., 0] * _up(p["oval"]).sqrt(), at[..., 1] / _up(p["oval"]).sqrt()) / _up(p["size"] + 0.2)
    soft = 0.2 * _up(p["edge"]) + 0.01
    body = torch.sigmoid((1 - outline) / soft)
    shell = torch.exp(-((outline - 1) / (0.15 * _up(p["width"]) + 0.02)).square()) * _up((p["fill"] > 0.6).float())
    value = 0.45 * body + 0.5 * shell
    mirrored = torch.stack([at[..., 0].abs(), at[..., 1]], -1) / _up(p["size"] + 0.2)[..., None]
    for k in range(parts):
        place = p["part_place"][:, k] + jitter[:, k, :2]
        size = p["part_size"][:, k] * (1 + jitter[:, k, 2:4])
        moved = mirrored - torch.stack([place[:, 0].abs(), place[:, 1]], -1)[:, None, None]
        c, s = _up(torch.cos(p["part_turn"][:, k])), _up(torch.sin(p["part_turn"][:, k]))
        x, y = c * moved[..., 0] + s * moved[..., 1], c * moved[..., 1] - s * moved[..., 0]
        far = torch.hypot(x / _up(size[:, 0]), y / _up(size[:, 1]))
        value = (
            value + 0.5 * _up(p["part_value"][:, k] + jitter[:, k, 4]) * torch.sigmoid((1 - far) / (2 * soft)) * body
        )
    return value.clamp(0, 1)


def stripes(p: Parameters, at: Tensor, draw: torch.Generator) -> Tensor:
    """Parallel bands, bent, alike on both sides."""
    phase = _uniform(draw, len(at))
    x, y = at[..., 0].abs(), at[..., 1]
    place = (y + _up(p["bend"]) * x.square()) * _up(p["count"]) + _up(phase)
    wave = torch.cos(2 * torch.pi * place)
    return torch.sigmoid((wave - _up(p["level"]) * 0.7) / (_up(p["edge"]) * 2))


DRAWN: tuple[Callable[[Parameters, Tensor, torch.Generator], Tensor], ...] = (
    contour,
    scatter,
    cells,
    leaves,
    fractal,
    blobs,
    ridges,
    tree,
    anatomy,
    stripes,
)
assert tuple(function.__name__ for function in DRAWN) == FAMILIES


def draw_masks(families: Tensor, p: Parameters, at: Tensor, draw: torch.Generator) -> Tensor:
    """Draw one mask a row by its family, those of a family together.

    Args:
        families: `(N,)` places in FAMILIES.
        p: name -> `(N, ...)`.
        at: `(N, S, S, 2)`.
        draw: random numbers.

    Returns:
        `(N, S, S)` from 0 to 1.
    """
    masks = torch.empty(at.shape[:3], device=at.device)
    for number, function in enumerate(DRAWN):
        rows = torch.nonzero(families == number)[:, 0]
        if len(rows):
            masks[rows] = function({name: value[rows] for name, value in p.items()}, at[rows], draw)
    return masks
