"""Writes docs/commands.md, docs/recipe.md and docs/python.md from the code itself.

    python docs/build.py           writes the pages
    python docs/build.py --check   says which page is out of date, and ends with 1

A house test runs the check, so a command or field cannot go undocumented.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
WRITTEN_BY = "<!-- Written by docs/build.py from the code. Do not edit: run `make docs`. -->"
SCALARS = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "empty"}


def pages() -> dict[str, str]:
    """Get file name -> Markdown of every generated page."""
    return {"commands.md": commands_page(), "recipe.md": recipe_page(), "python.md": python_page()}


def commands_page() -> str:
    """Get the page of all commands, with every argument and option."""
    import typer.main

    from medgraft.cli.app import app

    group: Any = typer.main.get_command(app)
    commands = {name: command for name, command in group.commands.items() if not command.hidden}
    lines = [
        "# Commands",
        "",
        WRITTEN_BY,
        "",
        "Results go to stdout, everything else to stderr. Exit codes: 0 done; 2 the user's mistake, said in one or two "
        "sentences; 3 the run stopped safely and `--resume` goes on; 1 a bug, with its trace.",
        "",
        "| command | does |",
        "|---|---|",
    ]
    lines += [
        f"| [`medgraft {name}`](#medgraft-{name}) | {_first(command.help)} |" for name, command in commands.items()
    ]
    for name, command in commands.items():
        lines += ["", *_command(name, command)]
    return "\n".join(lines) + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    yield f"## medgraft {name}"
    yield ""
    yield _paragraphs(command.help)
    yield ""
    arguments = [item for item in command.params if item.param_type_name == "argument"]
    options = [item for item in command.params if item.param_type_name == "option" and not item.hidden]
    words = [_word(item) + ("..." if item.nargs == -1 else "") for item in arguments]
    yield f"    {' '.join(['medgraft', name, *words, '[OPTIONS]'])}"
    for title, items in (("argument", arguments), ("option", options)):
        if items:
            yield ""
            yield f"| {title} | means | default |"
            yield "|---|---|---|"
            yield from (f"| {_flags(item)} | {_cell(item.help)} | {_default(item)} |" for item in items)


def _word(item: Any) -> str:
    """What stands for the value: PATH, N, or the name in capitals."""
    return (item.metavar or item.name.upper()).strip("[]")


def _flags(item: Any) -> str:
    if item.param_type_name == "argument":
        return f"`{_word(item)}`"
    names = [*item.opts, *item.secondary_opts]
    return ", ".join(f"`{name}`" if item.is_flag else f"`{name} {_cell(_word(item))}`" for name in names)


def _default(item: Any) -> str:
    value = item.default
    if callable(value):
        return ""
    if item.required:
        return "must be given"
    if value is None or value is False or value in ((), []) or repr(value).startswith("Sentinel"):
        return ""
    return f"`{getattr(value, 'value', value)}`"


def recipe_page() -> str:
    """Get the page of all recipe fields, section by section."""
    from medgraft.recipe import Recipe, Section

    lines = [
        "# The recipe",
        "",
        WRITTEN_BY,
        "",
        "`recipe.yaml` holds everything needed to do a run again, and it is the only configuration. `medgraft plan` "
        "writes the one that `train` would use, each choice with its reason; edit it, then `medgraft train DATA "
        "--recipe recipe.yaml --out RUN`. One field alone: `--set fit.epochs=5`. A field that does not exist is "
        "refused, with the nearest name.",
        "",
        "| field | takes | default | means |",
        "|---|---|---|---|",
    ]
    sections = []
    for name, field in Recipe.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            sections.append((name, kind))
        else:
            lines.append(_field(name, field))
    for name, kind in sections:
        lines += ["", f"## {name}", "", _paragraphs(kind.__doc__), "", "| field | takes | default | means |"]
        lines += ["|---|---|---|---|"]
        lines += [_field(f"{name}.{key}", field) for key, field in kind.model_fields.items()]
    return "\n".join(lines) + "\n"


def _field(path: str, field: Any) -> str:
    default = field.get_default(call_default_factory=True)
    shown = "" if default is None else f"`{json.dumps(default, ensure_ascii=False)}`"
    takes = _kind(field.annotation) + _bounds(field.metadata)
    return f"| `{path}` | {takes} | {shown} | {_cell(field.description)} |"


def _kind(annotation: Any) -> str:
    if annotation in SCALARS:
        return SCALARS[annotation]
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in inside)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_kind(item) for item in inside)
    if origin is typing.Annotated:
        return _kind(inside[0]) + _bounds(list(getattr(inside[1], "metadata", inside[1:])))
    if origin is tuple:
        return f"{len(inside)} values: {', '.join(_kind(item) for item in inside)}"
    if origin is dict:
        return f"{_kind(inside[0])} -> {_kind(inside[1])}"
    if origin is list:
        return f"list of {_kind(inside[0])}"
    return getattr(annotation, "__name__", str(annotation))


def _bounds(metadata: list[Any]) -> str:
    signs = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    limits = [
        f"{words} {getattr(item, sign):g}" for item in metadata for sign, words in signs.items() if hasattr(item, sign)
    ]
    return f", {', '.join(limits)}" if limits else ""


def python_page() -> str:
    """Get the page of the public Python names, with their signatures and docstrings."""
    import medgraft
    from medgraft.opened import Run

    things = {name: getattr(medgraft, name) for name in sorted(medgraft.__all__) if name != "__version__"}
    verbs = {name: thing for name, thing in things.items() if not inspect.isclass(thing)}
    classes = {name: thing for name, thing in things.items() if inspect.isclass(thing)}
    lines = [
        "# Python",
        "",
        WRITTEN_BY,
        "",
        "The same words as the commands, the same defaults, the same results. `import medgraft as mg` costs "
        "milliseconds: what is heavy loads when it is used. An error is one of the classes at the end, and says what "
        "is wrong, where, and what to do.",
    ]
    for name, thing in verbs.items():
        lines += ["", f"## {name}", "", *_described(f"mg.{name}", thing)]
    lines += ["", "## A run", "", "What `mg.open_run` gives.", "", *_members("run", Run)]
    lines += ["", "## Classes"]
    for name, thing in classes.items():
        lines += ["", f"### {name}", "", *_text(inspect.getdoc(thing))]
        if not issubclass(thing, Exception):
            lines += ["", *_members(name.lower(), thing)]
    return "\n".join(lines).rstrip() + "\n"


def _members(owner: str, kind: type) -> Iterator[str]:
    """The public attributes that a class itself defines."""
    for name, member in vars(kind).items():
        if name.startswith("_") or not inspect.getdoc(member) or name.startswith("model_"):
            continue
        if isinstance(member, property):
            yield from (f"`{owner}.{name}`: {_first(inspect.getdoc(member))}", "")
        elif inspect.isfunction(member):
            yield from (*_described(f"{owner}.{name}", member, bound=True), "")


def _described(name: str, thing: Any, *, bound: bool = False) -> Iterator[str]:
    signature = inspect.signature(thing)
    shown: list[str] = []
    starred = False
    for parameter in list(signature.parameters.values())[1 if bound else 0 :]:
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            shown.append("*")
            starred = True
        shown.append(_parameter(parameter))
    returns = "" if signature.return_annotation is signature.empty else f" -> {signature.return_annotation}"
    whole = f"{name}({', '.join(shown)}){returns}"
    if len(whole) > 100:
        whole = "\n".join([f"{name}(", *(f"    {item}," for item in shown), f"){returns}"])
    yield from _text(f"{whole}\n\n{inspect.getdoc(thing) or ''}")


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    kind = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
    if parameter.default is parameter.empty:
        return f"{stars}{parameter.name}{kind}"
    return f"{parameter.name}{kind} = {'...' if callable(parameter.default) else repr(parameter.default)}"


def _text(text: str | None) -> Iterator[str]:
    yield from ("```text", (text or "").strip(), "```")


def _first(text: str | None) -> str:
    return _cell(re.split(r"\n\s*\n", text or "")[0])


def _paragraphs(text: str | None) -> str:
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", (text or "").strip()))


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def main() -> int:
    """Write the pages, or check them.

    The exit code is 1 when `--check` finds a page that differs.
    """
    stale = []
    for name, text in pages().items():
        path = DOCS / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    if "--check" in sys.argv and stale:
        sys.stderr.write(f"Out of date: {', '.join(stale)}. Run make docs.\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
