"""How far the places of an image are from those of normal images, in features of an encoder that learns nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgraft import seeds
from medgraft.errors import BadData, BadRecipe
from medgraft.nets.backbone import Backbone

CANDIDATES = 40_000  # places that those which are kept are chosen from: a choice looks at all of them once a place
_PROJECTED = 64  # numbers of a place while it is chosen
_FINEST = 32  # cells of a side, at most: 32 x 32 places of 300 images are 300,000 already
_AT_ONCE = 2048  # places that are compared together
_INSIDE = 0.5  # share of a cell that belongs to the image
_WHOLE_LEVELS = 2  # of the encoder, from the last
_NEAR = 3  # of the whole images that are nearest, the mean distance counts
_OWN = 60  # normal images whose own scores, each against all others, are the unit of scores
_QUIET = 0.2  # of the mean deviation of the channels of a level
_WIDEST = 1024  # numbers of a place; wider nets are projected to so many, which keeps distances within some percent


class PatchBank(nn.Module):
    """Features of places of normal images, and the distance of others from the nearest of them.

    Levels are averaged over 3 x 3 cells, each channel is brought to mean 0 and deviation 1 over the normal places, and
    levels stand side by side on the grid of the finest. Cells beside the image, where it was padded to a square, take
    no part in any of this.

    Beside the places, images as a whole are compared: by the means of the last levels of the encoder, whichever ones
    places are compared by, as what is odd about a whole is seen in what the encoder sees last.

    Args:
        backbone: the encoder.
        levels: numbers of its stages whose places are compared, 0 the first, rising.
        whole_levels: numbers of its stages whose means are compared; the last two when empty.
        kept: how many places the bank holds; 0 before `learn`.
        images: how many whole images it holds; 0 before `learn`.

    Attributes:
        bank: `(M, D)` kept places.
        wholes: `(N, F)` means of normal images.
        units: (mean, deviation) of the scores of normal images by places, and by the whole; each image was held
            against all others.

    Source: Roth et al., CVPR 2022, p. 14318 (PatchCore); means of images by Bergman et al., arXiv:2002.10445 (DN2).
    """

    bank: Tensor
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
        rows, owners, means, seen = [], [], [], 0
        each = max(1, CANDIDATES // max(1, images))
        for number, (features, inside, mean) in enumerate(_each(self, batches)):
            own = features[inside].cpu()
            seen += len(own)
            dice = seeds.generator(seed, "places", index=number)
            rows.append(own if len(own) <= each else own[np.sort(dice.choice(len(own), each, replace=False))])
            owners.append(torch.full((len(rows[-1]),), number))
            means.append(mean.cpu())
        if not seen:
            raise BadData("there is no place of a normal image to learn from")
        found = torch.cat(rows)
        widths = [self.backbone.channels[level] for level in self.levels]
        self.mean, self.std = moments(found, widths)
        scaled = self._scaled(found)
        chosen = coreset(scaled, max(1, min(most, round(share * seen), len(scaled))), seed=seed)
        wholes = torch.stack(means)
        self.whole_mean, self.whole_std = moments(wholes, self._whole_widths)
        self.bank, self.wholes = scaled[chosen], self._whole(wholes)
        self.units = self._own_units([self._scaled(own) for own in rows], torch.cat(owners)[chosen], top)
        self.to(device)
        return seen

    def _own_units(self, rows: Sequence[Tensor], owners: Tensor, top: float) -> Tensor:
        """Score normal images, each against what is kept of all others, and get mean and deviation of these scores."""
        numbers = np.unique(np.linspace(0, len(rows) - 1, min(_OWN, len(rows))).astype(int)).tolist()
        by_place, by_whole = [], []
        for number in numbers:
            others = self.bank[owners != number]
            if len(others):
                by_place.append(topmost(nearest_of(rows[number], others)[0], top))
            rest = torch.cat([self.wholes[:number], self.wholes[number + 1 :]])
            if len(rest):
                by_whole.append(_near(self.wholes[number][None], rest)[0])
        return torch.stack([_unit(by_place), _unit(by_whole)])

    def _whole(self, means: Tensor) -> Tensor:
        return _evened((means - self.whole_mean.to(means)) / self.whole_std.to(means), self._whole_widths)

    def _scaled(self, features: Tensor) -> Tensor:
        widths = [self.backbone.channels[level] for level in self.levels]
        scaled = _evened((features - self.mean.to(features)) / self.std.to(features), widths)
        return scaled if self.way is None else scaled @ self.way.to(scaled)

    @torch.no_grad()
    def forward(self, pixels: Tensor, area: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Get the distance of each place from the nearest kept one, what is in the image, and how odd the whole is.

        Arguments as in `places`.

        Returns:
            `(N, h, w)`, `(N, h, w)` bool, and `(N,)` in deviations of normal images.
        """
        features, inside, means = self.places(pixels, area)
        distance, _ = nearest_of(self._scaled(features).flatten(0, 2), self.bank)
        whole = _near(self._whole(means), self.wholes)
        return distance.view(inside.shape), inside, (whole - self.units[1, 0]) / self.units[1, 1]

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
            place = int(distance.argmax())
            near = nearest_of(self.bank[nearest[place]][None], self.bank, count=min(neighbours, len(self.bank)))[1][0]
            apart = (self.bank[near] - odd[place]).norm(dim=1)
            found.append(1 - torch.exp(distance[place]) / torch.exp(apart).sum().clamp_min(1e-12))
        return torch.stack(found).clamp_min(0)


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


def nearest_of(rows: Tensor, bank: Tensor, *, count: int = 1) -> tuple[Tensor, Tensor]:
    """Get the distance of each row from the nearest of a bank, and its number.

    Args:
        rows: `(N, D)`.
        bank: `(M, D)`.
        count: how many of the nearest; 1 gives `(N,)`, more give `(N, count)`, the nearest first.
    """
    squares = bank.square().sum(dim=1)
    distances, numbers = [], []
    for some in rows.split(_AT_ONCE):
        apart = torch.addmm(squares, some, bank.T, alpha=-2).add_(some.square().sum(dim=1, keepdim=True))
        own = apart.min(dim=1) if count == 1 else apart.topk(count, dim=1, largest=False)
        distances.append(own.values.clamp_min(0).sqrt())
        numbers.append(own.indices)
    return torch.cat(distances), torch.cat(numbers)


def coreset(rows: Tensor, count: int, *, seed: int) -> Tensor:
    """Choose rows so that none is far from a chosen one: each time the one that is furthest from all chosen.

    Distances are those of a random projection to 64 numbers.

    Args:
        rows: `(N, D)`.
        count: how many.
        seed: of the projection and of the first row.

    Returns:
        `(count,)` numbers of rows, in the order in which they were chosen.

    Source: greedy k-centre, Gonzalez, Theor Comput Sci 1985;38:293; as used by Roth et al. 2022.
    """
    dice = seeds.generator(seed, "coreset")
    if rows.shape[1] > _PROJECTED:
        way = torch.from_numpy(dice.standard_normal((rows.shape[1], _PROJECTED)).astype(np.float32))
        rows = rows @ way.to(rows) / _PROJECTED**0.5
    squares = rows.square().sum(dim=1)
    chosen = torch.zeros(count, dtype=torch.long)
    place = int(dice.integers(len(rows)))
    far = torch.full((len(rows),), torch.inf)
    for number in range(count):
        chosen[number] = place
        far = torch.minimum(far, torch.addmv(squares + squares[place], rows, rows[place], alpha=-2))
        far[place] = -1
        place = int(far.argmax())
    return chosen
