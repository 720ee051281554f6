"""The words for the ways to make a map, without loading what makes them: for help texts."""

from __future__ import annotations

SEVERITY = "severity"  # what the sum of the zones is called where a class is asked for
OF_ATTENTION = ("attention", "rollout")
METHOD_NAMES = ("hirescam", "layercam", "gradcam", "gradcam++", "occlusion", *OF_ATTENTION, SEVERITY)
METHODS_TOLD = (
    f"auto, {', '.join(name for name in METHOD_NAMES if name not in (*OF_ATTENTION, SEVERITY))}, "
    f"{' and '.join(OF_ATTENTION)} (transformers), {SEVERITY} (zones)."
)
