"""The nouns that travel between rooms: frozen, with shapes and units.

Axes are always `C, [D,] H, W`. An `Image` is in the file's own coordinates;
a `Batch` is in network pixels; a `Prediction` is in the file's own coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ImageRef:
    """Where one image is: a file, a frame or row in it, or the files of a series.

    Attributes:
        path: the file; of a series, the folder that holds it.
        index: frame of a multi-frame file or row of an array; None when the file is one image.
        files: the files of a DICOM series, in any order; empty for everything else.
    """

    path: Path
    index: int | None = None
    files: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return str(self.path) if self.index is None else f"{self.path}#{self.index}"


@dataclass(frozen=True, eq=False)
class Image:
    """One decoded image.

    Attributes:
        pixels: float32 `(C, H, W)` or `(C, D, H, W)` in `unit`.
        range: the two values that mean black and white; (0, 255) for an 8-bit photograph.
        source: where it was read from, for messages.
        unit: "stored" (integers of the file), "display" (0..1, after VOI), "HU", or what the file says.
        bits: bits stored a sample; above 8 the image must not be squeezed to bytes.
        spacing_mm: size of a voxel along each spatial axis, in the order of the axes, or None.
        affine: 4 x 4, array index `(d, h, w)` -> RAS millimetres, or None where no space is known.
        notes: what the reader noticed and a person should know.
        facts: header facts for the survey, such as `Modality`, `PatientID`, `StudyInstanceUID`.
    """

    pixels: np.ndarray
    range: tuple[float, float]
    source: str
    unit: str = "stored"
    bits: int = 8
    spacing_mm: tuple[float, ...] | None = None
    affine: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    def display(self) -> np.ndarray:
        """Get the pixels scaled so that black is 0 and white is 1, clipped, float32."""
        low, high = self.range
        scaled = (self.pixels - np.float32(low)) / np.float32(max(high - low, 1e-12))
        return np.clip(scaled, 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes in one image, in the file's own pixels; of a finding, or of the truth.

    Corners are edges: pixel k of an axis reaches from k to k + 1, so that a box around pixels 2 to 4 is 2 to 5 and
    the whole of an image of width W is 0 to W.

    Attributes:
        corners: `(M, 4)` float64 x0, y0, x1, y1; of a volume `(M, 6)` x0, y0, z0, x1, y1, z1.
        labels: M class names.
        scores: `(M,)` float64 in 0..1, how sure each is; None for truth.
        ignored: `(M,)` bool: True for a box of the truth that is neither to be found nor wrong to find (crowds,
            "difficult" ones).

    Raises:
        ValueError: the parts do not have one length.
    """

    corners: np.ndarray
    labels: tuple[str, ...]
    scores: np.ndarray | None = None
    ignored: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))

    def __post_init__(self) -> None:
        corners = np.asarray(self.corners, dtype=np.float64)
        if corners.size == 0:
            corners = corners.reshape(0, corners.shape[1] if corners.ndim == 2 else 4)
        count = len(corners)
        ignored = np.asarray(self.ignored, dtype=bool)
        ignored = ignored if len(ignored) or not count else np.zeros(count, dtype=bool)
        scores = None if self.scores is None else np.asarray(self.scores, dtype=np.float64)
        if corners.ndim != 2 or corners.shape[1] not in (4, 6):
            raise ValueError(f"corners of boxes have 4 or 6 numbers, not the shape {corners.shape}")
        if len(self.labels) != count or len(ignored) != count or (scores is not None and len(scores) != count):
            raise ValueError("every box has corners, a label and, where there are any, a score")
        object.__setattr__(self, "corners", corners)
        object.__setattr__(self, "labels", tuple(self.labels))
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "ignored", ignored)

    def __len__(self) -> int:
        return len(self.corners)

    def take(self, rows: np.ndarray) -> Boxes:
        """Get some of the boxes, by numbers or by a mask `(M,)`."""
        places = np.arange(len(self))[rows]
        scores = None if self.scores is None else self.scores[places]
        labels = tuple(self.labels[place] for place in places.tolist())
        return Boxes(self.corners[places], labels, scores, self.ignored[places])


@dataclass(frozen=True, eq=False)
class Prompt:
    """What shows a model which structures of a picture are meant, in the file's own pixels.

    Attributes:
        points: `(N, 3)` float64 x, y, label: 1 is in the structure, 0 is not. Whole numbers are centres of pixels, 0
            of the first.
        boxes: `(M, 4)` float64 x0, y0, x1, y1, edges as of `Boxes`; each is around a structure of its own.
        mask: `(H, W)` bool, a first guess of the structure; None where there is none.

    Raises:
        ValueError: another shape, a label that is neither 0 nor 1, or a mask and several boxes.
    """

    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, width in (("points", 3), ("boxes", 4)):
            rows = np.asarray(getattr(self, name), np.float64)
            rows = rows.reshape(0, width) if rows.size == 0 else rows
            if rows.ndim != 2 or rows.shape[1] != width or not np.isfinite(rows).all():
                raise ValueError(f"{name} of a prompt have {width} numbers each, not the shape {rows.shape}")
            object.__setattr__(self, name, rows)
        if not np.isin(self.points[:, 2], (0, 1)).all():
            raise ValueError("the label of a point is 1 (in the structure) or 0 (not in it)")
        if self.mask is not None:
            object.__setattr__(self, "mask", np.asarray(self.mask, bool))
            if np.ndim(self.mask) != 2 or len(self.boxes) > 1:
                raise ValueError("a mask `(H, W)` is a guess of one structure")

    def __len__(self) -> int:
        """How many structures are meant."""
        return max(1, len(self.boxes))

    def each(self) -> tuple[Prompt, ...]:
        """Get one prompt a structure; of several boxes each takes the points that lie in it."""
        if len(self.boxes) < 2:
            return (self,)
        x, y = self.points[:, 0] + 0.5, self.points[:, 1] + 0.5  # centres, counted from the edge as boxes are
        found = []
        for box in self.boxes:
            inside = (box[0] <= x) & (x <= box[2]) & (box[1] <= y) & (y <= box[3])
            found.append(Prompt(self.points[inside], box[None]))
        return tuple(found)


@dataclass(frozen=True)
class Sample:
    """One case.

    Attributes:
        key: unique in its data set; for a file its path relative to the data, with `/`.
        image: where the pixels are.
        label: the label as the user wrote it ("pneumonia", "a|b", "3", "" for none of many, and for a diagnosis that
            is unknown where zones are not); None unlabelled.
        patient: who it is of; None when unknown.
        split: "train", "val", "test" or None before the split.
        covariates: further columns (site, sex, age ...), as text.
        zones: severity of each zone of the image by its name, NaN where it is unknown; empty where none is asked for.
        boxes: what is to be found in the image and where, none of it where nothing is; None where that is not known.
            `label` then holds the classes that are there, as of several labels.
        mask: where its label map is, on the image's own grid; None where there is none.
    """

    key: str
    image: ImageRef
    label: str | None = None
    patient: str | None = None
    split: str | None = None
    covariates: Mapping[str, str] = field(default_factory=dict)
    zones: Mapping[str, float] = field(default_factory=dict)
    boxes: Boxes | None = None
    mask: ImageRef | None = None


@dataclass(frozen=True, eq=False)
class Batch:
    """Same-sized samples stacked.

    Attributes:
        pixels: `(N, C, [D,] H, W)` network pixels, normalised; or activations when `start` > 0.
        keys: N sample keys.
        targets: `(N,)` or `(N, K)` what the task encoded, of boxes `(N, M, 6)`: x0, y0, x1, y1 in network pixels, the
            number of the class, and 1 for an ignored box, in volumes `(N, M, 8)`; rows of NaN fill up to the largest
            M. Of label maps `(N, [D,] H, W)` uint8: 0 is background, k the k-th class, 255 unknown. None for unlabelled
            samples.
        weights: `(N,)` weight of each sample in the loss, or None.
        start: index of the stage that `pixels` enters; 0 = image, k = output of the k-th stage.
        beside: `(N, F)` pooled features of the levels below that of `pixels`, where the head looks at them and
            `start` > 1; else None.
        prompts: what shows each structure of `targets`, where a net outlines what it is shown: `pixels` is then one
            picture `(1, 3, H, W)` uint8 as in its file, and `targets` `(1, P, H, W)` a mask a prompt.
    """

    pixels: torch.Tensor
    keys: tuple[str, ...]
    targets: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    start: int = 0
    beside: torch.Tensor | None = None
    prompts: tuple[Prompt, ...] = ()


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a task says of one sample.

    Attributes:
        key: the sample's key.
        logits: `(K,)` float64 raw outputs of the head.
        probabilities: `(K,)` float64 in 0..1 after calibration; empty for regression.
        predicted: the answer in the user's words: class, `a|b`, grade or number.
        value: the number for regression and the expected grade for ordinal tasks, else None.
        answers: those that cannot be excluded, in the user's words; of a number the ends of its interval; None where
            the model cannot say.
        ood: how far the image is from those of the training; above 1 it is unlike them. None where that is not known.
        why: the reason to abstain; empty where there is none.
        zones: severity of each zone of the image by its name; empty where the task has none.
        severity: their sum; None where the task has no zones.
        severity_ends: ends of the interval around the sum; None where validation did not settle one.
        boxes: what was found, the surest first; None where the task finds none.
        mask: label map `([D,] H, W)` on the grid of the file: uint8, 0 is background and k the k-th class; of things
            that are told apart uint16 or more, k is the k-th thing. None where the task draws none.
    """

    key: str
    logits: np.ndarray
    probabilities: np.ndarray
    predicted: str
    value: float | None = None
    answers: tuple[str, ...] | None = None
    ood: float | None = None
    why: str = ""
    zones: Mapping[str, float] = field(default_factory=dict)
    severity: float | None = None
    severity_ends: tuple[float, float] | None = None
    boxes: Boxes | None = None
    mask: np.ndarray | None = None

    @property
    def abstain(self) -> bool:
        """Whether the answer should not be used."""
        return bool(self.why)


@dataclass(frozen=True)
class InputSpec:
    """What a net eats; travels with its weights.

    Attributes:
        size: (H, W) in pixels the weights were made for.
        channels: 1 or 3.
        mean: per channel, for pixels in 0..1.
        std: per channel, for pixels in 0..1.
        interpolation: "bilinear" or "bicubic".
        fixed_size: True when the net takes no other size (some ViTs).
    """

    size: tuple[int, int] = (224, 224)
    channels: int = 3
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    fixed_size: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Get plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InputSpec:
        """Read what `to_dict` wrote; unknown keys are ignored, lists become tuples."""
        known: dict[str, Any] = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        known = {name: tuple(v) if isinstance(v, list) else v for name, v in known.items()}
        return cls(**known)
