"""What is an encoder of pictures worth on volumes, inflated? Frozen features of 260 MR volumes of the hippocampus.

Each volume is padded to 48 x 64 x 48 mm, the smallest multiple of 16 that holds every crop at its own scale. Its
48 slices are doubled to 0.5 mm, because a stride of 32 would leave two pixels of 1 mm ones. Every arm sees the same
slices: random weights, and the given ones inflated, with the depth strides that fit this spacing; "depth kept" strides
along depth nowhere; the 2-D net sees slice by slice, its features averaged. Asked of features that nobody fitted:

- size: the volume of the hippocampus in ml, by ridge regression on pooled features;
- share: how much of it is anterior;
- voxels: background, anterior or posterior, by a linear probe on the levels brought to 1 mm; Dice, the probe
  trained on all training volumes and on 8;
- size, counted: the squared correlation of the size with the number of voxels that the probe finds.

The truth comes from the label maps. The volumes were cropped around the hippocampus, so the sides of a crop give away
much of its size, and the place of a voxel in the crop what it is. The row "no encoder" says how much: it knows the
sides, and of a voxel its place and brightness. Every other row knows that too, so what it has more comes from the
encoder.

BatchNorm is measured anew on 40 volumes that are in no test part; one that was folded into the convolutions gets
statistics from their slices before. Of the other 220, five random splits test 100 each. In brackets: the 95 % interval
of the difference from random weights, by paired bootstrap over volumes.

    python benchmarks/volume.py --shared ../shared --backbone file:../shared/weights/mobilenet_v2.safetensors
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medgraft.files import read_image
from medgraft.nets.adapt import has_folded_norms
from medgraft.nets.backbone import Encoder, backbone
from medgraft.nets.norms import recalibrate, unfold_norms
from medgraft.nets.volume import inflate, pooled

PADDED = (48, 64, 48)
ZOOMS = (1, 2, 2)
SPACING_MM = (1.0, 0.5, 0.5)
CALIBRATED, TESTED, SPLITS, FEW = 40, 100, 5, 8
SAMPLED = (60, 30, 30)  # voxels a volume and class that the probe learns from
RESAMPLES = 1000
HOWS = ("centre", "spread")

Score = Callable[[np.ndarray], float]  # weights of the cases (N,) -> score


@dataclass(frozen=True, eq=False)
class Case:
    """One volume.

    Attributes:
        pixels: 0..1, of shape PADDED.
        labels: 0, 1 or 2, of shape PADDED.
        crop: where the crop lies in it.
        drawn: (d, h, w) of the voxels that a probe may learn from.
    """

    pixels: np.ndarray
    labels: np.ndarray
    crop: tuple[slice, ...]
    drawn: tuple[np.ndarray, ...]

    @property
    def truth(self) -> tuple[float, float]:
        """The size in ml and the anterior share."""
        front, back = (float((self.labels == k).sum()) for k in (1, 2))
        return (front + back) / 1000.0, front / (front + back)

    def place(self, where: tuple[slice, ...] | tuple[np.ndarray, ...]) -> torch.Tensor:
        """Get what is known of voxels without an encoder, `(K, ...)`."""
        pixels = torch.from_numpy(self.pixels[where])
        return torch.cat([powers()[(slice(None), *where)], torch.stack([pixels, pixels**2])])


@cache
def powers() -> torch.Tensor:
    """Get the polynomials of the place of a voxel up to the third degree, `(K, *PADDED)`."""
    axes = [torch.linspace(-1, 1, side) for side in PADDED]
    d, h, w = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([d**i * h**j * w**k for i in range(4) for j in range(4) for k in range(4) if 0 < i + j + k <= 3])


@dataclass(frozen=True, eq=False)
class Arm:
    """What one encoder says of every case.

    Attributes:
        features: pooled, `(N, F)`.
        voxels: of the drawn voxels, `(N, V, C)`.
        levels: of each case the file of its levels, each `(C, D, H, W)`, all but the last: gigabytes in all.
        grids: for each level the matrices that bring its three axes to 1 mm.
    """

    features: np.ndarray
    voxels: np.ndarray
    levels: Sequence[Path]
    grids: Sequence[Sequence[torch.Tensor]]


def read_cases(folder: Path) -> list[Case]:
    """Read all volumes, each normalised by its own range, its border voxels repeated up to the common size."""
    with (folder / "manifest.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["path"])
    cases = []
    for index, row in enumerate(rows):
        pixels = read_image(folder / row["path"]).display()[0]
        labels = read_image(folder / row["mask"], values=True).pixels[0].astype(np.int64)
        before = [(whole - side) // 2 for whole, side in zip(PADDED, pixels.shape, strict=True)]
        widths = [(b, w - s - b) for b, w, s in zip(before, PADDED, pixels.shape, strict=True)]
        crop = tuple(slice(b, b + s) for b, s in zip(before, pixels.shape, strict=True))
        pixels, labels = np.pad(pixels, widths, mode="edge"), np.pad(labels, widths, constant_values=-1)
        random = np.random.default_rng(index)
        drawn = [random.choice(np.flatnonzero(labels == k), SAMPLED[k], replace=False) for k in range(len(SAMPLED))]
        cases.append(Case(pixels, labels, crop, np.unravel_index(np.concatenate(drawn), PADDED)))
    return cases


def pixels_for(net: Encoder, cases: Sequence[Case], *, slices: bool) -> torch.Tensor:
    """Get normalised pixels: `(N, 1, D, H, W)`, or their slices `(N * D, 1, H, W)`."""
    x = torch.from_numpy(np.stack([case.pixels for case in cases]))[:, None]
    size = tuple(side * zoom for side, zoom in zip(PADDED, ZOOMS, strict=True))
    x = torch.nn.functional.interpolate(x, size=size, mode="trilinear", align_corners=False)
    x = (x - net.spec.mean[0]) / net.spec.std[0]
    return x.transpose(1, 2).flatten(0, 1) if slices else x


def batches(net: Encoder, cases: Sequence[Case], *, slices: bool) -> Iterator[torch.Tensor]:
    """Get the pixels of two cases at a time."""
    for start in range(0, len(cases), 2):
        yield pixels_for(net, cases[start : start + 2], slices=slices)


def axis_grid(size: int, zoom: int, level: int) -> torch.Tensor:
    """Get the matrix `(size, level)` that interpolates one axis of a level at the 1 mm voxels.

    The k-th value of a level with stride s stands for the pixel s k, not for the middle of s pixels: the
    convolutions that stride have odd kernels and symmetric padding.
    """
    stride = 2.0 ** round(np.log2(size * zoom / level))
    at = (((np.arange(size) + 0.5) * zoom - 0.5) / stride).clip(0, level - 1)
    low = np.minimum(at.astype(int), max(level - 2, 0))
    matrix = np.zeros((size, level), np.float32)
    np.add.at(matrix, (np.arange(size), low), 1 - (at - low))
    np.add.at(matrix, (np.arange(size), np.minimum(low + 1, level - 1)), at - low)
    return torch.from_numpy(matrix)


def brought_back(level: torch.Tensor, grids: Sequence[torch.Tensor]) -> torch.Tensor:
    """Interpolate the three axes of a level `(C, D, H, W)`."""
    return torch.einsum("cdhw,ad,bh,ew->cabe", level.float(), *grids)


@torch.no_grad()
def extract(net: Encoder, cases: Sequence[Case], *, slices: bool, folder: Path) -> Arm:
    """Run a frozen encoder over all cases, one at a time."""
    layout = torch.channels_last if slices else torch.channels_last_3d
    net = net.to(memory_format=layout)
    features, voxels, kept, grids = [], [], [], []
    for index, case in enumerate(cases):
        pixels = pixels_for(net, [case], slices=slices).to(memory_format=layout)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            levels = net(pixels)
        features.append(pooled(levels).mean(0).numpy())  # the mean over slices; a volume is one row
        below = [level.transpose(0, 1) if slices else level[0] for level in levels[:-1]]
        if not grids:
            grids = [[axis_grid(*side) for side in zip(PADDED, ZOOMS, lv.shape[1:], strict=True)] for lv in below]
        points = [brought_back(lv, g)[(slice(None), *case.drawn)] for lv, g in zip(below, grids, strict=True)]
        voxels.append(torch.cat(points).T.numpy())
        kept.append(folder / f"{index}.pt")
        torch.save([level.contiguous().half() for level in below], kept[-1])
    return Arm(np.stack(features), np.stack(voxels), kept, grids)


def arms_of(
    name: str, hows: Sequence[str], cases: Sequence[Case], calibration: Sequence[Case], folder: Path
) -> Iterator[tuple[str, Arm]]:
    """Yield the arms of one backbone, random weights first."""
    size = (PADDED[1] * ZOOMS[1], PADDED[2] * ZOOMS[2])

    def run(net: Encoder, *, slices: bool) -> Arm:
        if any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in net.modules()):
            recalibrate(net, batches(net, calibration, slices=slices))
        return extract(net, cases, slices=slices, folder=folder)

    random = backbone(f"none:{name.removeprefix('none:')}", channels=1, image_size=size)
    yield "random, spread", run(inflate(random, spacing_mm=SPACING_MM), slices=False)
    flat = backbone(name, channels=1, image_size=size)
    if not flat.sha256:
        return
    if has_folded_norms(flat):
        unfold_norms(flat, batches(flat, calibration, slices=True))
    for how in hows:
        yield how, run(inflate(flat, how=how, spacing_mm=SPACING_MM), slices=False)
    kept = inflate(flat, how=hows[-1], depth_stride=(1,) * round(np.log2(flat.strides[-1])))
    yield f"{hows[-1]}, depth kept", run(kept, slices=False)
    yield "2-D, slice by slice", run(flat, slices=True)


def splits(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (training, test) indices; the first CALIBRATED cases of a fixed shuffle are never tested."""
    order = np.random.default_rng(0).permutation(count)
    for split in range(SPLITS):
        mixed = np.random.default_rng(split + 1).permutation(order[CALIBRATED:])
        yield np.concatenate([order[:CALIBRATED], mixed[TESTED:]]), mixed[:TESTED]


def regress(arm: Arm | None, cases: Sequence[Case], truth: np.ndarray) -> np.ndarray:
    """Get predictions `(SPLITS, N)`, NaN where a case is not tested: by the sides, then ridge on what is left."""
    sides = np.log([[part.stop - part.start for part in case.crop] for case in cases])
    said = np.full((SPLITS, len(truth)), np.nan)
    for split, (train, test) in enumerate(splits(len(truth))):
        alphas = np.logspace(-1, 5, 13)
        base = make_pipeline(StandardScaler(), RidgeCV(alphas=alphas)).fit(sides[train], truth[train])
        said[split, test] = base.predict(sides[test])
        if arm is not None:
            left = truth[train] - base.predict(sides[train])
            more = make_pipeline(StandardScaler(), RidgeCV(alphas=alphas)).fit(arm.features[train], left)
            said[split, test] += more.predict(arm.features[test])
    return said


def probe(arm: Arm | None, cases: Sequence[Case], *, count: int | None) -> np.ndarray:
    """Get the Dice of anterior and posterior and the voxels found `(SPLITS, N, 3)`, NaN where a case is not tested."""
    found = np.full((SPLITS, len(cases), 3), np.nan)
    drawn = [case.place(case.drawn).T.numpy() for case in cases]
    known = np.stack(drawn) if arm is None else np.concatenate([np.stack(drawn), arm.voxels], 2)
    for split, (train, test) in enumerate(splits(len(cases))):
        chosen = train if count is None else np.random.default_rng(split).choice(train, count, replace=False)
        weight, bias = _fitted(known[chosen], [cases[k] for k in chosen])
        for k in test:
            found[split, k] = _tested(arm, int(k), cases[k], weight=weight, bias=bias)
    return found


def _fitted(known: np.ndarray, cases: Sequence[Case]) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit a probe on drawn voxels `(N, V, C)`; get weight `(3, C)` and bias `(3,)`."""
    x, y = known.reshape(-1, known.shape[2]), np.tile(np.repeat(np.arange(len(SAMPLED)), SAMPLED), len(known))
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=0.1, max_iter=100, tol=1e-3).fit(scaler.transform(x), y)
    weight = model.coef_ / scaler.scale_
    # The drawn voxels have classes in other shares than the crops have; the intercepts make up for it.
    inside = np.concatenate([case.labels[case.crop].ravel() for case in cases])
    share = np.bincount(inside, minlength=len(SAMPLED)) / len(inside)
    bias = model.intercept_ - weight @ scaler.mean_ + np.log(share / (np.array(SAMPLED) / sum(SAMPLED)))
    return torch.from_numpy(weight).float(), torch.from_numpy(bias).float()


def _tested(arm: Arm | None, index: int, case: Case, *, weight: torch.Tensor, bias: torch.Tensor) -> list[float]:
    """A linear probe commutes with interpolation, so three maps are brought back instead of all channels."""
    place = case.place(case.crop)
    levels = [] if arm is None else torch.load(arm.levels[index], weights_only=True)
    first, *parts = weight.split([len(place), *(len(level) for level in levels)], 1)
    logits = torch.einsum("kc,cdhw->kdhw", first, place) + bias.view(-1, 1, 1, 1)
    if arm is not None:
        for level, part, grids in zip(levels, parts, arm.grids, strict=True):
            inside = [matrix[part_of] for matrix, part_of in zip(grids, case.crop, strict=True)]
            logits += brought_back((part @ level.float().flatten(1)).unflatten(1, level.shape[1:]), inside)
    said, truth = logits.argmax(0).numpy(), case.labels[case.crop]
    both = [((said == k), (truth == k)) for k in (1, 2)]
    return [*(2.0 * float((s & t).sum()) / float(s.sum() + t.sum()) for s, t in both), float((said > 0).sum())]


def r_squared(said: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """Get the share of the variance that is explained, in each split, then the mean."""
    found = []
    for row in said:
        tested = ~np.isnan(row)
        w, t, p = weights[tested], truth[tested], row[tested]
        found.append(1.0 - (w * (p - t) ** 2).sum() / (w * (t - np.average(t, weights=w)) ** 2).sum())
    return float(np.mean(found))


def correlation(said: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """Get the squared correlation in each split, then the mean."""
    found = []
    for row in said:
        tested = ~np.isnan(row)
        both = np.cov(row[tested], truth[tested], aweights=weights[tested], ddof=0)
        found.append(both[0, 1] ** 2 / (both[0, 0] * both[1, 1]))
    return float(np.mean(found))


def mean_of(values: np.ndarray, weights: np.ndarray) -> float:
    """Get the mean over tested cases in each split, then over splits."""
    tested = ~np.isnan(values)
    return float(np.mean([np.average(row[t], weights=weights[t]) for row, t in zip(values, tested, strict=True)]))


def judge(arm: Arm | None, cases: Sequence[Case]) -> dict[str, Score]:
    """Get each score of an arm as a function of the weights of the cases."""
    truth = np.array([case.truth for case in cases])
    size, share = (regress(arm, cases, truth[:, k]) for k in (0, 1))
    every, few = (probe(arm, cases, count=count) for count in (None, FEW))
    error = np.abs(size - truth[:, 0])
    return {
        "size, R2": lambda w: r_squared(size, truth[:, 0], w),
        "size, mean error in ml": lambda w: mean_of(error, w),
        "share, R2": lambda w: r_squared(share, truth[:, 1], w),
        "Dice anterior": lambda w: mean_of(every[..., 0], w),
        "Dice posterior": lambda w: mean_of(every[..., 1], w),
        f"Dice of both, {FEW} volumes": lambda w: mean_of(few[..., :2].mean(-1), w),
        "size counted, r2": lambda w: correlation(every[..., 2], truth[:, 0], w),
    }


def row(name: str, arm: str, scores: dict[str, Score], random: dict[str, Score] | None, count: int) -> str:
    """Get one row of the table; `random` is what differences are taken from."""
    draws = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    weights = [np.bincount(draw, minlength=count).astype(float) for draw in draws]
    cells = []
    for word, score in scores.items():
        cells.append(f"{score(np.ones(count)):.3f}")
        if random is not None:
            low, high = np.quantile([score(w) - random[word](w) for w in weights], (0.025, 0.975))
            cells[-1] += f" ({low:+.3f} to {high:+.3f})"
    return f"| {name} | {arm} | " + " | ".join(cells) + " |"


def main() -> None:
    """Run every arm and print one table."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--shared", type=Path, default=Path(os.environ.get("MEDGRAFT_SHARED", "../shared")))
    given.add_argument("--backbone", action="append", help="any name that `backbone` takes; may be given again")
    given.add_argument("--how", action="append", help="as for `inflate`; may be given again")
    given.add_argument("--threads", type=int, default=1)
    options = given.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", message=".*random numbers")
    cases = read_cases(options.shared / "data" / "hippocampus_msd")
    calibration = [cases[k] for k in np.random.default_rng(0).permutation(len(cases))[:CALIBRATED]]
    scores = judge(None, cases)
    lines = ["| encoder | arm | " + " | ".join(scores) + " |", "|---" * (len(scores) + 2) + "|"]
    lines.append(row("none", "no encoder", scores, None, len(cases)))
    with tempfile.TemporaryDirectory() as folder:
        for name in options.backbone or [f"file:{options.shared}/weights/mobilenet_v2.safetensors", "auto"]:
            random = None
            for arm, found in arms_of(name, options.how or HOWS, cases, calibration, Path(folder)):
                scores = judge(found, cases)
                lines.append(row(Path(name).name, arm, scores, random, len(cases)))
                random = random or scores
                print(f"{time.process_time():.0f} s of processor: {lines[-1]}", file=sys.stderr, flush=True)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
