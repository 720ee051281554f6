"""The work of a decoding process: one file in, network pixels out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medgraft.values import ImageRef


def network_input(ref: ImageRef, network: Mapping[str, Any]) -> np.ndarray:
    """Get the network pixels `(C, [D,] H, W)` of one image, uint8 or uint16.

    Args:
        ref: where the image is.
        network: what `files.network_pixels` takes, and optionally `window`, (centre, width).

    Raises:
        BadImage: the file cannot be read as an image.
    """
    from medgraft import files

    wanted = dict(network)
    window = wanted.pop("window", None)
    wanted["size"] = tuple(wanted["size"])
    image = files.read_image(ref, window=None if window is None else (float(window[0]), float(window[1])))
    return files.network_pixels(image, **wanted)
