"""What must not be in the source: code that runs code from files, hosts, machines."""

from __future__ import annotations

import ast
import re
import tomllib

import pytest
from house_source import ROOT, listing, modules, repository_files

# Functions that turn bytes of a file into code, by the end of their dotted name.
RUNS_FILES = {
    ("pickle", "load"),
    ("pickle", "loads"),
    ("pickle", "Unpickler"),
    ("dill", "load"),
    ("dill", "loads"),
    ("cloudpickle", "load"),
    ("cloudpickle", "loads"),
    ("joblib", "load"),
    ("marshal", "load"),
    ("marshal", "loads"),
    ("shelve", "open"),
    ("yaml", "load"),
    ("yaml", "load_all"),
    ("yaml", "unsafe_load"),
    ("os", "system"),
}
# Keyword arguments that open the same door.
BAD_KEYWORDS = {
    ("allow_pickle", True),
    ("weights_only", False),
    ("trust_remote_code", True),
    ("shell", True),
    ("verify", False),
}


# These two talk through a pipe that only they hold: the pool and the decoding process it starts.
OWN_PIPE = {"medgraft.files.pool", "medgraft.files.worker"}


def _calls():
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call):
                yield module, node, ast.unparse(node.func)


def test_no_file_is_run_as_code():
    offenders = []
    for module, node, called in _calls():
        parts = tuple(called.split("."))
        piped = parts[0] == "pickle" and module.name in OWN_PIPE
        if parts[-2:] in RUNS_FILES and not piped or called in {"eval", "exec", "compile", "__import__"}:
            offenders.append(f"{module.at(node)} calls {called}")
        if parts[-1] in {"extractall", "unpack_archive"}:
            offenders.append(f"{module.at(node)} calls {called}: unpack member by member, with checked names")
    assert not offenders, listing(offenders)


def test_no_keyword_opens_a_door():
    offenders = [
        f"{module.at(node)} {called}({keyword.arg}={keyword.value.value})"
        for module, node, called in _calls()
        for keyword in node.keywords
        if isinstance(keyword.value, ast.Constant) and (keyword.arg, keyword.value.value) in BAD_KEYWORDS
    ]
    assert not offenders, listing(offenders)


def test_torch_loads_weights_only():
    offenders = []
    for module, node, called in _calls():
        if called.split(".")[-2:] != ["torch", "load"]:
            continue
        given = {item.arg: item.value for item in node.keywords}.get("weights_only")
        if not (isinstance(given, ast.Constant) and given.value is True):
            offenders.append(f"{module.at(node)} torch.load without weights_only=True")
    assert not offenders, listing(offenders)


def test_pickle_is_imported_for_one_pipe_only():
    offenders = [
        f"{module.at(node)} imports {name}"
        for module in modules()
        if module.name not in OWN_PIPE
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [item.name for item in node.names])
        if name in {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    ]
    assert not offenders, listing(offenders)


@pytest.mark.parametrize(
    ("why", "pattern"),
    [
        (
            "a registry or index of packages",
            r"pypi\.(org|python)|pythonhosted\.org|download\.pytorch\.|(extra-)?index-url",
        ),
        ("a folder of one machine", r"(?<![\w.])/(work|root|home/\w+|Users/\w+)/|[A-Z]:\\\\?Users\\"),
        ("a note to oneself", r"\b(TODO|FIXME|XXX)\b"),
    ],
)
def test_no_file_names(why: str, pattern: str):
    offenders = []
    for path in repository_files():
        if path.is_relative_to(ROOT / "tests" / "house"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if re.search(pattern, line):
                offenders.append(f"{path.relative_to(ROOT)}:{number} names {why}: {line.strip()[:100]}")
    assert not offenders, listing(offenders)


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(_canonical(line).split("==") for line in lines if line and not line.startswith("#"))


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+(?=[^=]*==)", "-", name.lower())


def test_constraints_are_exact_and_name_no_host():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text
    wrong = [
        line for line in text.splitlines() if not re.fullmatch(r"#.*|[A-Za-z0-9][\w.-]*==[0-9][\w.!+]*( ;.*)?", line)
    ]
    assert not wrong, listing(wrong)


def test_constraints_pin_every_direct_dependency():
    extras = _project()["optional-dependencies"]
    rows = [*_project()["dependencies"], *extras["dev"], *extras["onnx"]]
    wanted = {re.split(r"[\[<>=!~; ]", row)[0].lower().replace("_", "-") for row in rows} - {"medgraft"}
    missing = sorted(wanted - set(_pins()))
    assert not missing, f"not in constraints.txt: {missing}"


def test_constraints_are_what_is_installed():
    """The pins are the versions these very tests ran with."""
    from importlib.metadata import PackageNotFoundError, version

    different = []
    for name, pinned in _pins().items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue
        if installed.partition("+")[0] != pinned:
            different.append(f"{name}: pinned {pinned}, installed {installed}")
    assert not different, listing(different)


def test_lightning_fabric_is_not_the_release_that_carried_malware():
    assert _pins()["lightning-fabric"] not in {"2.6.2", "2.6.3"}
    row = next(row for row in _project()["dependencies"] if row.startswith("lightning-fabric"))
    assert "!=2.6.2" in row and "!=2.6.3" in row
