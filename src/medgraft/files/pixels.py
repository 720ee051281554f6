"""From an image to network pixels, and two keys that find copies of an image."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from medgraft.errors import BadImage
from medgraft.files.form import MAX_BYTES, Wish
from medgraft.values import Image, ImageRef

_FILTERS = {
    "nearest": Pillow.Resampling.NEAREST,
    "box": Pillow.Resampling.BOX,
    "bilinear": Pillow.Resampling.BILINEAR,
    "bicubic": Pillow.Resampling.BICUBIC,
    "lanczos": Pillow.Resampling.LANCZOS,
}
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_PLAIN_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".webp", ".gif"})
_THUMBNAIL = 32
_Box = tuple[float, float, float, float]


def network_pixels(
    image: Image,
    *,
    size: tuple[int, ...],
    channels: int,
    fit: str = "pad",
    interpolation: str = "bilinear",
) -> np.ndarray:
    """Get an image scaled from black to white and resized, as whole numbers.

    Args:
        image: `(C, H, W)`, or a volume `(C, D, H, W)`.
        size: (H, W), or (D, H, W) for a volume.
        channels: 1 or 3; colour becomes gray by ITU-R BT.601 luma, gray is repeated.
        fit: "pad" keeps the shape, centred on black; "crop" keeps it and cuts the longer side; "stretch" does not.
        interpolation: "bilinear", "bicubic", "lanczos", "box" or "nearest"; shrinking is antialiased.

    Returns:
        `(channels, H, W)` or `(channels, D, H, W)`: uint8 when the image has up to 8 bits, else uint16 (0..65535).
    """
    _check_arguments(size, channels, fit, interpolation)
    if image.pixels.ndim == 4:
        return _volume(image, size, channels, interpolation)
    if len(size) != 2:
        raise ValueError(f"an image takes a size (H, W), not {size}")
    if image.bits > 8:
        return _deep(_gray_or_colour(image.display(), channels), size, channels, fit, interpolation)
    if image.range == (0.0, 255.0):
        stored = image.pixels.astype(np.uint8)
    else:
        stored = np.rint(image.display() * np.float32(255)).astype(np.uint8)
    array = stored[0] if len(stored) == 1 else np.moveaxis(stored, 0, -1)
    return _shallow(Pillow.fromarray(np.ascontiguousarray(array)), size, channels, fit, interpolation)


def read_pixels(
    source: ImageRef | Path | str,
    *,
    size: tuple[int, int],
    channels: int,
    fit: str = "pad",
    interpolation: str = "bilinear",
    window: tuple[float, float] | None = None,
    max_bytes: int = MAX_BYTES,
    at_least: tuple[int, int] | None = None,
) -> np.ndarray:
    """Read a file straight to network pixels.

    The result equals `network_pixels(read_image(source), ...)` bit for bit;
    8-bit photographs skip the floats on the way.

    Raises:
        BadImage: it cannot be read right.
    """
    from medgraft.files import raster
    from medgraft.files.read import guarded, read_ref

    _check_arguments(size, channels, fit, interpolation)
    ref = source if isinstance(source, ImageRef) else ImageRef(Path(source))
    wish = Wish(window=window, max_bytes=max_bytes, at_least=at_least)
    if not ref.files and ref.path.suffix.lower() in _PLAIN_SUFFIXES and not ref.path.is_dir():
        opened = guarded(ref.path.suffix[1:], ref.path, lambda: raster.open_picture(ref, wish))
        if opened is not None and opened.plain:
            guarded(opened.word, ref.path, opened.picture.load)
            return _shallow(opened.picture, size, channels, fit, interpolation)
    image = read_ref(ref, wish)
    return network_pixels(image, size=size, channels=channels, fit=fit, interpolation=interpolation)


def read_measured(
    source: ImageRef | Path | str, *, window: tuple[float, float] | None = None, **words: Any
) -> tuple[np.ndarray, tuple[int, int], tuple[float, ...] | None]:
    """Read a file to network pixels, as `read_pixels` does, and measure it.

    Args:
        source: the file, or a frame of it.
        window: (centre, width) in the file's unit.
        words: of `network_pixels`.

    Returns:
        Network pixels `(C, H, W)`; (H, W) of the file's picture; and millimetres a pixel along both, or None.

    Raises:
        BadImage: it cannot be read right.
    """
    from medgraft.files.read import read_ref

    ref = source if isinstance(source, ImageRef) else ImageRef(Path(source))
    image = read_ref(ref, Wish(window=window))
    height, width = image.pixels.shape[-2:]
    return network_pixels(image, **words), (height, width), image.spacing_mm


def _check_arguments(size: tuple[int, ...], channels: int, fit: str, interpolation: str) -> None:
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, not {channels}")
    if fit not in ("pad", "crop", "stretch"):
        raise ValueError(f"fit must be pad, crop or stretch, not {fit!r}")
    if interpolation not in _FILTERS:
        raise ValueError(f"interpolation must be one of {', '.join(_FILTERS)}, not {interpolation!r}")
    if any(n < 1 for n in size):
        raise ValueError(f"size must be positive, not {size}")


def _plan(height: int, width: int, size: tuple[int, ...], fit: str) -> tuple[tuple[int, int], _Box]:
    """Get the (H, W) to resize to and the source box (left, top, right, bottom) to take."""
    rows, columns = size
    whole = (0.0, 0.0, float(width), float(height))
    if fit == "stretch" or height * columns == width * rows:
        return (rows, columns), whole
    if fit == "pad":
        scale = min(rows / height, columns / width)
        return (min(rows, max(1, round(height * scale))), min(columns, max(1, round(width * scale)))), whole
    scale = max(rows / height, columns / width)
    tall, broad = min(float(height), rows / scale), min(float(width), columns / scale)
    left, top = (width - broad) / 2, (height - tall) / 2
    return (rows, columns), (left, top, left + broad, top + tall)


def _shallow(picture: Pillow.Image, size: tuple[int, ...], channels: int, fit: str, interpolation: str) -> np.ndarray:
    """Resize a gray or RGB picture of 8 bits."""
    if picture.mode == "RGB" and channels == 1:
        picture = picture.convert("L")
    width, height = picture.size
    target, box = _plan(height, width, size, fit)
    if target != (height, width) or box != (0.0, 0.0, float(width), float(height)):
        picture = picture.resize((target[1], target[0]), _FILTERS[interpolation], box=box)
    small = np.asarray(picture)
    planes = small[None] if small.ndim == 2 else small.transpose(2, 0, 1)
    return _lay(planes, size, channels)


def _deep(planes: np.ndarray, size: tuple[int, ...], channels: int, fit: str, interpolation: str) -> np.ndarray:
    """Resize float planes in 0..1 and give uint16."""
    target, box = _plan(planes.shape[1], planes.shape[2], size, fit)
    small = np.stack([_resize(plane, target, box, interpolation) for plane in planes])
    return _lay(_to_uint16(small), size, channels)


def _resize(plane: np.ndarray, target: tuple[int, int], box: _Box | None, interpolation: str) -> np.ndarray:
    if plane.shape == target and (box is None or box == (0.0, 0.0, float(plane.shape[1]), float(plane.shape[0]))):
        return plane
    picture = Pillow.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(picture.resize((target[1], target[0]), _FILTERS[interpolation], box=box))


def _to_uint16(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0.0, 1.0) * np.float32(65535)).astype(np.uint16)


def _lay(planes: np.ndarray, size: tuple[int, ...], channels: int) -> np.ndarray:
    """Centre planes on black and repeat gray to the wanted channels."""
    rows, columns = planes.shape[1:]
    out = np.zeros((channels, *size), dtype=planes.dtype)
    top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
    out[:, top : top + rows, left : left + columns] = planes
    return out


def _gray_or_colour(planes: np.ndarray, channels: int) -> np.ndarray:
    if len(planes) == 3 and channels == 1:
        return np.tensordot(_LUMA, planes, axes=1)[None]
    return planes


def _volume(image: Image, size: tuple[int, ...], channels: int, interpolation: str) -> np.ndarray:
    if len(size) != 3:
        raise BadImage(
            f"is a volume of {image.pixels.shape[1]} slices, not a 2-D image",
            where=image.source,
            do="Name one slice, or train a volume network.",
        )
    planes = _gray_or_colour(image.display(), channels)
    depth, rows, columns = size
    out = np.empty((channels, depth, rows, columns), dtype=np.uint8 if image.bits <= 8 else np.uint16)
    for k in range(channels):
        source = planes[min(k, len(planes) - 1)]
        small = np.stack([_resize(layer, (rows, columns), None, interpolation) for layer in source])
        flat = small.reshape(len(small), rows * columns)
        deep = _resize(flat, (depth, rows * columns), None, interpolation).reshape(depth, rows, columns)
        out[k] = np.rint(np.clip(deep, 0, 1) * 255) if image.bits <= 8 else _to_uint16(deep)
    return out


def content_key(image: Image) -> str:
    """Get a hash of the decoded pixels: equal for equal pixels in whatever file they lie.

    A colour image with three equal channels has the key of the gray image.
    """
    pixels = image.pixels
    if len(pixels) == 3 and np.array_equal(pixels[0], pixels[1]) and np.array_equal(pixels[1], pixels[2]):
        pixels = pixels[:1]
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels + np.float32(0), dtype=np.float32).data)
    return digest.hexdigest()


def fingerprint(image: Image) -> dict[str, Any]:
    """Get what near duplicates share: a small gray picture that recompression and resizing hardly change.

    Returns:
        `thumbnail`: uint8 `(32, 32)`, the whole image stretched to a square, antialiased, contrast
        normalised (its 1st and 99th percentile are black and white), so that a copy that was
        recompressed, resized or brightened is nearly equal, and a flipped copy is its mirror image;
        of a volume the mean over the slices. `spread`: standard deviation before normalising, in
        0..1; near zero means a blank image whose thumbnail is noise. `aspect`: width / height.
    """
    planes = _gray_or_colour(image.display(), 1)[0]
    if planes.ndim == 3:
        planes = planes.mean(axis=0)
    small = _resize(planes, (_THUMBNAIL, _THUMBNAIL), None, "box")
    low, high = np.percentile(small, (1, 99))
    scaled = np.clip((small - low) / max(float(high - low), 1e-6), 0, 1)
    return {
        "thumbnail": np.rint(scaled * 255).astype(np.uint8),
        "spread": float(small.std()),
        "aspect": planes.shape[1] / planes.shape[0],
    }


def network_corners(corners: np.ndarray, *, size: tuple[int, int], network: tuple[int, int], fit: str) -> np.ndarray:
    """Bring corners of boxes from a file's pixels to those that `network_pixels` makes of it; exact, nothing is cut.

    Args:
        corners: `(M, 4)` x0, y0, x1, y1, edges of pixels.
        size: (H, W) of the file's picture.
        network: (H, W) of the network's.
        fit: as given to `network_pixels`.
    """
    scale, shift = _way(size, network, fit)
    return corners * scale + shift


def file_corners(corners: np.ndarray, *, size: tuple[int, int], network: tuple[int, int], fit: str) -> np.ndarray:
    """Bring corners of boxes back from the network's pixels to the file's; arguments as in `network_corners`."""
    scale, shift = _way(size, network, fit)
    return (corners - shift) / scale


def _way(size: tuple[int, int], network: tuple[int, int], fit: str) -> tuple[np.ndarray, np.ndarray]:
    """Factor and shift of x, y, x, y from the file to the network."""
    (rows, columns), (left, top, right, bottom) = _plan(*size, network, fit)
    scale = np.array([columns / (right - left), rows / (bottom - top)])
    pad = np.array([(network[1] - columns) // 2, (network[0] - rows) // 2])
    shift = pad - np.array([left, top]) * scale
    return np.tile(scale, 2), np.tile(shift, 2)


def way_back(values: np.ndarray, *, size: tuple[int, ...], fit: str = "stretch") -> np.ndarray:
    """Bring a map in network pixels to the pixels of the file that they were made of by `network_pixels`.

    Args:
        values: `(h, w)` or `(d, h, w)` float32, of the network's size.
        size: (H, W) or (D, H, W) of the file's picture or volume.
        fit: as it was given there; what "crop" cut away has no value, and gets 0. Volumes were stretched.

    Returns:
        `(H, W)` or `(D, H, W)` float32.
    """
    if len(size) == 3:
        depth, height, width = size
        flat = np.stack([_resize(layer, (height, width), None, "bilinear") for layer in np.asarray(values, np.float32)])
        return _resize(flat.reshape(len(flat), -1), (depth, height * width), None, "bilinear").reshape(size)
    height, width = size
    small = values.shape
    (rows, columns), (left, top, right, bottom) = _plan(height, width, small, fit)
    first, second = (small[0] - rows) // 2, (small[1] - columns) // 2
    shown = np.asarray(values, np.float32)[first : first + rows, second : second + columns]
    out = np.zeros((height, width), np.float32)
    part = (slice(round(top), round(bottom)), slice(round(left), round(right)))
    target = out[part].shape
    out[part] = _resize(shown, (target[0], target[1]), None, "bilinear")
    return out
