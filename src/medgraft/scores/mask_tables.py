"""The tables of found masks: every score, over all classes and of each, with intervals from one set of resamples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medgraft.errors import BadData
from medgraft.scores.delong import Z95
from medgraft.scores.intervals import COUNT
from medgraft.scores.joint_rows import JointRow, fill_together, means_known
from medgraft.scores.mask_cases import THIN, MaskScores
from medgraft.scores.resample import mean_known, patient_codes, ratio
from medgraft.scores.score import Score

UNITS = ("mm", "px")
_SHARES = {"dice", "iou", "nsd", "sensitivity", "precision", THIN}
_AGREEMENT = "found minus true, Bland and Altman"


@dataclass(frozen=True, eq=False)
class _Pile:
    """All images of a table.

    Attributes:
        scores: name in the table -> (n, K), NaN where it does not apply.
        absent: (n, K) booleans: in neither truth nor find.
        far: (n, K) booleans: missed, or found and not true.
        gaps: (n, K) found less true volume.
        codes: (n,) patient numbers.
        power: the unit of volumes, such as "mm3".
    """

    scores: dict[str, np.ndarray]
    absent: np.ndarray
    far: np.ndarray
    gaps: np.ndarray
    codes: np.ndarray
    power: str

    def take(self, kind: int) -> _Pile:
        """One class alone, K = 1."""
        scores = {name: values[:, [kind]] for name, values in self.scores.items()}
        absent, far, gaps = (part[:, [kind]] for part in (self.absent, self.far, self.gaps))
        return _Pile(scores, absent, far, gaps, self.codes, self.power)


def mask_table(
    cases: Sequence[MaskScores],
    *,
    classes: Sequence[str],
    patients: Sequence[object] | None,
    seed: int,
    count: int = COUNT,
    unit: str,
    tolerance: float,
) -> dict[str, Score]:
    """Get every score of found masks: means over the classes of an image, then over images.

    Names, those of report.json: dice, iou, nsd, hd95_mm, assd_mm (hd95_px, assd_px in pixels), sensitivity, precision,
    volume_error (with its sign), volume_error_abs, and cldice where images have it. What a class that is missed or
    wrongly found gets says `mask_scores`; a class in neither truth nor find is left out, as an image without any class
    is, and the method says how many. A score that cannot be computed is there without a value and says why.

    Args:
        cases: scores of n images.
        classes: K names.
        patients: n names, or None when unknown; then images are resampled.
        seed: the run's seed; the same seed gives the same intervals.
        count: resamples.
        unit: of distances, "mm" or "px".
        tolerance: of nsd, as it was scored with.

    Raises:
        BadData: images have other classes, units, axes or scores than each other or than said.
    """
    pile = _piled(cases, classes=classes, patients=patients, unit=unit)
    known = {name: mean_known(values) for name, values in pile.scores.items()}
    rows = _rows(pile, "a class", note=f"within {tolerance:g} {unit}")
    return fill_together(
        lambda weights: means_known(known, weights), rows, n=len(cases), patients=patients, seed=seed, count=count
    )


def mask_class_table(
    cases: Sequence[MaskScores],
    *,
    classes: Sequence[str],
    patients: Sequence[object] | None,
    seed: int,
    count: int = COUNT,
    unit: str,
    tolerance: float,
) -> dict[str, dict[str, Score]]:
    """Get the scores of each class: class -> name -> score.

    Names as in `mask_table`, and how volumes agree (in planes areas): volume_bias_mm3, the mean of found minus true,
    and the limits between which 95 % of such differences lie, volume_low_mm3 and volume_high_mm3; mm2 of planes, px
    in pixels. Images with the class in neither truth nor find are left out. Arguments and errors as in `mask_table`.

    Source: Bland and Altman, Lancet 1986;1:307 (limits of agreement).
    """
    pile = _piled(cases, classes=classes, patients=patients, unit=unit)
    parts = [pile.take(kind) for kind in range(len(classes))]
    rows = {}
    for kind, (part, name) in enumerate(zip(parts, classes, strict=True)):
        one = _rows(part, name, note=f"within {tolerance:g} {unit}") | _agreement_rows(part, name)
        rows |= {f"{kind} {word}": row for word, row in one.items()}

    def joint(weights: np.ndarray) -> dict[str, np.ndarray]:
        table = {}
        for kind, part in enumerate(parts):
            one = means_known({name: values[:, 0] for name, values in part.scores.items()}, weights)
            table |= {f"{kind} {word}": values for word, values in (one | _agreement(part, weights)).items()}
        return table

    table: dict[str, dict[str, Score]] = {name: {} for name in classes}
    filled = fill_together(joint, rows, n=len(cases), patients=patients, seed=seed, count=count)
    for label, score in filled.items():
        kind, _, word = label.partition(" ")
        table[classes[int(kind)]][word] = score
    return table


def _piled(
    cases: Sequence[MaskScores], *, classes: Sequence[str], patients: Sequence[object] | None, unit: str
) -> _Pile:
    n = len(cases)
    if unit not in UNITS:
        raise BadData(f"{unit!r} is no unit of distances", do=f"Known: {', '.join(UNITS)}.")
    if patients is not None and len(patients) != n:
        raise BadData(f"{n} images but {len(patients)} patients")
    for case in cases:
        if case.classes != tuple(classes):
            raise BadData(f"classes {', '.join(case.classes)} and not {', '.join(classes)}", where=case.key or None)
        if case.unit != unit:
            do = "Score all images without a spacing where one of them has none."
            raise BadData(f"distances are in {case.unit}, not in {unit}", where=case.key or None, do=do)
        if (case.names, case.axes) != (cases[0].names, cases[0].axes):
            raise BadData("other scores or axes than the first image", where=case.key or None)

    def of(name: str) -> np.ndarray:
        return np.array([case[name] for case in cases], dtype=np.float64).reshape(n, len(classes))

    scores = {name: of(name) for name in ("dice", "iou", "nsd")}
    scores |= {f"{name}_{unit}": of(name) for name in ("hd95", "assd")}
    scores |= {name: of(name) for name in ("sensitivity", "precision", "volume_error")}
    scores["volume_error_abs"] = np.abs(scores["volume_error"])
    if cases and THIN in cases[0].names:
        scores[THIN] = of(THIN)
    true, found = of("true_volume"), of("found_volume")
    power = f"{unit}{cases[0].axes if cases else 3}" if unit == "mm" else unit
    absent, far = (true == 0) & (found == 0), (true == 0) != (found == 0)
    return _Pile(scores, absent, far, found - true, patient_codes(patients, n)[0], power)


def _rows(pile: _Pile, who: str, *, note: str) -> dict[str, JointRow]:
    kinds = pile.absent.shape[1]
    what = "images" if kinds == 1 else "classes of images"
    whys = {
        "sensitivity": (f"no image has {who} in its truth", "not in the truth"),
        "precision": (f"{who} was found in no image", "nothing found"),
    }
    whys |= {name: whys["sensitivity"] for name in ("volume_error", "volume_error_abs")}
    rows = {}
    for name, values in pile.scores.items():
        why, left = whys.get(name, (f"no image has {who}, true or found", "neither true nor found"))
        says = ["mean over images" if kinds == 1 else "mean over the classes of an image, then over images"]
        says += [note] if name == "nsd" else []
        lost, far = int(np.isnan(values).sum()), int(pile.far.sum())
        says += [f"{lost} of {values.size} {what} left out: {left}"] if lost else []
        if name.startswith(("hd95", "assd")) and far:
            says.append(f"{far} of {values.size} {what}, missed or wrongly found, have the diagonal of the image")
        of = np.asarray(np.isfinite(values).any(axis=1))
        people = len(np.unique(pile.codes[of])) if name in _SHARES else None
        rows[name] = JointRow("; ".join(says), why, people, of)
    return rows


def _agreement(pile: _Pile, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Bias and limits of agreement of one class, (B,)."""
    known = ~pile.absent[:, 0]
    gaps = np.where(known, pile.gaps[:, 0], 0.0)
    middle = gaps.sum() / max(int(known.sum()), 1)  # squares of large volumes would lose their small differences
    gaps = np.where(known, gaps - middle, 0.0)
    size = weights @ known.astype(np.float64)
    mean = ratio(weights @ gaps, size)
    spread = ratio(weights @ gaps**2 - size * mean**2, size - 1)
    reach = Z95 * np.sqrt(np.maximum(spread, 0.0))
    bias = mean + middle
    return dict(zip(_agreement_names(pile), (bias, bias - reach, bias + reach), strict=True))


def _agreement_rows(pile: _Pile, who: str) -> dict[str, JointRow]:
    of = ~pile.absent[:, 0]
    lost = int((~of).sum())
    left = f"; {lost} of {len(of)} images left out: neither true nor found" if lost else ""
    bias, low, high = _agreement_names(pile)
    why = f"no image has {who}, true or found"
    rows = {bias: JointRow(f"{_AGREEMENT}: bias{left}", why, None, of)}
    for name, side in ((low, "lower"), (high, "upper")):
        why = f"fewer than two images have {who}, true or found"
        rows[name] = JointRow(
            f"{_AGREEMENT}: {side} limit, 1.96 standard deviations from the bias{left}", why, None, of
        )
    return rows


def _agreement_names(pile: _Pile) -> tuple[str, str, str]:
    return f"volume_bias_{pile.power}", f"volume_low_{pile.power}", f"volume_high_{pile.power}"
