"""Augmentation presets by kind of image: one page of numbers each, with the reason for every choice.

`augment.draw` turns ranges into the numbers of one sample, `augment.apply` carries
them out. The reasons are printed in the report.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from medgraft.errors import UnknownName
from medgraft.samples.modality import choose as choose

BORDERS = ("zeros", "border", "reflection")


def _number(meaning: str, default: float = 0.0) -> Any:
    return field(default=default, metadata={"doc": meaning})


@dataclass(frozen=True)
class Preset:
    """The ranges of the random changes of one kind of image; zero means never.

    Example:
        >>> PRESETS["chest"].with_(strength=0.5).rotation
        6.0
    """

    name: str = "none"
    border: str = field(default="zeros", metadata={"doc": "what lies outside: zeros (black), border, reflection"})
    rotation: float = _number("largest turn to either side, degrees")
    zoom_out: float = _number("largest shrinking, as a fraction: 0.1 shows the image at 1 / 1.1 of its size")
    zoom_in: float = _number("largest magnification, as a fraction: 0.25 shows it at 1.25 of its size")
    stretch: float = _number("largest change of the width to height ratio, as a fraction")
    shear: float = _number("largest shear to either side, degrees")
    shift: float = _number("largest shift along each axis, fraction of the side")
    flip_h: float = _number("probability of a left-right mirror")
    flip_v: float = _number("probability of an up-down mirror")
    turns: float = _number("probability of a turn by 0, 90, 180 or 270 degrees, all equally likely")
    elastic: float = _number("largest smooth local displacement, fraction of the side")
    elastic_p: float = _number("probability of the local displacement")
    brightness: float = _number("largest change of brightness, as a fraction (gain on the pixels)")
    contrast: float = _number("largest change of contrast around the image's mean, as a fraction")
    gamma: float = _number("largest gamma, as a fraction: 0.3 draws exponents from 1 / 1.3 to 1.3")
    saturation: float = _number("largest change of colourfulness, as a fraction; colour images only")
    hue: float = _number("largest turn of the hue to either side, degrees; colour images only")
    stain: float = _number("largest change of each stain's strength, as a fraction; colour images only")
    blur: float = _number("largest Gaussian blur, standard deviation as a fraction of the side")
    blur_p: float = _number("probability of blur")
    resolution: float = _number("largest loss of resolution, as a fraction: 1 keeps every second pixel")
    resolution_p: float = _number("probability of a loss of resolution")
    noise: float = _number("largest standard deviation of additive noise, of the full range")
    noise_p: float = _number("probability of additive noise")
    speckle: float = _number("largest standard deviation of multiplicative, grainy noise")
    speckle_p: float = _number("probability of multiplicative noise")
    bias: float = _number("largest slow change of brightness across the image, as a fraction")
    bias_p: float = _number("probability of the slow change of brightness")
    erase: float = _number("largest part of the area that is blanked by a rectangle")
    erase_p: float = _number("probability of a blanked rectangle")
    reasons: Mapping[str, str] = field(default_factory=dict)

    def with_(self, *, strength: float = 1.0, **changes: float | str) -> Preset:
        """Get a copy with fields replaced and every range scaled.

        Args:
            strength: 0 switches everything off, 1 keeps the preset, 2 doubles its ranges. Probabilities of
                optional changes grow with it up to 0.9; those of mirrors and turns stay, as they are symmetries.
            changes: fields of the preset and their new values (before scaling).

        Raises:
            UnknownName: no such field; the nearest names are given.
        """
        known = (*numbers(), "border")
        for name, value in changes.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3)
                hint = f"Did you mean {' or '.join(near)}?" if near else "See docs/augmentation.md for every field."
                raise UnknownName(f"an augmentation preset has no field {name!r}", do=hint)
            if name == "border" and value not in BORDERS:
                raise UnknownName(f"there is no border {value!r}", do=f"Known: {', '.join(BORDERS)}.")
        changed = replace(self, **changes)  # type: ignore[arg-type]
        if strength == 1.0:
            return changed
        scaled = {name: _scale(name, getattr(changed, name), strength) for name in numbers()}
        return replace(changed, **scaled)

    @property
    def active(self) -> bool:
        """Whether it changes anything at all."""
        return any(getattr(self, name) > 0 for name in numbers() if not name.endswith("_p"))


def _scale(name: str, value: float, strength: float) -> float:
    if strength <= 0:
        return 0.0
    if name in ("flip_h", "flip_v", "turns"):
        return value
    if name.endswith("_p"):
        return max(value, min(0.9, value * strength)) if strength > 1 else value * strength
    return min(value * strength, 0.9) if name in ("brightness", "contrast", "saturation", "erase") else value * strength


def numbers() -> tuple[str, ...]:
    """Get the names of the numeric fields, in order."""
    return tuple(f.name for f in fields(Preset) if f.name not in ("name", "border", "reasons"))


def meanings() -> dict[str, str]:
    """Get what every field of a preset means, in order."""
    return {f.name: str(f.metadata["doc"]) for f in fields(Preset) if "doc" in f.metadata}


_ROUND = "Nothing in the tissue says which side is up, so any turn and mirror shows a possible image."


def _with_losses(
    preset: Preset, *, blur: float = 0.012, resolution: float = 1.5, noise: float = 0.1, noise_p: float = 0.3
) -> Preset:
    """Add what detectors, lenses and archives lose, wide enough that a net does not rest on the finest grain."""
    reasons = {"noise": "Detectors, exposure and archives differ: some images are noisy, some blurred, some coarse."}
    reasons |= preset.reasons
    words = {"blur": blur, "resolution": resolution, "noise": noise}
    return replace(preset, **words, blur_p=0.2, resolution_p=0.2, noise_p=noise_p, reasons=reasons)


PRESETS: dict[str, Preset] = {
    "none": Preset(name="none", reasons={"all": "Every image is shown as it is."}),
    "generic": _with_losses(
        Preset(
            name="generic",
            border="border",
            rotation=15,
            zoom_out=0.1,
            zoom_in=0.25,
            stretch=0.1,
            shift=0.05,
            flip_h=0.5,
            brightness=0.3,
            contrast=0.3,
            gamma=0.3,
            saturation=0.3,
            hue=5,
            erase=0.05,
            erase_p=0.15,
            reasons={
                "geometry": "Small turns, shifts and magnifications are safe for almost every picture.",
                "flip_h": "A left-right mirror is allowed because nothing says that laterality matters here.",
                "flip_v": "No up-down mirror, because most pictures have a top and a bottom.",
                "intensity": "Moderate brightness, contrast and gamma stand in for other cameras and exposures.",
                "hue": "Hue moves little, because colour may be the sign that is looked for.",
            },
        )
    ),
    "fundus": _with_losses(
        Preset(
            name="fundus",
            border="zeros",
            rotation=30,
            zoom_out=0.1,
            zoom_in=0.2,
            stretch=0.05,
            shift=0.04,
            flip_h=0.5,
            flip_v=0.25,
            brightness=0.3,
            contrast=0.25,
            gamma=0.4,
            saturation=0.25,
            hue=6,
            bias=0.2,
            bias_p=0.2,
            reasons={
                "flip_h": "Left and right eyes are mirror images of each other, so a mirror shows a possible eye.",
                "rotation": "The tilt of the camera and the gaze turn the retina, and lesions look alike everywhere.",
                "gamma": "Flash, pupil and pigment change brightness strongly, so brightness and gamma vary strongly.",
                "hue": "Hue moves little, because the red of blood and the yellow of exudates are the signs.",
                "bias": "Uneven flash darkens one side of many photographs.",
                "blur": "Cataract and poor focus soften images; stronger blur than this would wipe out microaneurysms.",
            },
        )
    ),
    "chest": _with_losses(
        Preset(
            name="chest",
            border="zeros",
            rotation=12,
            zoom_out=0.1,
            zoom_in=0.3,
            stretch=0.08,
            shear=3,
            shift=0.05,
            brightness=0.2,
            contrast=0.25,
            gamma=0.3,
            erase=0.04,
            erase_p=0.2,
            reasons={
                "flip_h": "No left-right mirror, because heart, stomach and markers make laterality mean something.",
                "flip_v": "No up-down mirror, because the diaphragm is below the lungs in every film.",
                "rotation": "Patients are placed upright, so only the tilt of real films is drawn.",
                "gamma": "Exposure and the maker's processing differ between machines, so contrast and gamma vary.",
                "hue": "No hue or saturation, because the image is gray.",
                "zoom_in": "Films are collimated and cropped differently, so much of the margin may be missing.",
                "erase": "Small blanked patches keep the net from resting on one marker or tube.",
            },
        )
    ),
    "skin": _with_losses(
        Preset(
            name="skin",
            border="reflection",
            rotation=180,
            zoom_out=0.1,
            zoom_in=0.3,
            stretch=0.1,
            shear=5,
            shift=0.06,
            flip_h=0.5,
            flip_v=0.5,
            turns=1.0,
            brightness=0.3,
            contrast=0.3,
            gamma=0.3,
            saturation=0.3,
            hue=7,
            erase=0.05,
            erase_p=0.15,
            reasons={
                "rotation": "A dermoscope is held at any angle, so every turn and mirror shows a possible lesion.",
                "border": "Skin goes on outside the frame, so borders are mirrored, not blackened.",
                "hue": "Hue moves little, because blue-white veil and red vessels are diagnostic colours.",
                "brightness": "Skin tone, lamp and camera differ, so brightness, contrast and saturation vary.",
                "erase": "Small blanked patches keep the net from resting on a ruler, a hair or ink.",
            },
        )
    ),
    "histology": _with_losses(
        Preset(
            name="histology",
            border="reflection",
            rotation=180,
            zoom_out=0.1,
            zoom_in=0.15,
            stretch=0.03,
            shift=0.04,
            flip_h=0.5,
            flip_v=0.5,
            turns=1.0,
            elastic=0.01,
            elastic_p=0.1,
            brightness=0.1,
            contrast=0.1,
            stain=0.2,
            reasons={
                "rotation": _ROUND,
                "stain": "Laboratories stain differently, so haematoxylin, eosin and residual are scaled one by one.",
                "hue": "No plain hue shift, because it would make colours that no dye has.",
                "zoom_in": "Magnification moves little, because the size of a nucleus is a sign.",
                "border": "Tissue goes on outside the tile, so borders are mirrored.",
            },
        ),
        blur=0.008,
        resolution=1.0,
        noise=0.05,
    ),
    "ultrasound": _with_losses(
        Preset(
            name="ultrasound",
            border="zeros",
            rotation=10,
            zoom_out=0.1,
            zoom_in=0.2,
            stretch=0.08,
            shift=0.05,
            flip_h=0.5,
            brightness=0.25,
            contrast=0.25,
            gamma=0.3,
            speckle=0.15,
            speckle_p=0.35,
            bias=0.25,
            bias_p=0.25,
            reasons={
                "flip_h": "The probe may be held either way round, so a left-right mirror is a possible image.",
                "flip_v": "No up-down mirror, because depth and shadows run downwards from the probe.",
                "speckle": "Interference makes multiplicative grain that differs with probe and frequency.",
                "bias": "Time gain compensation brightens or darkens bands of depth.",
                "hue": "No hue or saturation, because the image is gray; colour there would be Doppler.",
            },
        ),
        noise=0.05,
        noise_p=0.2,
    ),
    "mr": _with_losses(
        Preset(
            name="mr",
            border="zeros",
            rotation=10,
            zoom_out=0.1,
            zoom_in=0.2,
            stretch=0.05,
            shear=2,
            shift=0.04,
            elastic=0.012,
            elastic_p=0.15,
            brightness=0.15,
            contrast=0.2,
            gamma=0.3,
            bias=0.3,
            bias_p=0.4,
            reasons={
                "rotation": "Slices follow the anatomy, so only small turns of the head or body are drawn.",
                "flip_h": "No left-right mirror, because the side of a lesion may be part of the label.",
                "gamma": "MR has no unit: gain and tissue contrast differ between scanners and sequences.",
                "bias": "Receive coils shade the image slowly from one side to the other.",
                "hue": "No hue or saturation, because the image is gray.",
            },
        )
    ),
    "ct": _with_losses(
        Preset(
            name="ct",
            border="zeros",
            rotation=8,
            zoom_out=0.1,
            zoom_in=0.12,
            stretch=0.04,
            shift=0.04,
            elastic=0.01,
            elastic_p=0.1,
            brightness=0.06,
            contrast=0.08,
            gamma=0.08,
            reasons={
                "rotation": "Patients lie in a known position, so only small turns are drawn.",
                "flip_h": "No left-right mirror, because liver, heart and spleen have their side.",
                "brightness": "Hounsfield units are absolute, so brightness, contrast and gamma hardly move.",
                "noise": "Dose and reconstruction kernel set noise and sharpness, so both vary.",
                "hue": "No hue or saturation, because the image is gray.",
            },
        ),
        blur=0.01,
        noise=0.08,
    ),
    "microscopy": _with_losses(
        Preset(
            name="microscopy",
            border="reflection",
            rotation=180,
            zoom_out=0.1,
            zoom_in=0.15,
            stretch=0.03,
            shift=0.04,
            flip_h=0.5,
            flip_v=0.5,
            turns=1.0,
            brightness=0.2,
            contrast=0.25,
            gamma=0.25,
            saturation=0.2,
            hue=5,
            bias=0.15,
            bias_p=0.2,
            reasons={
                "rotation": _ROUND,
                "zoom_in": "Magnification moves little, because the size of a cell is a sign.",
                "gamma": "Exposure, staining and fluorescence strength differ between runs.",
                "blur": "Cells lie slightly above or below the plane of focus.",
                "bias": "Lamps and condensers light the field unevenly.",
                "border": "Cells go on outside the frame, so borders are mirrored.",
            },
        ),
        resolution=1.0,
        noise=0.08,
    ),
}
_WHY = {**PRESETS["histology"].reasons, "hue": "Colours are drawn anew: stains of any kind shall do, so shape must."}
_ANY = {"hue": 180, "saturation": 0.7, "stain": 0.5, "brightness": 0.2, "contrast": 0.3, "gamma": 0.3}
PRESETS["restain"] = replace(PRESETS["histology"], name="restain", reasons=_WHY, **_ANY)


def preset(name: str) -> Preset:
    """Get a preset by its name.

    Raises:
        UnknownName: no such preset; the nearest names are given.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, list(PRESETS), n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(PRESETS)}."
        raise UnknownName(f"there is no augmentation preset named {name!r}", do=hint)
    return PRESETS[name]
