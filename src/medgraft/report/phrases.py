"""Numbers and names as words: one way to write each, everywhere on the page."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

# Control characters, and the marks that turn the direction of text around (they can disguise a name).
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(words: str) -> str:
    """Get text without control characters, direction marks and lone surrogates; each becomes a visible sign."""
    return _UNSEEN.sub("\ufffd", words)


def decimal(value: float | None, digits: int = 3) -> str:
    """Get a number with a fixed count of decimals and a true minus sign; "not computable" for None and NaN."""
    if value is None or not math.isfinite(value):
        return "not computable"
    if abs(value) >= 1000:
        return whole(round(value)).replace("-", "−")
    if abs(value) >= 100:
        digits = min(digits, 1)
    words = f"{value:.{digits}f}"
    return "0" + words[2:] if words.strip("-0.") == "" and words.startswith("-") else words.replace("-", "−")


def whole(value: float) -> str:
    """Get a count with thin spaces between thousands.

    Example:
        >>> whole(11181642).replace(chr(0x202F), " ")
        '11 181 642'
    """
    return f"{round(value):,}".replace(",", "\u202f")


def count(number: int, one: str, many: str | None = None) -> str:
    """Get a count with its noun.

    Example:
        >>> count(1, "image"), count(2, "image")
        ('1 image', '2 images')
    """
    return f"{whole(number)} {one if number == 1 else many or one + 's'}"


def tuned_words(depth: Mapping[str, Any]) -> str:
    """Get how much of the encoder was tuned.

    Args:
        depth: that of a report.

    Example:
        >>> tuned_words({"thawed_stages": 2, "of": 5}), tuned_words({"thawed_stages": 5, "of": 5, "adapters": 8})
        ('2 of 5 stages thawed', 'low-rank adapters in all 5 stages')
    """
    if depth.get("adapters"):
        return f"low-rank adapters in all {depth.get('of')} stages"
    return f"{depth['thawed_stages']} of {depth.get('of')} stages thawed"


def percent(share: float | None, digits: int = 0) -> str:
    """Get a share as a percentage; never rounds to 0 or 100 what is not."""
    if share is None or not math.isfinite(share):
        return "not computable"
    least = 10.0**-digits
    if 0 < share * 100 < least / 2:
        return f"< {least:g}\u00a0%"
    if 100 - least / 2 < share * 100 < 100:
        return f"> {100 - least:g}\u00a0%"
    return f"{share * 100:.{digits}f}\u00a0%"


def value_of(score: Mapping[str, Any] | None) -> float | None:
    """Get the number of a score, or None where there is none."""
    value = (score or {}).get("value")
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def has_interval(score: Mapping[str, Any] | None) -> bool:
    """Say whether both ends of a score's interval are numbers."""
    ends = [(score or {}).get(name) for name in ("low", "high")]
    return all(isinstance(end, int | float) and math.isfinite(end) for end in ends)


def interval(score: Mapping[str, Any] | None, digits: int = 3) -> str:
    """Get "0.861 to 0.952", or "" where there is no interval."""
    if not score or not has_interval(score):
        return ""
    return f"{decimal(score['low'], digits)} to {decimal(score['high'], digits)}"


def with_interval(score: Mapping[str, Any] | None, digits: int = 3) -> str:
    """Get "0.912 (95 % CI 0.861 to 0.952)" with hard spaces, or why there is no value or no interval."""
    value = value_of(score)
    why = (score or {}).get("why")
    if value is None:
        return f"not computable ({why})" if why else "not computable"
    ends = interval(score, digits)
    note = f"95\u00a0%\u00a0CI {ends}" if ends else f"no interval{f': {why}' if why else ''}"
    return f"{decimal(value, digits)} ({note})"


def share_with_interval(score: Mapping[str, Any] | None) -> str:
    """Get "88 % (95 % CI 79 % to 93 %)"."""
    value = value_of(score)
    if value is None or not score or not has_interval(score):
        return with_interval(score)
    return f"{percent(value)} (95\u00a0%\u00a0CI {percent(score['low'])} to {percent(score['high'])})"


def duration(seconds: float | None) -> str:
    """Get a time span in the two largest fitting units."""
    if seconds is None or not math.isfinite(seconds):
        return "unknown"
    if seconds < 10:
        return f"{seconds:.1f}\u00a0s"
    if seconds < 90:
        return f"{seconds:.0f}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def sentence(words: object) -> str:
    """Get words as a sentence: a capital first, a full stop last.

    Example:
        >>> sentence("made with seed 0")
        'Made with seed 0.'
    """
    text = str(words).strip()
    return f"{text[:1].upper()}{text[1:]}" + ("" if text[-1:] in ".?!:" else ".") if text else ""


def rule_words(rule: object) -> str:
    """Get how a threshold was chosen.

    Example:
        >>> rule_words("sensitivity>=0.95")
        'a sensitivity of at least 0.95'
    """
    name, _, wanted = str(rule or "").partition(">=")
    if wanted:
        return f"a {name.strip()} of at least {wanted.strip()}"
    known = {"youden": "Youden’s index", "argmax": "the most probable class", "median grade": "the median grade"}
    return known.get(name, name) or "a fixed rule"


def breakable(words: object) -> str:
    """Get a name that may go on in the next line after each of its underscores."""
    return str(words).replace("_", "_\u200b")


def task_words(task: object) -> str:
    """Get a task as the noun that stands in a title.

    Example:
        >>> task_words("classify")
        'classification'
    """
    known = {
        "classify": "classification",
        "multilabel": "multi-label classification",
        "grade": "grading",
        "regress": "regression",
        "localise": "diagnosis and severity of zones",
        "detect": "detection",
        "segment": "segmentation",
        "outline": "promptable segmentation",
        "anomaly": "anomaly detection",
    }
    return known.get(str(task), str(task))


def listed(words: list[str], last: str = "and") -> str:
    """Get "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else ""
