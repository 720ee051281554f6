"""How good drawn images are: beside held-out real ones, and beside floors that need no learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import wasserstein_distance

from medgraft.generation.copies import Space, audited
from medgraft.generation.features import EMBEDDED, Features, features_of
from medgraft.scores.fidelity import covered, fid, kid
from medgraft.scores.intervals import COUNT, bca, bootstrap, bootstrap_method, draws, proportion
from medgraft.scores.likeness import ms_ssim, pairs_of, psnr
from medgraft.scores.probabilities import weighted_mean
from medgraft.scores.resample import known_patients, patient_codes
from medgraft.scores.score import Score
from medgraft.seeds import generator

_NOISE = 0.1  # of white, on training images: a floor
_PAIRS = 300
_PIXELS = 32  # side of images whose pixels are compared
_VALUES = 200_000


@dataclass(frozen=True, eq=False)
class Sets:
    """Images `(N, C, [D,] H, W)` float32 in -1..1.

    Attributes:
        train: those that were learnt from.
        held: real ones that were held out.
        made: drawn ones, as many as `held`.
        patients: of `held`, or None.
        further: drawn ones that only the audit looks at.
        train_back: `train` after a way through latents, where latents are drawn: what no drawing in them is beyond.
        held_back: `held` after it.
    """

    train: np.ndarray
    held: np.ndarray
    made: np.ndarray
    patients: Sequence[object] | None = None
    further: np.ndarray | None = None
    train_back: np.ndarray | None = None
    held_back: np.ndarray | None = None

    @property
    def audited(self) -> np.ndarray:
        """Get the drawn images that are asked whether they are copies."""
        return self.made if self.further is None else np.concatenate([self.made, self.further])


def judged(sets: Sets, *, encoders: Sequence[str] = (), offline: bool = False, seed: int = 0) -> dict[str, Any]:
    """Get `scores`, `floors` and `audit` of drawn images.

    Args:
        sets: what is compared.
        encoders: further backbones whose features FID and KID are found in; the embedded one always.
        offline: never open a connection.
        seed: of resampling and floors.
    """
    words: dict[str, Any] = {"patients": sets.patients}
    scores: dict[str, Score] = {}
    floors: dict[str, dict[str, Any]] = {}
    told: dict[str, Any] = {}
    drawn_floors = _floors(sets, seed)
    for name in (EMBEDDED, *encoders):
        net = Features(name, channels=sets.held.shape[1], offline=offline)
        word = "embedded" if name == EMBEDDED else net.name
        method = f"features of {net.name}"
        held, made = features_of(net, sets.held), features_of(net, sets.made)
        scores[f"fid_{word}"] = fid(held, made, method=method, **words)
        scores[f"kid_{word}"] = kid(held, made, seed=seed, method=method, **words)
        for floor, images in drawn_floors.items():
            own = features_of(net, images)
            entry = floors.setdefault(floor, {})
            entry[f"fid_{word}"] = fid(held, own, method=method, **words).to_dict()
            entry[f"kid_{word}"] = kid(held, own, seed=seed, method=method, **words).to_dict()
        if name == EMBEDDED:
            scores["precision"] = proportion(covered(made, held), seed=seed)
            scores["recall"] = proportion(covered(held, made), patients=sets.patients, seed=seed)
            drawn = made if sets.further is None else features_of(net, sets.audited)
            spaces = [Space("features", features_of(net, sets.train), held, drawn), _pixel_space(sets)]
            told = audited(spaces)
    if sets.held_back is not None:
        scores["psnr_latents"] = fidelity_of_latents(sets.held, sets.held_back, patients=sets.patients, seed=seed)
    scores["ms_ssim"] = spread(sets.made, seed=seed)
    scores["histogram"] = histogram(sets, seed=seed)
    share = told["features"]["share"]
    scores["nearest_copy"] = Score(
        **{name: share[name] for name in ("value", "low", "high", "n", "n_patients", "method")}
    )
    return {
        "scores": {name: score.to_dict() for name, score in scores.items()},
        "floors": floors,
        "ms_ssim_real": spread(sets.held, patients=sets.patients, seed=seed).to_dict(),
        "audit": told,
    }


def _floors(sets: Sets, seed: int) -> dict[str, np.ndarray]:
    """Images that need no net: some of the training, the same with noise, and a Gaussian of their pixels."""
    dice = generator(seed, "floors")
    count = min(len(sets.made), len(sets.train))
    chosen = np.sort(dice.choice(len(sets.train), count, replace=False))
    some = sets.train[chosen]
    noisy = np.clip(some + dice.normal(0, 2 * _NOISE, some.shape).astype(np.float32), -1, 1)
    flat = sets.train.reshape(len(sets.train), -1)
    mean = flat.mean(axis=0)
    # Sums of the images' own departures have their covariance exactly, and no matrix of pixels by pixels is needed;
    # weights of sum zero see departures alone, without a copy of all images.
    weights = dice.standard_normal((count, len(flat)))
    weights -= weights.mean(axis=1, keepdims=True)
    mixed = weights.astype(np.float32) @ flat / np.sqrt(max(1, len(flat) - 1))
    gauss = np.clip(mean + mixed, -1, 1).astype(np.float32).reshape(some.shape)
    latents = {} if sets.train_back is None else {"latents": sets.train_back[chosen]}
    return {"training": some, **latents, "noise": noisy, "gaussian": gauss}


def _pixel_space(sets: Sets) -> Space:
    return Space("pixels", *(pixel_rows(part) for part in (sets.train, sets.held, sets.audited)))


def pixel_rows(images: np.ndarray) -> np.ndarray:
    """Get images as rows of at most 32 pixels a side, as distances of grain say nothing: `(N, D)`."""
    for axis in range(2, images.ndim):
        step = -(-images.shape[axis] // _PIXELS)
        if step > 1:
            kept = images.shape[axis] // step * step
            cut = np.take(images, np.arange(kept), axis=axis)
            shape = (*cut.shape[:axis], kept // step, step, *cut.shape[axis + 1 :])
            images = cut.reshape(shape).mean(axis=axis + 1)
    rows = images.reshape(len(images), -1)
    return rows / np.sqrt(rows.shape[1])


def fidelity_of_latents(
    images: np.ndarray, back: np.ndarray, *, patients: Sequence[object] | None = None, seed: int = 0
) -> Score:
    """Get how well images come back of their latents: the mean of their peak signal-to-noise ratios, in dB.

    Args:
        images: held-out ones, -1..1.
        back: the same after a way through their latents.
        patients: of them.
        seed: of the resamples.
    """
    each = np.array([psnr(one, two, white=2.0) for one, two in zip(images, back, strict=True)])
    kept = np.flatnonzero(np.isfinite(each))  # of a blank image nothing is lost, and no ratio is defined
    known = None if patients is None else [patients[place] for place in kept.tolist()]
    return bootstrap(weighted_mean, [each[kept]], patients=known, seed=seed)


def spread(images: np.ndarray, *, patients: Sequence[object] | None = None, seed: int = 0) -> Score:
    """Get the mean MS-SSIM of pairs of a set: 1 where all its images are one, small where they differ.

    Pairs of one patient are left out. The interval is from resampling images, or patients.

    Source: Khader et al., Sci Rep 2023;13:7303.
    """
    codes, _ = patient_codes(patients, len(images))
    pairs = pairs_of(len(images), most=_PAIRS, seed=seed, purpose="likeness")
    pairs = pairs[codes[pairs[:, 0]] != codes[pairs[:, 1]]]
    known = known_patients(patients, len(images))
    if len(pairs) < 3:
        return Score.missing("there are too few images for pairs of them", n=len(images), n_patients=known)
    values = np.array([ms_ssim(images[a], images[b], white=2.0) for a, b in pairs])

    def mean(rows: np.ndarray) -> np.ndarray:
        weights = rows[:, pairs[:, 0]] * rows[:, pairs[:, 1]]
        total = weights.sum(axis=1)
        return np.divide(weights @ values, total, out=np.full(len(rows), np.nan), where=total > 0)

    found = draws({"mean": mean}, codes, seed=seed, count=COUNT)["mean"]
    low, high, note = bca(float(values.mean()), found)
    words = f"mean of {len(values)} pairs; {bootstrap_method(known, COUNT, note=note)}"
    return Score(float(values.mean()), low, high, len(images), known, words, why=note if low is None else None)


def histogram(sets: Sets, *, seed: int) -> Score:
    """Get how far the values of real and drawn images are apart, as a share of white: the area between both sums.

    Source: Wasserstein distance of order one.
    """
    dice = generator(seed, "histogram")
    per = [max(1, _VALUES // len(part)) for part in (sets.held, sets.made)]
    rows = []
    for part, most in zip((sets.held, sets.made), per, strict=True):
        flat = part.reshape(len(part), -1)
        places = dice.integers(flat.shape[1], size=min(most, flat.shape[1]))
        rows.append(flat[:, places])
    value = float(wasserstein_distance(rows[0].ravel(), rows[1].ravel())) / 2
    drawn = []
    for _ in range(200):
        one, two = (part[dice.integers(len(part), size=len(part))].ravel()[::8] for part in rows)
        drawn.append(float(wasserstein_distance(one, two)) / 2)
    low, high = np.quantile(drawn, [0.025, 0.975])
    words = "Wasserstein distance of the values, of white; 200 resamples of images"
    return Score(value, min(float(low), value), max(float(high), value), len(sets.made), None, words)
