"""Sizes, names and docstrings."""

from __future__ import annotations

import ast
import re

from house_source import FunctionNode, arguments, decorators, functions, is_public, listing, modules
from test_house_floors import TOGETHER

LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 60
PARAMETERS = 9
POSITIONAL = 2
# A command's parameters are its options, so the limit on their number is not for them.
COMMANDS = "medgraft.cli"
# Its arguments have one natural order: seed, purpose, epoch, index.
ORDERED = {"medgraft.seeds"}
# Names that a library calls with its own arguments.
CALLED_BY_LIBRARIES = {"forward", "backward", "__exit__", "__get_validators__"}
METHODS_OF_TORCH = {"train", "eval", "state_dict", "load_state_dict"}
BAD_NAMES = re.compile(r"(.*_)?(utils?|helpers?|common|misc|managers?|stuff|tools?)|.*(_new|_old|_v\d+)")


def test_files_are_short():
    lengths = {module.where: len(module.text.splitlines()) for module in modules()}
    offenders = [f"{where}: {count} lines" for where, count in lengths.items() if count >= LINES_OF_A_FILE]
    assert not offenders, listing(offenders)


def test_functions_are_short():
    offenders = []
    for module in modules():
        for name, node, _ in functions(module):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length >= LINES_OF_A_FUNCTION:
                offenders.append(f"{module.at(node)} {name}: {length} lines")
    assert not offenders, listing(offenders)


def test_parameters_are_few():
    offenders = []
    for module in modules():
        if module.name.startswith(COMMANDS):
            continue
        for name, node, is_method in functions(module):
            positional, keywords = arguments(node, is_method)
            if len(positional) + len(keywords) > PARAMETERS:
                offenders.append(f"{module.at(node)} {name}: {len(positional) + len(keywords)} parameters")
    assert not offenders, listing(offenders)


def test_parameters_after_the_second_have_names():
    """Where one room calls another; inside a room its own readers know the order.

    The files that put a run together are one room here.
    """
    called = _called_from_other_rooms()
    offenders = []
    for module in modules():
        if module.name in ORDERED or module.name.startswith(COMMANDS):
            continue
        for name, node, is_method in functions(module):
            if not is_public(name) or node.name in CALLED_BY_LIBRARIES:
                continue
            positional, _ = arguments(node, is_method)
            if len(positional) > POSITIONAL and f"{module.name}.{name.split('.')[0]}" in called:
                offenders.append(f"{module.at(node)} {name}({', '.join(positional)})")
    assert called and not offenders, listing(offenders)


def test_no_module_has_a_name_that_says_nothing():
    offenders = [module.where for module in modules() if BAD_NAMES.fullmatch(module.name.rpartition(".")[2])]
    assert not offenders, listing(offenders)


def test_modules_say_what_they_are():
    offenders = [module.where for module in modules() if module.tree.body and not ast.get_docstring(module.tree)]
    assert not offenders, listing(offenders)


def test_public_functions_have_docstrings():
    inherited = _documented_methods()
    offenders = []
    for module in modules():
        for name, node, is_method in functions(module):
            if not is_public(name) or ast.get_docstring(node) or _documented_elsewhere(node):
                continue
            if is_method and node.name in METHODS_OF_TORCH:
                continue
            if name not in inherited:
                offenders.append(f"{module.at(node)} {name}")
    assert not offenders, listing(offenders)


def test_public_classes_have_docstrings():
    offenders = [
        f"{module.at(node)} {node.name}"
        for module in modules()
        for node in module.tree.body
        if isinstance(node, ast.ClassDef) and is_public(node.name) and not ast.get_docstring(node)
    ]
    assert not offenders, listing(offenders)


def test_test_files_have_their_own_names():
    """Without packages under tests/, two files of one name hide each other."""
    from house_source import ROOT

    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    twice = sorted({name for name in names if names.count(name) > 1})
    assert not twice, f"more than one file is called {twice}"


def _called_from_other_rooms() -> set[str]:
    """Dotted names of functions and classes that a file of another room imports, or reaches through its module."""
    found = set()
    for module in modules():
        nicknames = {}
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "medgraft":
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    if _room(whole.split(".")[1]) != _room(module.room):
                        found.add(whole)
                        nicknames[alias.asname or alias.name] = whole
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in nicknames:
                found.add(f"{nicknames[node.value.id]}.{node.attr}")
    # A name that a room offers at its door stands for the function behind it.
    doors = {module.name: module for module in modules() if module.path.name == "__init__.py"}
    behind = {name for name in found if name.rpartition(".")[0] in set(doors) - {"medgraft"}}
    inside = {
        f"{module.name}.{name}"
        for module in modules()
        for name, _, _ in functions(module)
        if f"{module.name.rpartition('.')[0]}.{name}" in behind
    }
    return found | inside


def _room(word: str) -> str:
    return "together" if word in TOGETHER else word


def _documented_methods() -> set[str]:
    """Methods "Class.name" that a base class in the package documents, however far up."""
    bases: dict[str, list[str]] = {}
    described: dict[str, set[str]] = {}
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = [ast.unparse(base).split("[")[0].rpartition(".")[2] for base in node.bases]
                methods = [item for item in node.body if isinstance(item, FunctionNode)]
                described[node.name] = {item.name for item in methods if ast.get_docstring(item)}

    def known(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
        above = [base for base in bases.get(name, []) if base not in seen]
        return described.get(name, set()).union(*(known(base, seen | {name}) for base in above))

    return {f"{name}.{method}" for name in bases for method in known(name)}


def _documented_elsewhere(node: FunctionNode) -> bool:
    """An override, an overload, a setter; and `forward`, which its class describes."""
    marks = decorators(node)
    return bool(marks & {"overload", "typing.overload", "override", "typing.override"}) or (
        node.name in CALLED_BY_LIBRARIES or any(mark.endswith((".setter", ".register")) for mark in marks)
    )
