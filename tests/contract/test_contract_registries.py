"""What holds for every row of every registry, built in or from another package."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medgraft.errors import UnknownName
from medgraft.files import FORMATS
from medgraft.nets import BACKBONES
from medgraft.samples import LAYOUTS
from medgraft.tasks import TASKS

REGISTRIES = {"task": TASKS, "format": FORMATS, "layout": LAYOUTS, "backbone": BACKBONES}
ROWS = [(kind, name) for kind, registry in REGISTRIES.items() for name in registry]


def test_there_are_four_and_each_knows_its_kind():
    assert {registry.kind for registry in REGISTRIES.values()} == {"task", "format", "layout", "backbone"}
    assert all(len(registry) >= 4 for registry in REGISTRIES.values())


@pytest.mark.parametrize(("kind", "name"), ROWS)
def test_row_opens_and_is_documented(kind: str, name: str):
    thing: Any = REGISTRIES[kind][name]
    owner = thing if inspect.isclass(thing) or inspect.isfunction(thing) else inspect.getmodule(thing.read)
    assert inspect.getdoc(owner)


@pytest.mark.parametrize(("kind", "name"), [row for row in ROWS if row[0] != "backbone"])
def test_word_is_the_name_of_the_file(kind: str, name: str):
    thing = REGISTRIES[kind][name]
    module = thing.__module__ if inspect.isclass(thing) else thing.read.__module__
    assert module.rpartition(".")[2] == name
    if inspect.isclass(thing):
        assert thing.__name__ == name.capitalize()


@pytest.mark.parametrize("kind", REGISTRIES)
def test_a_slip_of_the_pen_gets_the_right_word(kind: str):
    registry = REGISTRIES[kind]
    word = max(registry, key=len)
    with pytest.raises(UnknownName, match=word):
        registry[word[:-1] + "x"]


@pytest.mark.parametrize("kind", REGISTRIES)
def test_the_plugin_road_is_open(kind: str, tmp_path: Path):
    """An installed package with an entry point is a row, like a built-in one, and is imported only when opened."""
    (tmp_path / "guest.py").write_text("THING = 'a thing of a guest'\n")
    info = tmp_path / "guest-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[medgraft.{kind}]\nguest-row = guest:THING\n")
    registry = {
        "task": "tasks:TASKS",
        "format": "files:FORMATS",
        "layout": "samples:LAYOUTS",
        "backbone": "nets:BACKBONES",
    }
    room, _, name = registry[kind].partition(":")
    code = (
        f"import sys, json; sys.path.insert(0, {str(tmp_path)!r})\n"
        f"from medgraft.{room} import {name} as rows\n"
        "listed = list(rows); early = 'guest' in sys.modules\n"
        "print(json.dumps([len(listed), 'guest-row' in listed, early, rows['guest-row']]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    count, listed, early, opened = json.loads(done.stdout)
    assert (count, listed, early, opened) == (len(REGISTRIES[kind]) + 1, True, False, "a thing of a guest")


def test_every_built_in_row_of_a_room_is_in_that_room():
    for registry, room in ((TASKS, "tasks"), (FORMATS, "files"), (LAYOUTS, "samples"), (BACKBONES, "nets")):
        for target in registry._rows.values():
            module = target.partition(":")[0]
            assert module.startswith(f"medgraft.{room}.")
            assert importlib.util.find_spec(module)
