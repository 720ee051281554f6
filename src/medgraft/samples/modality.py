"""Which augmentation preset a data set calls for: from DICOM headers, then names, then looks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_BY_MODALITY = {
    "CR": "chest", "DX": "chest", "CT": "ct", "MR": "mr", "US": "ultrasound", "IVUS": "ultrasound",
    "SM": "histology", "GM": "microscopy", "OP": "fundus", "OPM": "fundus",
}  # fmt: skip

_BY_WORD = (
    ("fundus", ("fundus", "retina", "retinopathy", "glaucoma", "macula", "amd", "odir", "messidor", "aptos")),
    (
        "chest",
        ("chest", "cxr", "xray", "x-ray", "pneumonia", "covid", "lung", "tuberculosis", "thorax"),
    ),
    ("skin", ("skin", "derm", "ham10000", "melanoma", "nevus", "naevus", "isic", "lesion")),
    ("histology", ("histo", "patholog", "pcam", "camelyon", "tissue", "slide", "h&e", "stain", "glomerul")),
    ("ultrasound", ("ultrasound", "sonograph", "echo", "busi")),
    ("mr", ("mri", "brain", "glioma", "meningioma", "t1w", "t2w", "flair")),
    ("ct", ("ct", "nodule", "hounsfield")),
    ("microscopy", ("blood", "cell", "smear", "malaria", "microscop", "wbc", "leukocyte", "nuclei", "bccd")),
)


def choose(survey_facts: Mapping[str, Any]) -> tuple[str, str]:
    """Choose a preset from what the survey saw, for `--augment auto`.

    Args:
        survey_facts: any of `modalities` (DICOM Modality -> count), `words` (class, file and folder names),
            `gray` (share of gray images, 0..1), `saturation` and `corners` (0..1) and `rgb` (mean of
            the displayed images). Missing facts are not used.

    Returns:
        The preset's name, and a sentence that says why.

    Example:
        >>> choose({"modalities": {"MR": 40}})[0]
        'mr'
    """
    modalities = {str(k).upper(): int(v) for k, v in (survey_facts.get("modalities") or {}).items()}
    if modalities:
        common = max(modalities, key=lambda name: modalities[name])
        if common in _BY_MODALITY:
            name = _BY_MODALITY[common]
            return name, f"{modalities[common]} images say DICOM modality {common}, so the {name} preset is used."
    gray = survey_facts.get("gray")
    found = _by_words(survey_facts.get("words") or (), gray)
    if found:
        name, word = found
        return name, f"The names of the data mention {word!r}, so the {name} preset is used."
    return _by_look(survey_facts)


_GRAY_KINDS = ("chest", "ultrasound", "mr", "ct")
_COLOUR_KINDS = ("fundus", "skin", "histology")


def _by_words(words: Iterable[str], gray: float | None) -> tuple[str, str] | None:
    """The kind that most words speak for; kinds that the colours speak against do not count."""
    scores: dict[str, tuple[int, str]] = {}
    texts = [str(word).lower() for word in words]
    for name, signs in _BY_WORD:
        if gray is not None and ((name in _GRAY_KINDS and gray < 0.5) or (name in _COLOUR_KINDS and gray > 0.5)):
            continue
        hits = [sign for sign in signs if any(_mentions(text, sign) for text in texts)]
        if hits:
            scores[name] = (len(hits), hits[0])
    if not scores:
        return None
    best = max(scores, key=lambda name: scores[name][0])
    return best, scores[best][1]


def _mentions(text: str, sign: str) -> bool:
    if len(sign) > 3:
        return sign in text
    parts = "".join(c if c.isalnum() else " " for c in text).split()
    return sign in parts


def _by_look(facts: Mapping[str, Any]) -> tuple[str, str]:
    gray, corners = facts.get("gray"), facts.get("corners")
    rgb = facts.get("rgb")
    if gray is not None and gray < 0.5 and rgb and corners is not None:
        red, green, blue = (float(v) for v in rgb[:3])
        if corners < 0.1 and red > 1.4 * blue and red > green:
            return "fundus", "The images are reddish discs on black corners, as fundus photographs are."
        if red > 1.08 * green and blue > 1.12 * green and (red + green + blue) / 3 > 0.4:
            return "histology", "The images are pink and violet without dark corners, as stained tissue is."
    if gray is not None and gray > 0.5:
        return "generic", "The images are gray and nothing names their kind, so the generic preset is used."
    return "generic", "Nothing names the kind of the images, so the generic preset is used."
