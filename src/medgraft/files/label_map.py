"""A label map: an image whose numbers name what is there, read exactly as they are stored.

What may be done to a picture spoils a label map: 1 and 3 have no middle. So nothing is scaled, a palette gives its
indexes, and numbers that can only come of smoothing or lossy coding are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medgraft.errors import BadImage
from medgraft.files import raster
from medgraft.files.form import Wish, pick
from medgraft.files.read import guarded, header, read_image
from medgraft.files.sniff import show, sniff
from medgraft.values import Image, ImageRef

_ROUNDING = 1e-4  # what a scale in a header does to a whole number
_EXACT = 1 << 24  # float32, in which volumes are read, skips whole numbers above
_MOST_COLOURS = 64
_FEW, _MANY = 8, 16  # different numbers between 0 and 255: so many people choose, so many smoothing makes
_LARGEST_CODE = 32  # numbers of classes seldom go beyond; a slope from 0 to 255 always does
_SMOOTH_SHARE, _FEW_ALIKE = 0.1, 0.4  # of pixels whose neighbours are all alike: less is a slope and no area
_SMALL_STEP, _MOSTLY = 16, 0.9
_BRIGHT, _DARK, _MIDDLE = 239, 17, slice(64, 192)
_NEAREST = "Save it as PNG, resized with nearest neighbour only."


@dataclass(frozen=True, eq=False)
class LabelMap:
    """One label map.

    Attributes:
        values: whole numbers `(H, W)` or `(D, H, W)`, as they are stored.
        source: where it was read from, for messages.
        colours: True where the file is in colour: `values` are then 0xRRGGBB, black is 0.
        palette: 0xRRGGBB of each index of a palette, whose indexes `values` are; empty where there is none.
        affine: 4 x 4, array index `(d, h, w)` -> RAS millimetres, or None.
        spacing_mm: size of a voxel along each axis, in the order of the axes, or None.
    """

    values: np.ndarray
    source: str
    colours: bool = False
    palette: tuple[int, ...] = ()
    affine: np.ndarray | None = None
    spacing_mm: tuple[float, ...] | None = None

    def packed(self) -> np.ndarray:
        """Get 0xRRGGBB of each pixel, uint32: the colours of the file or its palette; gray levels as gray.

        Raises:
            BadImage: the numbers are no gray levels of 8 bits.
        """
        if self.colours:
            return self.values
        if self.palette:
            return np.array(self.palette, np.uint32)[self.values]
        if self.values.size and int(self.values.max()) > 255:
            raise BadImage("holds numbers above 255, which are no colours", where=self.source)
        return self.values.astype(np.uint32) * np.uint32(0x010101)


def read_label_map(source: ImageRef | Path | str) -> LabelMap:
    """Read one label map: PNG, TIFF, BMP, GIF, NIfTI, npy, or whatever else is read here.

    Raises:
        BadImage: it cannot be read, or is no label map: gray levels, fractions, negative numbers, several channels
            or frames; the sentence says what to do.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / "mask.npy"
        >>> np.save(place, np.array([[0, 1], [0, 300]]))
        >>> read_label_map(place).values.tolist()
        [[0, 1], [0, 300]]
    """
    ref = source if isinstance(source, ImageRef) else ImageRef(Path(source))
    word = _word(ref)
    if word is None:
        return _of_image(read_image(ref, values=True), ref)
    return guarded(word, ref.path, lambda: _of_picture(ref))


def grid_of(source: ImageRef | Path | str) -> tuple[tuple[int, ...], np.ndarray | None]:
    """Get the shape `([D,] H, W)` of an image and, of a volume, its affine or None; decodes as little as possible.

    Raises:
        BadImage: it cannot be read, or holds several frames and none is named.
    """
    ref = source if isinstance(source, ImageRef) else ImageRef(Path(source))
    if not ref.files and not ref.path.is_dir():
        head = header(ref)
        if head.format == "nifti":
            from medgraft.files.nifti import affine_of

            pick(ref.index, head.frames, ref.path, word="volume")
            return head.shape[1:], guarded("nifti", ref.path, lambda: affine_of(ref.path))
        if len(head.shape) == 3 and (head.frames == 1 or ref.index is not None):
            return head.shape[1:], None
    image = read_image(ref)
    return image.pixels.shape[1:], image.affine if image.pixels.ndim == 4 else None


def colour_text(value: int) -> str:
    """Get a colour as it is written, `#ff0000` for 0xFF0000."""
    return f"#{value:06x}"


def _word(ref: ImageRef) -> str | None:
    """The kind of a plain picture; None for all else."""
    in_archive = ref.path.parent.suffix.lower() == ".npz" and ref.path.parent.is_file()
    if ref.files or in_archive or ref.path.is_dir():
        return None
    kind = sniff(ref.path)
    return kind.word if kind.format == "raster" else None


def _of_picture(ref: ImageRef) -> LabelMap:
    wish = Wish()
    opened = raster.open_picture(ref, wish)
    if opened is None:
        from medgraft.files import tiff

        return _of_array(tiff.decode(ref, wish, indexes=True).array, ref)
    if opened.picture.mode not in ("P", "PA"):
        return _of_array(raster.finished(opened).array, ref, lossy=opened.word == "jpeg")
    stored = np.asarray(opened.picture)
    stored = raster.orient(stored if stored.ndim == 2 else stored[..., 0], opened.orientation)
    return LabelMap(stored, str(ref), palette=_palette(opened.picture))


def _palette(picture: Any) -> tuple[int, ...]:
    numbers = np.array(picture.getpalette("RGB") or [0, 0, 0], np.uint32).reshape(-1, 3)
    colours = (numbers << np.array([16, 8, 0], np.uint32)).sum(axis=1).tolist()
    return tuple(int(colour) for colour in (*colours, *[0] * (256 - len(colours))))


def _of_image(image: Image, ref: ImageRef) -> LabelMap:
    planes = image.pixels
    if len(planes) == 3 and planes.ndim == 3:
        return _of_array(np.moveaxis(planes, 0, -1), ref)
    if len(planes) != 1:
        what = f"has {len(planes)} channels, and a label map has one number a voxel"
        raise BadImage(what, where=show(ref), do="Save one volume with one number for each class.")
    values = _whole(planes[0], ref)
    _refuse_slopes(values, ref, lossy=False)
    return LabelMap(values, str(ref), affine=image.affine, spacing_mm=image.spacing_mm)


def _of_array(array: np.ndarray, ref: ImageRef, *, lossy: bool = False) -> LabelMap:
    """Of `(H, W)` numbers or `(H, W, 3)` colours."""
    values = _whole(array, ref)
    if values.ndim == 2:
        _refuse_slopes(values, ref, lossy=lossy)
        return LabelMap(values, str(ref))
    if int(values.max(initial=0)) > 255:
        if not (values % 257 == 0).all():
            raise BadImage("has colours of 16 bits", where=show(ref), do="Save its labels as numbers in one channel.")
        values = values // 257
    red, green, blue = (values[..., k].astype(np.uint32) for k in range(3))
    packed = red << 16 | green << 8 | blue
    if (red == green).all() and (green == blue).all():
        _refuse_slopes(red.astype(np.uint8), ref, lossy=lossy)
        return LabelMap(packed, str(ref), colours=True)
    found = np.unique(packed)
    if len(found) > _MOST_COLOURS or (lossy and len(found) > 2):
        what = f"holds {len(found)} different colours: a photograph, or saved as JPEG or resized with smoothing"
        raise BadImage(what, where=show(ref), do=_NEAREST)
    return LabelMap(packed, str(ref), colours=True)


def _whole(array: np.ndarray, ref: ImageRef) -> np.ndarray:
    """Whole numbers from 0 in their own type; floats that are whole in the smallest that holds them."""
    if not array.size:
        raise BadImage("has no pixels", where=show(ref))
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if float(array.min()) < -_ROUNDING:
        what = f"holds negative numbers such as {float(array.min()):g}, and labels count from 0"
        raise BadImage(what, where=show(ref), do="Is it an image and no label map? Else write unknown pixels as 255.")
    if array.dtype.kind == "u":
        return array
    high = float(array.max())
    if high > _EXACT:
        what = f"holds numbers as large as {high:g}, which are not read exactly"
        raise BadImage(what, where=show(ref), do="Number the labels anew, from 1.")
    near = np.rint(array)
    off = np.abs(array - near) > _ROUNDING
    if off.any():
        what = f"holds fractions such as {float(array[off][0]):g}, and labels are whole numbers"
        do = "Is it a map of probabilities, or was it resized with smoothing? Save whole numbers (nearest neighbour)."
        raise BadImage(what, where=show(ref), do=do)
    return near.astype(np.min_scalar_type(int(round(high))))


def _refuse_slopes(values: np.ndarray, ref: ImageRef, *, lossy: bool) -> None:
    """Refuse numbers that smoothing or lossy coding made of a few: they lie between, and on slopes and not in areas."""
    if int(values.max()) > 255:
        return
    counts = np.bincount(values.ravel(), minlength=256)
    present = np.flatnonzero(counts)
    between = present[(present > 0) & (present < 255)]
    spoilt = lossy and bool(len(between))
    if not spoilt and len(between) >= _FEW and between[-1] > _LARGEST_CODE:
        bright = len(between) >= _MANY and counts[_MIDDLE].any() and 2 * counts[_BRIGHT:].sum() > counts[_DARK:].sum()
        spoilt = bool(bright) or _sloping(values)
    if spoilt:
        listed = ", ".join(
            str(int(present[k])) for k in dict.fromkeys((min(1, len(present) - 1), len(present) // 2, -1))
        )
        how = "saved as JPEG" if lossy else "saved as JPEG or resized with smoothing"
        what = f"holds {len(present)} different values such as {listed}: {how}"
        raise BadImage(what, where=show(ref), do=_NEAREST)


def _sloping(values: np.ndarray) -> bool:
    """Hardly any pixel between 0 and 255 is like all its neighbours; or few are, and the others differ by little."""
    between = (values > 0) & (values < 255)
    alike = between.copy()
    unequal = small = 0
    for axis in range(values.ndim):
        steps = np.abs(np.diff(values.astype(np.int16), axis=axis))
        unequal += np.count_nonzero(steps)
        small += np.count_nonzero((steps > 0) & (steps <= _SMALL_STEP))
        first, last = [slice(None)] * values.ndim, [slice(None)] * values.ndim
        first[axis], last[axis] = slice(None, -1), slice(1, None)
        alike[tuple(first)] &= steps == 0
        alike[tuple(last)] &= steps == 0
    share = alike.sum() / max(int(between.sum()), 1)
    return bool(share < _SMOOTH_SHARE or (share < _FEW_ALIKE and small > _MOSTLY * unequal))
