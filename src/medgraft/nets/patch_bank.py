"""How far the places of an image are from those of normal images, in features of an encoder that learns nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgraft import seeds
from medgraft.errors import BadData, BadRecipe
from medgraft.nets.backbone import Backbone
from medgraft.nets.foreign import PICTURES, ForeignHead, PutIn, learn_head
from medgraft.nets.nearest import coreset, nearest_of
from medgraft.nets.patch_scale import around, by_place, evened, mean_inside, moments, on_grid, topmost, unit_of

CANDIDATES = 80_000  # places that those which are kept are chosen from: a choice looks at all of them once a place
_NUMBERS = 80_000_000  # of all candidates, at most: 320 MB
_FINEST = 32  # cells of a side, at most: 32 x 32 places of 300 images are 300,000 already
_INSIDE = 0.5  # share of a cell that belongs to the image
_WHOLE_LEVELS = 2  # of the encoder, from the last
_NEAR = 3  # of the whole images that are nearest, the mean distance counts
_KEPT = 80_000_000  # numbers of the normal pictures that things are put into, at most: 160 MB
_USUAL = 3.0  # deviations below the mean of normal places; what the head finds less foreign is all the same
_OWN = 60  # normal images whose own scores, each against all others, are the unit of scores
_WIDEST = 1024  # numbers of a place; wider nets are projected to so many, which keeps distances within some percent


class PatchBank(nn.Module):
    """Features of places of normal images, and the distance of others from the nearest of them.

    Levels are averaged over 3 x 3 cells, each channel is brought to mean 0 and deviation 1 over the normal places, and
    levels stand side by side on the grid of the finest. Cells beside the image, where it was padded to a square, take
    no part in any of this.

    Where normal images differ much from each other, such as at the edge of a lung, a distance says less than where all
    are alike. So distances are brought to one mean and deviation over the normal places here and beside here.

    Images that lie alike, such as films of chests, have the same things at the same places, and what is usual in one
    place is odd in another. So where a place lies is compared beside its features, as far as `apart` says. Of images
    that may be mirrored their mirrored pictures are normal too.

    Beside the distance counts what a small head sees that learnt to find things put into normal images: a distance says
    that a place is new, the head that it looks like something that does not belong there.

    Beside the places, images as a whole are compared: by the means of the last levels of the encoder, whichever ones
    places are compared by, as what is odd about a whole is seen in what the encoder sees last.

    Args:
        backbone: the encoder.
        levels: numbers of its stages whose places are compared, 0 the first, rising.
        apart: how far opposite edges of an image are from each other, in deviations of the features; 0 = places are
            compared wherever they lie.
        foreign: weight of the head beside the distance, both in deviations of normal places; 0 = no head.
        whole_levels: numbers of its stages whose means are compared; the last two when empty.
        kept: how many places the bank holds; 0 before `learn`.
        images: how many whole images it holds; 0 before `learn`.
        grid: (h, w) of places; (1, 1) before `learn`.

    Attributes:
        bank: `(M, D)` kept places, and, where `apart` is not 0, `(M, D + 2)` with where they lie.
        gain: `(h, w)` what distances at each place are multiplied by.
        shift: `(h, w)` what is then added.
        spread: deviation of the distances of normal places.
        wholes: `(N, F)` means of normal images.
        units: (mean, deviation) of the scores of normal images by places, and by the whole; each image was held
            against all others.

    Source: Roth et al., CVPR 2022, p. 14318 (PatchCore); means of images by Bergman et al., arXiv:2002.10445 (DN2);
        a measure of normal images for each place as in Defard et al., ICPR workshops 2021 (PaDiM).
    """

    bank: Tensor
    gain: Tensor
    shift: Tensor
    spread: Tensor
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
        apart: float = 0.0,
        foreign: float = 0.0,
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
        self.backbone, self.levels, self.apart = backbone, tuple(sorted(set(levels))), apart
        width = sum(backbone.channels[level] for level in self.levels)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.register_buffer("way", _way(width) if width > _WIDEST else None, persistent=False)
        row = min(width, _WIDEST) + (2 if apart else 0)
        self.foreign, self.head = foreign, ForeignHead(row) if foreign else None
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("bank", torch.zeros(kept, row))
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
        parts = [on_grid(around(one, F.adaptive_avg_pool2d(area, one.shape[-2:])), grid) for one in chosen]
        inside = F.adaptive_avg_pool2d(area, grid)[:, 0] >= _INSIDE
        means = [mean_inside(found[level].float(), area) for level in self.whole_levels]
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
        mirrored: bool = False,
        put_in: PutIn | None = None,
    ) -> int:
        """Fill the bank with places of normal images, and get how many there were to choose from.

        Of more than 80,000 places a part is drawn at random first, as many of each image.

        Args:
            batches: of (pixels, area), as of `places`.
            images: how many they hold.
            share: of the places that is kept.
            most: kept at most.
            top: share of an image's places whose mean is its score.
            seed: of the draws.
            mirrored: left-right mirrored pictures of the images are normal as well.
            put_in: what puts things into normal pictures for the head; without it there is none.

        Raises:
            BadData: there is no place.
        """
        device = next(self.backbone.parameters()).device
        widths = [self.backbone.channels[level] for level in self.levels]
        each = max(1, min(CANDIDATES, _NUMBERS // sum(widths)) // max(1, images))
        pictures: list[tuple[Tensor, Tensor]] = []
        batches = _remembered(batches, pictures, most=PICTURES if put_in and self.foreign else 0)
        found = _gathered(self, batches, each=each, seed=seed, mirrored=mirrored)
        if not found.seen:
            raise BadData("there is no place of a normal image to learn from")
        rows = torch.cat(found.rows)
        self.mean, self.std = moments(rows, widths)
        scaled = self._lying(self._scaled(rows), torch.cat(found.spots), found.grid)
        chosen = coreset(scaled, max(1, min(most, round(share * found.seen), len(scaled))), seed=seed)
        wholes = torch.stack(found.means)
        self.whole_mean, self.whole_std = moments(wholes, self._whole_widths)
        self.bank, self.wholes = scaled[chosen], self._whole(wholes)
        parts = scaled.split([len(one) for one in found.rows])
        own = self._own_distances(parts, chosen)
        self.gain, self.shift = torch.ones(found.grid), torch.zeros(found.grid)
        if own:
            distances, spots = torch.cat(list(own.values())), torch.cat([found.spots[number] for number in own])
            self.gain, self.shift = by_place(distances, spots, found.grid)
            self.spread = distances.std(correction=0)
        self._graft(pictures, put_in, device=device, seed=seed)
        odd = {number: self._odd(one, parts[number], found.spots[number]) for number, one in own.items()}
        self.units = self._own_units(odd, top)
        self.to(device)
        return found.seen

    def _graft(
        self, pictures: Sequence[tuple[Tensor, Tensor]], put_in: PutIn | None, *, device: torch.device, seed: int
    ) -> None:
        """Learn the head; without pictures or what puts things into them there is none."""
        self.head, self.foreign = None, self.foreign if pictures else 0.0
        if pictures and put_in:
            shown, areas = (torch.cat(side) for side in zip(*pictures, strict=True))
            looked = partial(self._looked, device=device)
            self.head = learn_head(shown, areas, rows_of=looked, put_in=put_in, seed=seed)

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
        return torch.stack([unit_of(by_place), unit_of(by_whole)])

    def _even(self, distances: Tensor, spots: Tensor | None = None) -> Tensor:
        """Bring distances to what they say: those of some places by their numbers, or `(..., h, w)` of all."""
        gain, shift = (
            (self.gain, self.shift) if spots is None else (self.gain.ravel()[spots], self.shift.ravel()[spots])
        )
        return (distances * gain + shift).clamp_min(0)

    def _odd(self, distances: Tensor, rows: Tensor, spots: Tensor | None = None) -> Tensor:
        """Put distances and what the head sees together, never below 0; `rows` are theirs, `(..., D)`."""
        even = self._even(distances, spots)
        if self.head is None:
            return even
        return even + self.foreign * self.spread * (self.head(rows) + _USUAL).clamp_min(0)

    def _looked(self, pixels: Tensor, area: Tensor, *, device: torch.device) -> tuple[Tensor, Tensor]:
        """Get rows of the bank `(N, h, w, D)` of pictures, and which places are in the image, both on the CPU."""
        features, inside, _ = self.places(pixels.to(device), area.to(device))
        rows = self._rows(features.cpu())
        return rows.view(*inside.shape, -1), inside.cpu()

    def _whole(self, means: Tensor) -> Tensor:
        return evened((means - self.whole_mean.to(means)) / self.whole_std.to(means), self._whole_widths)

    def _scaled(self, features: Tensor) -> Tensor:
        widths = [self.backbone.channels[level] for level in self.levels]
        scaled = evened((features - self.mean.to(features)) / self.std.to(features), widths)
        return scaled if self.way is None else scaled @ self.way.to(scaled)

    def _lying(self, rows: Tensor, spots: Tensor, grid: tuple[int, int]) -> Tensor:
        """Put where places lie beside their features.

        Args:
            rows: `(N, D)` on the scale of the bank, where a level's deviation is 1 over all its channels.
            spots: `(N,)` where each lies, `row * w + column`.
            grid: (h, w).
        """
        if not self.apart:
            return rows
        where = torch.stack([(spots // grid[1] + 0.5) / grid[0], (spots % grid[1] + 0.5) / grid[1]], dim=1)
        return torch.cat([rows, self.apart * len(self.levels) ** 0.5 * where.to(rows)], dim=1)

    def _rows(self, features: Tensor) -> Tensor:
        """Get features of all places `(N, h, w, D)` as rows of the bank, `(N, h * w, D)`."""
        grid = (features.shape[1], features.shape[2])
        spots = torch.arange(grid[0] * grid[1], device=features.device)
        scaled = self._scaled(features).flatten(1, 2)
        return torch.stack([self._lying(own, spots, grid) for own in scaled])

    @torch.no_grad()
    def forward(self, pixels: Tensor, area: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Get how far each place is from the nearest kept one, what is in the image, and how odd the whole is.

        Arguments as in `places`.

        Returns:
            `(N, h, w)`, `(N, h, w)` bool, and `(N,)` in deviations of normal images.
        """
        features, inside, means = self.places(pixels, area)
        rows = self._rows(features)
        distance, _ = nearest_of(rows.flatten(0, 1), self.bank)
        whole = _near(self._whole(means), self.wholes)
        odd = self._odd(distance.view(inside.shape), rows.view(*inside.shape, -1))
        return odd, inside, (whole - self.units[1, 0]) / self.units[1, 1]

    def in_units(self, scores: Tensor) -> Tensor:
        """Get scores by places in deviations of normal images from their mean."""
        return (scores - self.units[0, 0]) / self.units[0, 1]

    @torch.no_grad()
    def weights(self, pixels: Tensor, area: Tensor, *, neighbours: int) -> Tensor:
        """Get what the score of each image is to be multiplied by: less where the oddest place lies among many kept.

        Source: Roth et al. 2022, equation 7.
        """
        features, inside, _ = self.places(pixels, area)
        found = []
        for own, there in zip(self._rows(features), inside, strict=True):
            odd = own[there.flatten()]
            distance, nearest = nearest_of(odd, self.bank)
            place = int(self._odd(distance, odd, there.flatten().nonzero()[:, 0]).argmax())
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


def _gathered(
    bank: PatchBank, batches: Iterable[tuple[Tensor, Tensor]], *, each: int, seed: int, mirrored: bool
) -> _Gathered:
    """Get at most `each` places of every image, its mirrored picture included."""
    rows, spots, means, seen, grid = [], [], [], 0, (1, 1)
    for number, (features, inside, mean) in enumerate(_each(bank, batches, mirrored=mirrored)):
        own = features[inside].cpu()
        spot = inside.flatten(1).nonzero()[:, 1].cpu()
        seen += len(own)
        if len(own) > each:
            dice = seeds.generator(seed, "places", index=number)
            some = np.sort(dice.choice(len(own), each, replace=False))
            own, spot = own[some], spot[some]
        rows.append(own)
        spots.append(spot)
        means.append(mean.cpu())
        grid = (inside.shape[1], inside.shape[2])
    return _Gathered(rows, spots, means, seen, grid)


def _way(width: int) -> Tensor:
    """A projection that is the same in every bank of this width."""
    dice = seeds.generator(0, "projection", index=width)
    return torch.from_numpy(dice.standard_normal((width, _WIDEST), np.float32)) / _WIDEST**0.5


def _near(means: Tensor, wholes: Tensor) -> Tensor:
    """The mean distance from the three nearest whole images."""
    count = min(_NEAR, len(wholes))
    distance, _ = nearest_of(means, wholes, count=count)
    return distance if count == 1 else distance.mean(dim=1)


def _remembered(
    batches: Iterable[tuple[Tensor, Tensor]], pictures: list[tuple[Tensor, Tensor]], *, most: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pass batches on, and keep the first pictures of them, in half precision: fewer of large ones."""
    count = 0
    for pixels, area in batches:
        room = min(most, _KEPT // pixels[0].numel()) - count
        if room > 0:
            pictures.append((pixels[:room].half().cpu(), area[:room].cpu()))
            count += len(pictures[-1][0])
        yield pixels, area


def _each(
    bank: PatchBank, batches: Iterable[tuple[Tensor, Tensor]], *, mirrored: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield of every image its features `(1 or 2, h, w, D)`, which are in it, and its mean `(F,)`."""
    for pixels, area in batches:
        sides = [bank.places(pixels, area)]
        if mirrored:
            sides.append(bank.places(pixels.flip(-1), area.flip(-1)))
        features, inside = (torch.stack([side[k] for side in sides], dim=1) for k in (0, 1))
        yield from zip(features, inside, sides[0][2], strict=True)
