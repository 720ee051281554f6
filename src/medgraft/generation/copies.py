"""Are drawn images copies of training images? Their distances, beside those of real images that were held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medgraft.scores.delong import delong
from medgraft.scores.fidelity import distances
from medgraft.scores.intervals import wilson
from medgraft.scores.score import Score

NEAR = 0.05  # share of held-out images that lie nearer to a training image than a limit
_SURE = 40  # held-out images: with fewer of them only gross copying is found
_SAME = 0.02  # of the usual distance of two real images: what lies nearer is the same image, perhaps written anew
CALLED = 0.6  # AUROC of telling training images from held-out ones, from where on a run fails


@dataclass(frozen=True, eq=False)
class Space:
    """Images as rows of numbers in which distances mean something.

    Attributes:
        name: "features" or "pixels".
        train: (n, D) of the training.
        held: (h, D) of real images that were held out.
        made: (m, D) of drawn ones.
    """

    name: str
    train: np.ndarray
    held: np.ndarray
    made: np.ndarray


def audited(spaces: list[Space]) -> dict[str, Any]:
    """Get what an audit found: a verdict, why, notes, and in each space shares, limits, distances and pairs.

    In each space a limit is set that a twentieth of the held-out images lie below: nearer to some training image than
    that. Held-out images that are training images too, such as blank ones or files saved twice, set no limit, or it
    would be zero; they are counted. Drawn images that are no copies lie below it as often as held-out ones. A run fails
    where they do so more often than chance gives (the lower end of the interval of their share is above the upper end
    of that of held-out images), or where training images can be told from held-out ones by how near the nearest drawn
    image is (AUROC of .60 and more at the lower end of its interval).

    Args:
        spaces: features and pixels.

    Source: limits from held-out images: Dar et al., arXiv:2307.01148; membership by the nearest sample: Chen et al.,
        GAN-Leaks, CCS 2020, p. 343.
    """
    told = {space.name: _in_space(space) for space in spaces}
    reasons = [f"{name}: {reason}" for name, own in told.items() for reason in own.pop("reasons")]
    held = min(len(space.held) for space in spaces)
    note = f"{held} held-out images are few: the audit would find gross copying alone, {_SURE} make it sharp"
    notes = [note] if held < _SURE else []
    same = max(own.pop("same") for own in told.values())
    notes += [f"{same} of {held} held-out images are training images too"] if same else []
    verdict = {"verdict": "fail" if reasons else "pass", "reasons": reasons, "notes": notes}
    return {**verdict, "near": NEAR, "called": CALLED, **told}


def _in_space(space: Space) -> dict[str, Any]:
    held, made = distances(space.held, space.train), distances(space.made, space.train)
    near_held, near_made = held.min(axis=1), made.min(axis=1)
    same = near_held <= _SAME * np.median(held)
    fresh = near_held[~same] if not same.all() else near_held
    limit = float(np.quantile(fresh, NEAR))
    below = near_made <= limit
    share = Score(float(below.mean()), *wilson(float(below.sum()), len(below)), len(below), None, "proportion, Wilson")
    usual = wilson(NEAR * len(fresh) + float(len(near_held) - len(fresh)), len(near_held))
    member = membership(space)
    reasons = ["all held-out images are training images too, so nothing can be told"] if same.all() else []
    if share.low is not None and share.low > usual[1]:
        reasons.append(
            f"{share.value:.1%} of the drawn images are nearer to a training image than {NEAR:.0%} of the held-out "
            f"images are"
        )
    if member.low is not None and member.low >= CALLED:
        reasons.append(f"training images are told from held-out ones with an AUROC of {member.value:.2f}")
    order = np.argsort(near_made)
    pairs = [(int(place), int(made[place].argmin()), float(near_made[place])) for place in order]
    quantiles = {
        word: [round(float(q), 6) for q in np.quantile(values, (0, 0.05, 0.25, 0.5, 0.75, 1))]
        for word, values in (("held", near_held), ("made", near_made))
    }
    return {
        "limit": limit,
        "share": share.to_dict(),
        "held_share": [float(one) for one in usual],
        "membership": member.to_dict(),
        "nearest": quantiles,
        "pairs": pairs,
        "reasons": reasons,
        "same": int(same.sum()),
    }


def membership(space: Space) -> Score:
    """Get the AUROC of telling training images from held-out ones by the distance to the nearest drawn image.

    Half where nothing can be told.
    """
    near = [-distances(part, space.made).min(axis=1) for part in (space.held, space.train)]
    truth = np.repeat([0, 1], [len(part) for part in near])
    return delong(truth, np.concatenate(near), names=("held-out", "training"))
