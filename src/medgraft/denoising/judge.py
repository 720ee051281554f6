"""Ways of taking noise away on the same images: errors at hidden pixels, and beside clean images PSNR and SSIM."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medgraft.denoising.filters import FILTERS, Filter, middle, settled
from medgraft.denoising.planes import Levels, Way, blind_error, cleaned_pixels, donut, levels_of, solids_of
from medgraft.errors import BadData
from medgraft.files import read_image
from medgraft.learn import stopping
from medgraft.samples.noise import noise_of
from medgraft.scores.intervals import bootstrap
from medgraft.scores.likeness import psnr, ssim
from medgraft.scores.probabilities import weighted_mean
from medgraft.scores.score import Score
from medgraft.values import Image, ImageRef

PART = 256  # pixels of a plane's side that are judged: its middle
_PLANES = 3  # of a volume
_SETTLED = 3  # images by which the strengths of filters are chosen
NOISY, AROUND = "noisy", "neighbours"
Listen = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, eq=False)
class Case:
    """A noisy image, as it is judged.

    Attributes:
        key: of it.
        patient: of it, or None.
        noisy: `(P, h, w)`, the middles of its channels, or of planes of a volume.
        clean: the same without noise, or None.
        levels: of the whole noisy image.
    """

    key: str
    patient: str | None
    noisy: np.ndarray
    clean: np.ndarray | None
    levels: Levels


class Around:
    """The mean of a pixel's four neighbours: what any net has to be better than."""

    name = AROUND

    def clean(self, solid: np.ndarray, levels: Levels) -> np.ndarray:
        """Get `(D, H, W)`, each pixel by its neighbours."""
        del levels
        return np.stack([donut(plane) for plane in solid])


def case_of(ref: ImageRef, clean: Path | None, *, key: str, patient: str | None) -> Case:
    """Read a noisy image and the clean one beside it.

    Raises:
        BadData: both have not the same size, channels and scale.
        BadImage: one of them cannot be read.
    """
    image = read_image(ref)
    beside = None if clean is None else read_image(clean)
    return case(image, beside, key=key, patient=patient)


def case(image: Image, beside: Image | None, *, key: str, patient: str | None) -> Case:
    """Get a case of two images; arguments and errors as in `case_of`."""
    if beside is not None and beside.pixels.shape[1:] != image.pixels.shape[1:]:
        sizes = [" x ".join(map(str, one.pixels.shape[:0:-1])) for one in (image, beside)]
        what = f"the image has {sizes[0]} pixels and its clean one {sizes[1]}"
        raise BadData(what, where=image.source, do="Give clean images of the same size.")
    channels = len(solids_of(image.pixels))
    if beside is not None:
        _check_alike(image, beside, channels)
    parts = None if beside is None else _judged(beside.pixels, channels)
    return Case(key, patient, _judged(image.pixels, channels), parts, levels_of(image))


def _check_alike(image: Image, beside: Image, channels: int) -> None:
    if image.pixels.ndim == 3 and len(beside.pixels) < channels:
        what = "the image has colour and its clean one has none"
        raise BadData(what, where=image.source, do="Give clean images of the same channels.")
    ends = [_ends(one) for one in (image, beside)]
    if all(ends) and ends[0] != ends[1]:
        what = "the image counts from {:g} to {:g} between black and white and its clean one from {:g} to {:g}"
        do = "Give clean images of the same kind and depth."
        raise BadData(what.format(*ends[0], *ends[1]), where=image.source, do=do)


def _ends(image: Image) -> tuple[float, ...]:
    """Black and white, where the kind of file says what they are; of other images they are found in the values."""
    fixed = image.unit == "display" or (image.unit == "stored" and image.bits <= 16)
    return tuple(float(end) for end in image.range) if fixed else ()


def _judged(pixels: np.ndarray, channels: int) -> np.ndarray:
    """The middles of the channels of a picture, or of some planes of the first channel of a volume."""
    if pixels.ndim == 3:
        return np.stack([middle(plane, PART) for plane in pixels[:channels]])
    places = np.unique(np.linspace(0, len(pixels[0]) - 1, min(_PLANES, len(pixels[0])) + 2)[1:-1].round().astype(int))
    return np.stack([middle(plane, PART) for plane in pixels[0][places]])


@dataclass(eq=False)
class Table:
    """What came of it.

    Attributes:
        values: way -> score -> a value a case, NaN where there is none.
        patients: of the cases; None where they are unknown.
    """

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    patients: list[str] | None = None

    def scores(self, *, seed: int, resamples: int = 2000) -> dict[str, dict[str, Any]]:
        """Get way -> score -> value with interval; of PSNR and SSIM also what is gained over the noisy image."""
        found: dict[str, dict[str, Any]] = {}
        noisy = self.values.get(NOISY, {})
        for way, own in self.values.items():
            found[way] = {name: self._mean(values, seed, resamples) for name, values in own.items()}
            for name in ("psnr", "ssim"):
                if way != NOISY and name in own and name in noisy:
                    gained = np.subtract(own[name], noisy[name]).tolist()
                    found[way][f"{name}_gain"] = self._mean(gained, seed, resamples)
        return found

    def _mean(self, values: Sequence[float], seed: int, resamples: int) -> dict[str, Any]:
        known = np.isfinite(values)
        if not known.any():
            return Score.missing("no image defines it", n=0).to_dict()
        people = None if self.patients is None else [self.patients[k] for k in np.flatnonzero(known)]
        return bootstrap(
            weighted_mean, [np.asarray(values)[known]], patients=people, seed=seed, count=resamples
        ).to_dict()


def judged(cases: Sequence[Case], ways: Sequence[Way], *, listen: Listen) -> Table:
    """Let every way clean every case.

    `blind_error` is the error at pixels that a way is not shown, over the estimated noise: 1 is noise alone, which
    cannot be foretold, and more is what the way does not know of the image.
    """
    known = [one.patient for one in cases]
    named = [patient or one.key for patient, one in zip(known, cases, strict=True)]
    table = Table(patients=named if any(known) else None)
    for done, one in enumerate(cases, start=1):
        stopping.check()
        for way in ways:
            _add(table, way, one)
        if one.clean is not None:
            _compare(table, NOISY, one.noisy, one)
        listen({"event": "predict", "done": done, "of": len(cases)})
    return table


def _add(table: Table, way: Way, one: Case) -> None:
    row = table.values.setdefault(way.name, {})
    if getattr(way, "axes", 2) == 2:
        # How well a pixel is foretold is asked of the net alone, not of its mean with the pixel.
        asked = getattr(way, "blind", way)
        error = float("nan")
        if one.levels.noise > 0:
            if getattr(asked, "hides", False):
                errors = (asked.clean(one.noisy, one.levels) - one.noisy) ** 2
            else:
                errors = [blind_error(plane, asked, one.levels) for plane in one.noisy]
            error = float(np.sqrt(np.mean(errors))) / one.levels.noise
        row.setdefault("blind_error", []).append(error)
    if one.clean is not None:
        _compare(table, way.name, np.stack([way.clean(plane[None], one.levels)[0] for plane in one.noisy]), one)


def _compare(table: Table, name: str, found: np.ndarray, one: Case) -> None:
    assert one.clean is not None
    row = table.values.setdefault(name, {})
    white = one.levels.white
    row.setdefault("psnr", []).append(psnr(found, one.clean, white=white))
    row.setdefault("ssim", []).append(ssim(found, one.clean, white=white))


def filters_for(cases: Sequence[Case], names: Sequence[str] = FILTERS) -> tuple[list[Filter], dict[str, Any]]:
    """Get filters of the strengths that suit some cases, and what was found: name -> strength and error.

    No clean image is asked: a strength is the one that foretells hidden pixels best.
    """
    planes = [(one.noisy[len(one.noisy) // 2], one.levels) for one in cases[:_SETTLED]]
    found = {name: settled(name, planes) for name in names}
    told = {name: {"strength": way.strength, "error": round(error, 4)} for name, (way, error) in found.items()}
    return [way for way, _ in found.values()], told


def noise_told(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """Get cells of a table: the noise before and after, and what was taken away."""
    from medgraft.samples.noise import neighbours_of

    residual = before - after
    return {
        "noise_before": noise_of(before),
        "noise_after": noise_of(after),
        "taken_away": float(np.sqrt(np.mean(residual.astype(np.float64) ** 2))),
        "neighbours": neighbours_of(residual),
    }


def cleaned(image: Image, way: Way) -> np.ndarray:
    """Get the pixels of an image without their noise."""
    return cleaned_pixels(image.pixels, way, levels_of(image))


def as_rows(scores: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Get rows of a table: method, score, value, low, high, n."""
    return [
        {"method": way, "score": name, **{key: one.get(key) for key in ("value", "low", "high", "n", "n_patients")}}
        for way, own in scores.items()
        for name, one in own.items()
    ]
