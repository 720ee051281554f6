"""Work for reader processes over a corpus."""

from __future__ import annotations

from typing import Any

import numpy as np


def ask(ref: Any) -> dict[str, Any]:
    """Read an image as it is shown and give its facts."""
    from medgraft.files import read_image

    image = read_image(ref)
    return {"shape": image.pixels.shape, "finite": bool(np.isfinite(image.pixels).all()), "notes": image.notes}
