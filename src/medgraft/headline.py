"""A report as a notebook shows it: its headline."""

from __future__ import annotations

import html
from typing import Any


class Report(dict[str, Any]):
    """What report.json holds; shows its headline in a notebook."""

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{score['value']:.3f}</td>"
            f"<td>{score['low']:.3f} to {score['high']:.3f}</td><td>{score['n']}</td></tr>"
            for name, score in self["scores"]["test"].items()
            if score.get("value") is not None and score.get("low") is not None
        )
        return f"<table><tr><th>score</th><th>value</th><th>95 % interval</th><th>n</th></tr>{rows}</table>"
