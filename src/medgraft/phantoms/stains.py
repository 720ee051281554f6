"""Four stains of the kidney: which dye lies on what, and what light comes through it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medgraft.phantoms import endless
from medgraft.phantoms.canvas import COMPONENTS
from medgraft.phantoms.endless import Plane, Window

STAINS = ("H&E", "PAS", "trichrome", "silver")

# Share of red, green and blue light that comes through each component in a section of 3 um, in the order of
# COMPONENTS. H&E: pink proteins, blue nuclei. PAS: magenta basement membranes, brush borders and matrix. Masson's
# trichrome: blue collagen, red cells. Jones: silver on basement membranes and matrix, the rest as in a pale H&E.
_LIGHT: Mapping[str, tuple[tuple[float, float, float], ...]] = {
    "H&E": (
        (0.87, 0.54, 0.69),
        (0.88, 0.68, 0.81),
        (0.93, 0.66, 0.79),
        (0.85, 0.60, 0.76),
        (0.86, 0.55, 0.72),
        (0.88, 0.50, 0.66),
        (0.92, 0.72, 0.81),
        (0.92, 0.52, 0.67),
        (0.84, 0.26, 0.30),
        (0.29, 0.21, 0.50),
    ),
    "PAS": (
        (0.86, 0.69, 0.81),
        (0.89, 0.79, 0.88),
        (0.87, 0.62, 0.78),
        (0.78, 0.36, 0.62),
        (0.64, 0.15, 0.44),
        (0.85, 0.64, 0.79),
        (0.74, 0.36, 0.60),
        (0.76, 0.30, 0.56),
        (0.84, 0.62, 0.66),
        (0.36, 0.30, 0.57),
    ),
    "trichrome": (
        (0.80, 0.46, 0.55),
        (0.84, 0.64, 0.73),
        (0.45, 0.64, 0.82),
        (0.60, 0.60, 0.78),
        (0.34, 0.48, 0.75),
        (0.79, 0.37, 0.46),
        (0.82, 0.58, 0.68),
        (0.77, 0.42, 0.52),
        (0.86, 0.32, 0.24),
        (0.30, 0.18, 0.34),
    ),
    "silver": (
        (0.88, 0.72, 0.75),
        (0.90, 0.80, 0.82),
        (0.66, 0.60, 0.61),
        (0.50, 0.43, 0.45),
        (0.10, 0.08, 0.11),
        (0.85, 0.64, 0.69),
        (0.86, 0.75, 0.76),
        (0.88, 0.66, 0.69),
        (0.86, 0.50, 0.44),
        (0.40, 0.34, 0.54),
    ),
}


@dataclass(frozen=True, eq=False)
class Look:
    """How one section was cut, stained and photographed.

    Attributes:
        stain: one of `STAINS`.
        thickness_um: of the section.
        density: `(components, 3)` optical density of a full amount of each component.
        white: `(3,)` light of the empty glass.
        blur_um: of the focus.
        grain: standard deviation of the noise of the camera.
    """

    stain: str
    thickness_um: float
    density: np.ndarray
    white: np.ndarray
    blur_um: float
    grain: float


def look_of(plane: Plane, stain: str) -> Look:
    """Draw the look of the section on a plane."""
    rng = plane.rng("look")
    density = -np.log(np.array(_LIGHT[stain], np.float64))
    thickness = float(np.round(rng.choice([2.0, 2.5, 3.0, 3.5, 4.0], p=[0.2, 0.2, 0.3, 0.2, 0.1]), 1))
    strength = (thickness / 3.0) ** 0.6 * rng.lognormal(0, 0.2)
    dyes = strength * rng.lognormal(0, 0.15, (len(COMPONENTS), 1))
    # A dye that leans to another hue does so wherever it lies.
    density = density * dyes * rng.lognormal(0, 0.07, (1, 3))
    return Look(
        stain=stain,
        thickness_um=thickness,
        density=density.astype(np.float32),
        white=(np.array([0.945, 0.94, 0.945]) * rng.uniform(0.95, 1.035) + rng.normal(0, 0.008, 3)).astype(np.float32),
        blur_um=float(rng.choice([0.45, 0.75, 1.2, 2.0], p=[0.3, 0.4, 0.22, 0.08])),
        grain=float(rng.uniform(0.004, 0.012)),
    )


def margin(look: Look, pitch: float) -> int:
    """Get how many pixels beyond a picture its blur looks at."""
    return int(3.0 * look.blur_um / pitch + 0.5) + 1


def glass(look: Look, *, plane: Plane, window: Window) -> np.ndarray:
    """Get the picture of a window without tissue, `(H, W, 3)`, as `photograph` has it."""
    speck = np.float32(look.grain) * endless.grain(plane, window)
    light = np.stack([look.white[channel] + speck for channel in range(3)], axis=-1)
    return np.rint(np.clip(light, 0, 1) * 255).astype(np.uint8)


def photograph(
    parts: Mapping[str, np.ndarray], look: Look, *, plane: Plane, window: Window, thick: np.ndarray | None = None
) -> np.ndarray:
    """Get the 8-bit picture, `(H, W, 3)`.

    Args:
        parts: amounts of the components, `(H, W)`; they reach `margin` further than the picture on all sides.
        look: of the section.
        plane: whose noise of the camera is used.
        window: of the picture.
        thick: `(H, W)` how many times as thick the section is, of the shape of the parts; None for once everywhere.
    """
    around = margin(look, window.pitch)
    kept = slice(around, around + window.height), slice(around, around + window.width)
    speck = np.float32(look.grain) * endless.grain(plane, window)
    found = np.empty((window.height, window.width, 3), np.uint8)
    sigma = look.blur_um / window.pitch
    for channel in range(3):
        density = np.zeros(next(iter(parts.values())).shape, np.float32)
        for name, amount in zip(COMPONENTS, look.density[:, channel], strict=True):
            density += amount * parts[name]
        if thick is not None:
            density *= thick
        # What is blurred is the light that is lost, so that empty glass stays exactly as it is.
        lost = look.white[channel] * (1 - np.exp(-density))
        light = look.white[channel] - ndimage.gaussian_filter(lost, sigma, truncate=3.0)[kept] + speck
        found[..., channel] = np.rint(np.clip(light, 0, 1) * 255).astype(np.uint8)
    return found
