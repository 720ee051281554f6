"""The package's source as the house tests see it: parsed, never imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "medgraft"
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
SKIPPED_FOLDERS = {".git", ".venv", ".ruff_cache", ".pytest_cache", ".hypothesis", "__pycache__", "build", "dist"}
SKIPPED_FOLDERS |= {"runs", "demo", "site", "node_modules"}
TEXT = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".html", ".css", ".js", ".jinja", ".j2", ".csv", ".json", ""}


@dataclass(frozen=True)
class Module:
    """One file of the package: its dotted name, path, text and syntax tree."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The first word below the package: `files` of medgraft.files.dicom, `__init__` of medgraft itself."""
        return self.name.split(".")[1] if "." in self.name else "__init__"

    @property
    def where(self) -> str:
        return str(self.path.relative_to(ROOT))

    def at(self, node: ast.AST) -> str:
        return f"{self.where}:{getattr(node, 'lineno', 1)}"


@dataclass(frozen=True)
class Import:
    """One import: the dotted name it reaches, where, and whether only a type checker runs it."""

    target: str
    node: ast.AST
    typing_only: bool


@cache
def modules() -> tuple[Module, ...]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        found.append(Module(name, path, text, ast.parse(text, filename=str(path))))
    return tuple(found)


@cache
def module_names() -> frozenset[str]:
    return frozenset(module.name for module in modules())


def imports(module: Module) -> Iterator[Import]:
    """Every import of a file, those inside functions too, with relative ones resolved."""
    checked = _type_checking_nodes(module.tree)
    package = module.name if module.path.name == "__init__.py" else module.name.rpartition(".")[0]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node, id(node) in checked)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                # `from medgraft import files` reaches the room, `from medgraft.errors import Leak` the module.
                target = whole if whole in module_names() or not base.startswith("medgraft") else base
                yield Import(target, node, id(node) in checked)


def _base(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    above = parts[: len(parts) - node.level + 1]
    return ".".join([*above, node.module] if node.module else above)


def _type_checking_nodes(tree: ast.Module) -> set[int]:
    return {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
        for statement in node.body
        for inner in ast.walk(statement)
    }


def functions(module: Module) -> Iterator[tuple[str, FunctionNode, bool]]:
    """Every function as (dotted name inside the module, node, whether it is a method)."""
    yield from _functions(module.tree, "", False)


def _functions(node: ast.AST, prefix: str, in_class: bool) -> Iterator[tuple[str, FunctionNode, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FunctionNode):
            yield f"{prefix}{child.name}", child, in_class
            yield from _functions(child, f"{prefix}{child.name}.<locals>.", False)
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.", True)
        else:
            yield from _functions(child, prefix, in_class)


def is_public(dotted: str) -> bool:
    """Whether no part of the name is private or inside another function."""
    return not any(part.startswith("_") or part == "<locals>" for part in dotted.split("."))


def decorators(node: FunctionNode) -> set[str]:
    """The dotted names a function is decorated with, without their arguments."""
    return {ast.unparse(item.func if isinstance(item, ast.Call) else item) for item in node.decorator_list}


def arguments(node: FunctionNode, is_method: bool) -> tuple[list[str], list[str]]:
    """Names of the positional and of the keyword-only parameters, without self and cls."""
    positional = [item.arg for item in (*node.args.posonlyargs, *node.args.args)]
    if is_method and "staticmethod" not in decorators(node):
        positional = positional[1:]
    return positional, [item.arg for item in node.args.kwonlyargs]


@cache
def repository_files() -> tuple[Path, ...]:
    """Every text file of the repository, made things excepted."""
    found = []
    pending = [ROOT]
    while pending:
        for path in sorted(pending.pop().iterdir()):
            if path.is_dir() and not path.is_symlink():
                if path.name not in SKIPPED_FOLDERS and not path.name.endswith(".egg-info"):
                    pending.append(path)
            elif path.is_file() and path.suffix in TEXT:
                found.append(path)
    return tuple(found)


def listing(offenders: list[str]) -> str:
    """The offenders one a line, under a count."""
    return f"{len(offenders)} found:\n" + "\n".join(offenders)
