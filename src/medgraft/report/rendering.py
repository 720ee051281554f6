"""Templates to one page that loads nothing: autoescape, a strict content policy, numbered figures.

Pages are inert, but for those with slices of scans to turn over: these run the one script that their policy names.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from medgraft.report import grids, phrases
from medgraft.report.score_names import interval_note, named

_TEMPLATES = Path(__file__).parent / "templates"


class _Numbers:
    """Figure 1, Figure 2 ..., counted anew for each page."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def __call__(self, kind: str) -> str:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return f"{kind} {self._counts[kind]}"


def environment() -> jinja2.Environment:
    """Get templates that escape every value, show None as a dash, and know the words of `phrases`."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    made.filters.update(
        whole=phrases.whole,
        decimal=phrases.decimal,
        percent=phrases.percent,
        interval=phrases.interval,
        with_interval=phrases.with_interval,
        duration=phrases.duration,
        listed=phrases.listed,
        count=phrases.count,
        sentence=phrases.sentence,
        rule=phrases.rule_words,
        task=phrases.task_words,
        breakable=phrases.breakable,
        named=named,
    )
    made.tests.update(given=_given)
    made.globals.update(
        number=_Numbers(), mini=grids.mini_interval, interval_note=interval_note, has_interval=phrases.has_interval
    )
    return made


def _given(value: object) -> bool:
    """Say whether a value was given: neither absent nor None."""
    return value is not None and not isinstance(value, jinja2.Undefined)


def _shown(value: object) -> object:
    if isinstance(value, Markup):
        return value
    if value is None:
        return "–"
    return phrases.clean(value) if isinstance(value, str) else value


def page(sections: Sequence[tuple[str, str]], *, frame: str, view: Mapping[str, Any], script: str | None = None) -> str:
    """Get the page: each section is a template that is dropped when it renders to nothing.

    Args:
        sections: (file stem, title) in order.
        frame: the template around them.
        view: what the templates read.
        script: a file beside the templates that the page runs; most pages run none.
    """
    made = environment()
    shown = []
    for stem, title in sections:
        body = made.get_template(f"{stem}.html").render(view).strip()
        if body:
            shown.append({"id": stem.replace("_", "-"), "title": title, "body": Markup(body)})
    style, run = _text("style.css"), _text(script) if script else ""
    words = {"sections": shown, "style": Markup(style), "script": Markup(run), "policy": _policy(style, run)}
    return made.get_template(frame).render({**view, **words})


@functools.cache
def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Get the content policy: nothing is loaded; the style block and any script are named by their hashes."""
    run = f"script-src '{_hash(script)}'; " if script else ""
    rest = "base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; {run}{rest}"


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
