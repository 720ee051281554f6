"""What is public, that it is documented, and that it costs little to import."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from house_source import ROOT, listing, modules, repository_files

import medgraft

# A name here is a promise to other programs. It goes only with a decision page and a deprecation.
PUBLIC = {
    "MedgraftError",
    "Recipe",
    "Stopped",
    "UserError",
    "__version__",
    "audit",
    "backbones",
    "clean",
    "demo",
    "denoise",
    "depth",
    "doctor",
    "draw_phantoms",
    "evaluate",
    "explain",
    "export",
    "generate",
    "inspect",
    "measure",
    "open_run",
    "outline",
    "plan",
    "predict",
    "predict_pretrained",
    "project",
    "stress",
    "survey",
    "train",
}
COMMANDS = {
    "audit",
    "backbones",
    "clean",
    "demo",
    "denoise",
    "depth",
    "doctor",
    "evaluate",
    "explain",
    "export",
    "generate",
    "inspect",
    "measure",
    "outline",
    "phantoms",
    "plan",
    "predict",
    "project",
    "stress",
    "survey",
    "train",
}
HEAVY = {"torch", "torchvision", "timm", "lightning_fabric", "scipy", "sklearn", "pydicom", "nibabel"}
HEAVY |= {"PIL", "tifffile", "imagecodecs", "huggingface_hub", "safetensors", "numpy", "jinja2"}


def test_public_names_are_these():
    assert set(medgraft.__all__) == PUBLIC
    assert set(dir(medgraft)) >= PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"}))
def test_public_name_is_documented(name: str):
    thing = getattr(medgraft, name)
    assert inspect.getdoc(thing), f"medgraft.{name} has no docstring"
    assert name in (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), f"docs/python.md leaves out {name}"


def test_a_wrong_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="trane"):
        medgraft.trane  # noqa: B018


def test_version_is_the_one_of_the_project():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{medgraft.__version__}"' in text


def test_every_room_opens_what_it_promises():
    rooms = [module.name for module in modules() if module.path.name == "__init__.py" and "__all__" in module.text]
    offenders = []
    for name in rooms:
        room = importlib.import_module(name)
        offenders += [f"{name}.{word}" for word in room.__all__ if not hasattr(room, word)]
    assert not offenders, listing(offenders)


def test_no_module_hides_a_public_name():
    """Importing `medgraft.plan` sets the attribute `plan` of `medgraft`, whatever `__getattr__` would have given."""
    rooms = [module.name for module in modules() if module.path.name == "__init__.py" and "__all__" in module.text]
    offenders = []
    for module in modules():
        importlib.import_module(module.name)
    for name in rooms:
        room = importlib.import_module(name)
        offenders += [f"{name}.{word}" for word in room.__all__ if inspect.ismodule(getattr(room, word))]
    assert not offenders, listing(offenders)


def test_commands_are_these():
    page = _pages()["commands.md"]
    documented = set(re.findall(r"^## medgraft (\S+)$", page, flags=re.MULTILINE))
    assert documented == COMMANDS


@pytest.mark.parametrize("page", ["commands.md", "recipe.md", "python.md"])
def test_reference_pages_are_up_to_date(page: str):
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert written == _pages()[page], f"docs/{page} differs from the code; run make docs"


@pytest.mark.parametrize("page", ["commands.md", "recipe.md"])
def test_reference_pages_leave_no_meaning_empty(page: str):
    rows = re.findall(r"^\| (`.*)$", _pages()[page], flags=re.MULTILINE)
    meaning = 3 if page == "recipe.md" else 1
    empty = [row for row in rows if not re.split(r"(?<!\\)\|", row)[meaning].strip()]
    assert rows and not empty, listing(empty)


def test_every_recipe_field_is_on_its_page():
    from medgraft.recipe import fields

    page = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    missing = [name for name in fields() if f"| `{name}` |" not in page]
    assert not missing, listing(missing)


def test_pages_name_only_commands_and_options_that_exist():
    page = _pages()["commands.md"]
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page)) | {"--help", "--version"}
    offenders = []
    for path in _markdown():
        for line in _code_lines(path):
            match = re.match(r"(?:\$ )?(?:\.venv/bin/)?medgraft ([a-z]+)(.*)", line)
            if not match:
                continue
            unknown = [word for word in re.findall(r"(?<![\w-])--[a-z][a-z-]*", match[2]) if word not in options]
            if match[1] not in COMMANDS or unknown:
                offenders.append(f"{path.relative_to(ROOT)}: {line} {unknown or ''}")
    assert not offenders, listing(offenders)


def test_pages_name_only_recipe_fields_that_exist():
    from medgraft.recipe import fields

    offenders = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in _markdown()
        for name in re.findall(r"--set ([a-z_.]+)=", path.read_text(encoding="utf-8"))
        if name not in fields()
    ]
    assert not offenders, listing(offenders)


def test_pages_name_only_make_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    used = {
        (path, word)
        for path in _markdown()
        for word in re.findall(r"`make ([a-z-]+)", path.read_text(encoding="utf-8"))
    }
    offenders = [f"{path.relative_to(ROOT)}: make {word}" for path, word in sorted(used) if word not in targets]
    assert not offenders, listing(offenders)


def test_links_between_pages_lead_somewhere():
    offenders = []
    for path in _markdown():
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if "://" not in link and not (path.parent / link).exists():
                offenders.append(f"{path.relative_to(ROOT)} -> {link}")
    assert not offenders, listing(offenders)


def test_paths_on_the_architecture_page_exist():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[\w-]+/)*[\w-]+(?:\.py|/))`", page))
    missing = [name for name in named if not any((base / name).exists() for base in (ROOT, ROOT / "src" / "medgraft"))]
    assert named and not missing, listing(sorted(missing))


def test_examples_in_docstrings_run():
    ran = 0
    for module in modules():
        if ">>>" not in module.text:
            continue
        result = doctest.testmod(importlib.import_module(module.name), optionflags=doctest.NORMALIZE_WHITESPACE)
        assert not result.failed, (
            f"{module.where}: {result.failed} examples fail; see pytest --doctest-modules {module.where}"
        )
        ran += result.attempted
    assert ran


def test_importing_medgraft_loads_nothing_heavy():
    assert _loaded("import medgraft") == []


def test_help_loads_nothing_heavy():
    assert _loaded("import sys; sys.argv = ['medgraft', '--help']; from medgraft.cli import main; main()") == []


def test_help_of_a_command_loads_nothing_heavy():
    assert (
        _loaded("import sys; sys.argv = ['medgraft', 'train', '--help']; from medgraft.cli import main; main()") == []
    )


def test_listing_the_registries_loads_nothing_heavy():
    code = (
        "from medgraft.tasks import TASKS; from medgraft.files import FORMATS; from medgraft.samples import LAYOUTS;"
        "from medgraft.nets import BACKBONES; assert all(len(list(r)) for r in (TASKS, FORMATS, LAYOUTS, BACKBONES))"
    )
    assert _loaded(code) == []


def test_reading_images_and_scoring_load_no_torch():
    assert "torch" not in _loaded("from medgraft.files import read_image, header, list_images, read_many")
    rooms = [module.name for module in modules() if module.room in {"scores", "phantoms", "files"}]
    assert "torch" not in _loaded(f"import {', '.join(rooms)}")


def _loaded(code: str) -> list[str]:
    """The heavy libraries that a fresh interpreter has loaded after the code."""
    program = (
        "import atexit, json, sys\n"
        f"heavy = {sorted(HEAVY)!r}\n"
        "atexit.register(lambda: sys.stderr.write('\\n' + json.dumps([m for m in heavy if m in sys.modules])))\n"
        f"{code}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr.splitlines()[-1])


def _pages() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec and spec.loader
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    return build.pages()


def _markdown() -> list[Path]:
    return [path for path in repository_files() if path.suffix == ".md"]


def _code_lines(path: Path) -> list[str]:
    blocks = re.findall(r"^```\w*\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
