"""How far the places of an image are from those of normal images, in features of an encoder that learns nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgraft import seeds
from medgraft.errors import BadData, BadRecipe
from medgraft.nets.backbone import Backbone
from medgraft.nets.nearest import coreset, nearest_of

CANDIDATES = 40_000  # places that those which are kept are chosen from: a choice looks at all of them once a place
_FINEST = 32  # cells of a side, at most: 32 x 32 places of 300 images are 300,000 already
_INSIDE = 0.5  # share of a cell that belongs to the image
_WHOLE_LEVELS = 2  # of the encoder, from the last
_NEAR = 3  # of the whole images that are nearest, the mean distance counts
_OWN = 60  # normal images whose own scores, each against all others, are the unit of scores
_QUIET = 0.2  # of the mean deviation of the channels of a level
_STEADY = 0.3  # of the deviation of all places: no place counts as steadier
_PRIOR = 5.0  # normal images, as many as all places together count for beside those of a place
_WIDEST = 1024  # numbers of a place; wider nets are projected to so many, which keeps distances within some percent


class PatchBank(nn.Module):
    """Features of places of normal images, and the distance of others from the nearest of them.

    Levels are averaged over 3 x 3 cells, each channel is brought to mean 0 and deviation 1 over the normal places, and
    levels stand side by side on the grid of the finest. Cells beside the image, where it was padded to a square, take
    no part in any of this.

    Where normal images differ much from each other, such as at the edge of a lung, a distance says less than where all
    are alike. So distances are brought to one mean and deviation over the normal places here and beside here.

    Beside the places, images as a whole are compared: by the means of the last levels of the encoder, whichever ones
    places are compared by, as what is odd about a whole is seen in what the encoder sees last.

    Args:
        backbone: the encoder.
        levels: numbers of its stages whose places are compared, 0 the first, rising.
        whole_levels: numbers of its stages whose means are compared; the last two when empty.
        kept: how many places the bank holds; 0 before `learn`.
        images: how many whole images it holds; 0 before `learn`.
        grid: (h, w) of places; (1, 1) before `learn`.

    Attributes:
        bank: `(M, D)` kept places.
        gain: `(h, w)` what distances at each place are multiplied by.
        shift: `(h, w)` what is then added.
        wholes: `(N, F)` means of normal images.
        units: (mean, deviation) of the scores of normal images by places, and by the whole; each image was held
            against all others.

    Source: Roth et al., CVPR 2022, p. 14318 (PatchCore); means of images by Bergman et al., arXiv:2002.10445 (DN2);
        a measure of normal images for each place as in Defard et al., ICPR workshops 2021 (PaDiM).
    """

    bank: Tensor
    gain: Tensor
    shift: Tensor
    mean: Tensor
    std: Tensor
    wholes: Tensor
    whole_mean: Tensor
    whole_std: Tensor
    units: Tensor
    way: Tensor | None

    def __init__(
        self,
        backbone: Backbone,
        levels: Sequence[int],
        *,
        whole_levels: Sequence[int] | None = None,
        kept: int = 0,
        images: int = 0,
        grid: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        count = len(backbone.stages)
        self.whole_levels = tuple(whole_levels or range(max(0, count - _WHOLE_LEVELS), count))
        if any(not 0 <= level < count for level in levels):
            what = f"{backbone.name} has {count} stages, and stage {1 + max(levels, key=abs)} is asked for"
            raise BadRecipe(what, do=f"Give anomaly.levels from 1 to {count}.")
        self.backbone, self.levels = backbone, tuple(sorted(set(levels)))
        width = sum(backbone.channels[level] for level in self.levels)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("way", _way(width) if width > _WIDEST else None, persistent=False)
        self.register_buffer("bank", torch.zeros(kept, min(width, _WIDEST)))
        self.register_buffer("gain", torch.ones(grid))
        self.register_buffer("shift", torch.zeros(grid))
        whole = sum(self._whole_widths)
        self.register_buffer("wholes", torch.zeros(images, whole))
        self.register_buffer("whole_mean", torch.zeros(whole))
        self.register_buffer("whole_std", torch.ones(whole))
        self.register_buffer("units", torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
        self.requires_grad_(False)

    @property
    def _whole_widths(self) -> list[int]:
        return [self.backbone.channels[level] for level in self.whole_levels]

    @torch.no_grad()
    def places(self, pixels: Tensor, area: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Get the features of all places `(N, h, w, D)`, which are in the image, and the means of images `(N, F)`.

        None of them is brought to one scale yet.

        Args:
            pixels: `(N, C, H, W)` normalised.
            area: `(N, 1, H, W)` 1 where pixels belong to the image and 0 where it was padded.
        """
        found = self.backbone(pixels, 0, max(self.levels[-1], *self.whole_levels) + 1)
        chosen = [found[level].float() for level in self.levels]
        finest = chosen[0].shape[-2:]
        grid = (min(finest[0], _FINEST), min(finest[1], _FINEST))
        parts = [_on_grid(_around(one, F.adaptive_avg_pool2d(area, one.shape[-2:])), grid) for one in chosen]
        inside = F.adaptive_avg_pool2d(area, grid)[:, 0] >= _INSIDE
        means = [_mean(found[level].float(), area) for level in self.whole_levels]
        return torch.cat(parts, dim=1).movedim(1, -1), inside, torch.cat(means, dim=1)

    @torch.no_grad()
    def learn(
        self,
        batches: Iterable[tuple[Tensor, Tensor]],
        *,
        images: int,
        share: float,
        most: int,
        top: float,
        seed: int,
    ) -> int:
        """Fill the bank with places of normal images, and get how many there were to choose from.

        Of more than 40,000 places a part is drawn at random first, as many of each image.

        Args:
            batches: of (pixels, area), as of `places`.
            images: how many they hold.
            share: of the places that is kept.
            most: kept at most.
            top: share of an image's places whose mean is its score.
            seed: of the draws.

        Raises:
            BadData: there is no place.
        """
        device = next(self.backbone.parameters()).device
        found = _gathered(self, batches, each=max(1, CANDIDATES // max(1, images)), seed=seed)
        if not found.seen:
            raise BadData("there is no place of a normal image to learn from")
        rows = torch.cat(found.rows)
        widths = [self.backbone.channels[level] for level in self.levels]
        self.mean, self.std = moments(rows, widths)
        scaled = self._scaled(rows)
        chosen = coreset(scaled, max(1, min(most, round(share * found.seen), len(scaled))), seed=seed)
        wholes = torch.stack(found.means)
        self.whole_mean, self.whole_std = moments(wholes, self._whole_widths)
        self.bank, self.wholes = scaled[chosen], self._whole(wholes)
        own = self._own_distances(scaled.split([len(one) for one in found.rows]), chosen)
        self.gain, self.shift = torch.ones(found.grid), torch.zeros(found.grid)
        if own:
            distances, spots = torch.cat(list(own.values())), torch.cat([found.spots[number] for number in own])
            self.gain, self.shift = by_place(distances, spots, found.grid)
        self.units = self._own_units({number: self._even(one, found.spots[number]) for number, one in own.items()}, top)
        self.to(device)
        return found.seen

    def _own_distances(self, rows: Sequence[Tensor], chosen: Tensor) -> dict[int, Tensor]:
        """Get how far the places of each normal image are from what is kept of all others, by its number.

        Args:
            rows: `(n, D)` of each image, on the scale of the bank.
            chosen: `(M,)` which of all rows are kept.
        """
        owners = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor([len(own) for own in rows]))[chosen]
        distances: dict[int, Tensor] = {}
        for number, own in enumerate(rows):
            others = self.bank[owners != number]
            if len(others) and len(own):
                distances[number] = nearest_of(own, others)[0]
        return distances

    def _own_units(self, distances: Mapping[int, Tensor], top: float) -> Tensor:
        """Score normal images, each against all others, and get mean and deviation of these scores."""
        count = len(self.wholes)
        by_place, by_whole = [], []
        for number in np.unique(np.linspace(0, count - 1, min(_OWN, count)).astype(int)).tolist():
            if number in distances:
                by_place.append(topmost(distances[number], top))
            rest = torch.cat([self.wholes[:number], self.wholes[number + 1 :]])
            if len(rest):
                by_whole.append(_near(self.wholes[number][None], rest)[0])
        return torch.stack([_unit(by_place), _unit(by_whole)])

    def _even(self, distances: Tensor, spots: Tensor | None = None) -> Tensor:
        """Bring distances to what they say: those of some places by their numbers, or `(..., h, w)` of all."""
        gain, shift = (
            (self.gain, self.shift) if spots is None else (self.gain.ravel()[spots], self.shift.ravel()[spots])
        )
        return (distances * gain + shift).clamp_min(0)

    def _whole(self, means: Tensor) -> Tensor:
        return _evened((means - self.whole_mean.to(means)) / self.whole_std.to(means), self._whole_widths)

    def _scaled(self, features: Tensor) -> Tensor:
        widths = [self.backbone.channels[level] for level in self.levels]
        scaled = _evened((features - self.mean.to(features)) / self.std.to(features), widths)
        return scaled if self.way is None else scaled @ self.way.to(scaled)

    @torch.no_grad()
    def forward(self, pixels: Tensor, area: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Get how far each place is from the nearest kept one, what is in the image, and how odd the whole is.

        Arguments as in `places`.

        Returns:
            `(N, h, w)`, `(N, h, w)` bool, and `(N,)` in deviations of normal images.
        """
        features, inside, means = self.places(pixels, area)
        distance, _ = nearest_of(self._scaled(features).flatten(0, 2), self.bank)
        whole = _near(self._whole(means), self.wholes)
        return self._even(distance.view(inside.shape)), inside, (whole - self.units[1, 0]) / self.units[1, 1]

    def in_units(self, scores: Tensor) -> Tensor:
        """Get scores by places in deviations of normal images from their mean."""
        return (scores - self.units[0, 0]) / self.units[0, 1]

    @torch.no_grad()
    def weights(self, pixels: Tensor, area: Tensor, *, neighbours: int) -> Tensor:
        """Get what the score of each image is to be multiplied by: less where the oddest place lies among many kept.

        Source: Roth et al. 2022, equation 7.
        """
        features, inside, _ = self.places(pixels, area)
        rows = self._scaled(features)
        found = []
        for own, there in zip(rows, inside, strict=True):
            odd = own[there]
            distance, nearest = nearest_of(odd, self.bank)
            place = int(self._even(distance, there.flatten().nonzero()[:, 0]).argmax())
            near = nearest_of(self.bank[nearest[place]][None], self.bank, count=min(neighbours, len(self.bank)))[1][0]
            apart = (self.bank[near] - odd[place]).norm(dim=1)
            found.append(1 - torch.exp(distance[place]) / torch.exp(apart).sum().clamp_min(1e-12))
        return torch.stack(found).clamp_min(0)


@dataclass(frozen=True, eq=False)
class _Gathered:
    """Places of normal images: rows `(n, D)` of each, where they lie on the grid, means of images, and how many."""

    rows: list[Tensor]
    spots: list[Tensor]
    means: list[Tensor]
    seen: int
    grid: tuple[int, int]


def _gathered(bank: PatchBank, batches: Iterable[tuple[Tensor, Tensor]], *, each: int, seed: int) -> _Gathered:
    """Get at most `each` places of every image."""
    rows, spots, means, seen, grid = [], [], [], 0, (1, 1)
    for number, (features, inside, mean) in enumerate(_each(bank, batches)):
        own, spot = features[inside].cpu(), inside.flatten().nonzero()[:, 0].cpu()
        seen += len(own)
        if len(own) > each:
            dice = seeds.generator(seed, "places", index=number)
            some = np.sort(dice.choice(len(own), each, replace=False))
            own, spot = own[some], spot[some]
        rows.append(own)
        spots.append(spot)
        means.append(mean.cpu())
        grid = (inside.shape[0], inside.shape[1])
    return _Gathered(rows, spots, means, seen, grid)


def by_place(distances: Tensor, spots: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Get what distances are multiplied by, and what is then added, so that normal ones are alike wherever they lie.

    Mean and deviation are of a place and of those beside it. Where few normal images reach, all places count as well.

    Args:
        distances: `(N,)` of places of normal images.
        spots: `(N,)` where each lies, `row * w + column`.
        grid: (h, w).

    Returns:
        two of `grid`; 1 and 0 where all distances are the same.

    Example:
        >>> gain, shift = by_place(torch.tensor([1.0, 3.0]), torch.tensor([0, 0]), (1, 1))
        >>> gain.item(), shift.item()
        (1.0, 0.0)
    """
    mean, spread = distances.mean(), distances.std(correction=0)
    if not float(spread):
        return torch.ones(grid), torch.zeros(grid)
    parts = (torch.ones_like(distances), distances, distances.square())
    sums = [torch.zeros(grid[0] * grid[1]).index_add_(0, spots, one).view(1, *grid) for one in parts]
    count, first, second = (F.avg_pool2d(one, 3, stride=1, padding=1, count_include_pad=False)[0] for one in sums)
    usual = (first + _PRIOR * mean) / (count + _PRIOR)
    square = (second + _PRIOR * (mean.square() + spread.square())) / (count + _PRIOR)
    own = (square - usual.square()).clamp_min((_STEADY * spread).square()).sqrt()
    gain = spread / own
    return gain, mean - usual * gain


def _way(width: int) -> Tensor:
    """A projection that is the same in every bank of this width."""
    dice = seeds.generator(0, "projection", index=width)
    return torch.from_numpy(dice.standard_normal((width, _WIDEST), np.float32)) / _WIDEST**0.5


def _evened(features: Tensor, widths: Sequence[int]) -> Tensor:
    """Let each level weigh as much as any other, however many channels it has; changes what it is given."""
    for part, width in zip(features.split(list(widths), dim=-1), widths, strict=True):
        part /= width**0.5
    return features


def _mean(level: Tensor, area: Tensor) -> Tensor:
    """The mean of a level `(N, F)` over what belongs to the image."""
    cells = F.adaptive_avg_pool2d(area, (level.shape[-2], level.shape[-1]))
    return (level * cells).sum(dim=(2, 3)) / cells.sum(dim=(2, 3)).clamp_min(1e-6)


def topmost(values: Tensor, share: float) -> Tensor:
    """Get the mean of the largest share of values; of no values zero."""
    if not len(values):
        return values.new_zeros(())
    return values.topk(max(1, round(share * len(values)))).values.mean()


def moments(rows: Tensor, widths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Get mean and deviation of each channel; one that is silent in normal images must not shout in others.

    Args:
        rows: `(N, D)`.
        widths: channels of each level, D together; no channel counts as steadier than a fifth of its level's mean.
    """
    stds = rows.std(dim=0, correction=0).split(list(widths))
    return rows.mean(dim=0), torch.cat([std.clamp_min(max(1e-6, _QUIET * float(std.mean()))) for std in stds])


def _unit(scores: Sequence[Tensor]) -> Tensor:
    """Mean and deviation; 0 and 1 of fewer than two."""
    if len(scores) < 2:
        return torch.tensor([0.0, 1.0])
    rows = torch.stack(list(scores))
    return torch.stack([rows.mean(), rows.std().clamp_min(1e-6)])


def _near(means: Tensor, wholes: Tensor) -> Tensor:
    """The mean distance from the three nearest whole images."""
    count = min(_NEAR, len(wholes))
    distance, _ = nearest_of(means, wholes, count=count)
    return distance if count == 1 else distance.mean(dim=1)


def _each(bank: PatchBank, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for pixels, area in batches:
        yield from zip(*bank.places(pixels, area), strict=True)


def _around(level: Tensor, area: Tensor) -> Tensor:
    """The mean of 3 x 3 cells, of those in the image."""
    inside = F.avg_pool2d(area, 3, stride=1, padding=1).clamp_min(1e-6)
    return F.avg_pool2d(level * area, 3, stride=1, padding=1) / inside


def _on_grid(level: Tensor, grid: tuple[int, int]) -> Tensor:
    if tuple(level.shape[-2:]) == grid:
        return level
    if level.shape[-1] > grid[1]:
        return F.adaptive_avg_pool2d(level, grid)
    return F.interpolate(level, size=grid, mode="bilinear", align_corners=False)
