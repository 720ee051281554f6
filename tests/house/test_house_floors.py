"""Imports only point down, and a library stays in its room."""

from __future__ import annotations

import ast
import re
import sys
import tomllib

from house_source import ROOT, Module, imports, listing, modules

# Floor -> rooms. docs/architecture.md draws the same picture, and a test below holds them together.
FLOORS = {
    0: {"errors", "registry", "values", "seeds", "version"},
    1: {"files", "storage", "weights"},
    2: {"samples", "nets", "scores", "phantoms"},
    3: {"tasks"},
    4: {"learn"},
    5: {"recipe", "recipe_places", "recipe_generator", "recipe_anomaly", "recipe_denoise"},
    6: {"gather", "surveying", "planning", "assemble", "run", "judge", "opened", "outside", "pages", "report"}
    | {"reporting", "pretrained", "exporting", "checkup", "depth_finder", "depth_trials", "explanation", "gallery"}
    | {"depth_rounds"}
    | {"caching", "preparing", "enough", "shortcuts", "changed", "stressing", "explaining", "inspecting"}
    | {"severity", "resuming", "predicted", "detection", "segmentation", "places", "fitting", "shelf", "outlining"}
    | {"place_depth", "cleaning", "generation", "synthetic", "headline", "anomaly", "denoising", "restoring"},
    7: {"api"},
    8: {"cli", "server", "__init__", "__main__"},
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
NOWHERE = max(FLOORS) + 1  # a room that is not drawn; the first test names it
STAGES = FLOORS[2]
TOGETHER = FLOORS[6]

# Library -> where it may be imported: a room, or one module of a room.
LIBRARIES = {
    "timm": {"nets"},
    "captum": {"explanation"},
    "torchvision": {"nets"},
    "monai": {"nets"},
    "segmentation_models_pytorch": {"nets"},
    "transformers": {"nets"},
    "lightning_fabric": {"learn"},
    "pydicom": {"files"},
    "nibabel": {"files"},
    "PIL": {"files", "report"},
    "tifffile": {"files"},
    "imagecodecs": {"files"},
    "openslide": {"files"},
    "pydantic": {"recipe", "recipe_places", "recipe_generator", "recipe_anomaly", "server", "recipe_denoise"},
    "yaml": {"recipe", "samples.yolo_names"},
    "typer": {"cli"},
    "click": {"cli"},
    "rich": {"cli"},
    "fastapi": {"server"},
    "safetensors": {"weights", "learn.resume"},
    "huggingface_hub": {"weights"},
    "pycocotools": {"scores"},
    "sklearn": {"scores", "samples.split"},
    "skimage": {"samples.things", "samples.measures", "denoising.filters"},
    "scipy": {"scores", "explanation", "samples.split", "samples.duplicates", "samples.tissue", "files", "phantoms"}
    | {"samples.lungs", "samples.candidates", "samples.mask_facts", "samples.mask_edges", "samples.things"}
    | {
        "samples.contours",
        "samples.measures",
        "samples.textures",
        "samples.showing",
        "samples.marks",
        "cleaning.picture",
    }
    | {"segmentation.facts", "samples.islands", "outlining.volumes", "outlining.written", "generation.judge"}
    | {"denoising.filters", "samples.noise"},
    "jinja2": {"report"},
    "markupsafe": {"report"},
    "onnx": {"exporting"},
    "onnxruntime": {"exporting"},
    "onnxscript": {"exporting"},
    "torch": {"values", "weights", "nets", "tasks", "learn", "api"}
    | (TOGETHER - {"report", "planning", "gather", "surveying"})
    | {"samples.loader", "samples.augment", "samples.crew", "samples.stress", "samples.box_loader", "samples.patches"}
    | {"samples.mask_patches", "samples.prompted"},
}
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml", "click": "typer", "markupsafe": "jinja2"}
DISTRIBUTIONS |= {"openslide": "openslide-python", "skimage": "scikit-image"}
DISTRIBUTIONS |= {"segmentation_models_pytorch": "segmentation-models-pytorch"}
DISTRIBUTIONS |= {"lightning_fabric": "lightning-fabric", "huggingface_hub": "huggingface-hub"}

# A word that means a task, and nothing else below the tasks' floor ...
TASKS = {"classify", "multilabel", "regress", "localise", "diffuse", "stylegan", "anomaly", "denoise"}
# ... and words that may also be a grade of disease, a line segment, the outline of a lesion:
# these are wrong only where something is compared with them.
TASKS_TOO = {"grade", "detect", "segment", "outline", "generate"}


def test_every_room_has_a_floor():
    unknown = sorted({module.room for module in modules()} - set(FLOOR_OF))
    assert not unknown, f"rooms without a floor: {unknown}; draw them in docs/architecture.md and add them here"


def test_imports_only_point_down():
    offenders = []
    for module in modules():
        for item in imports(module):
            if item.target.split(".")[0] != "medgraft":
                continue
            room = _room(item.target)
            if _floor(room) > _floor(module.room):
                offenders.append(f"{module.at(item.node)} imports {item.target}, which is on a higher floor")
    assert not offenders, listing(offenders)


def test_names_in_strings_only_point_down():
    """Rows such as "medgraft.files.dicom:DICOM" are imports too."""
    row = re.compile(r"medgraft(\.\w+)+(:\w+)?")
    offenders = []
    for module in modules():
        for node in ast.walk(module.tree):
            if not (isinstance(node, ast.Constant) and isinstance(node.value, str) and row.fullmatch(node.value)):
                continue
            room = _room(node.value.partition(":")[0])
            if room in FLOOR_OF and FLOOR_OF[room] > _floor(module.room):
                offenders.append(f"{module.at(node)} names {node.value}, which is on a higher floor")
    assert not offenders, listing(offenders)


def test_stages_do_not_import_each_other():
    offenders = [
        f"{module.at(item.node)} imports {item.target}"
        for module in modules()
        if module.room in STAGES
        for item in imports(module)
        if item.target.startswith("medgraft.") and _room(item.target) in STAGES - {module.room}
    ]
    assert not offenders, listing(offenders)


def test_rooms_form_no_ring():
    reaches: dict[str, set[str]] = {module.room: set() for module in modules()}
    for module in modules():
        targets = {_room(item.target) for item in imports(module) if item.target.split(".")[0] == "medgraft"}
        reaches[module.room] |= targets - {module.room}
    while leaves := [room for room, targets in reaches.items() if not targets & set(reaches)]:
        for room in leaves:
            del reaches[room]
    assert not reaches, f"these rooms import each other in a ring: {sorted(reaches)}"


def test_libraries_stay_in_their_rooms():
    offenders = []
    for module in modules():
        for item in imports(module):
            library = item.target.split(".")[0]
            if library in sys.stdlib_module_names or library in {"medgraft", "numpy"}:
                continue
            if library not in LIBRARIES:
                offenders.append(f"{module.at(item.node)} imports {library}, which has no room; give it one here")
            elif not item.typing_only and not _allowed(module, LIBRARIES[library]):
                offenders.append(f"{module.at(item.node)} imports {library}; its rooms: {sorted(LIBRARIES[library])}")
    assert not offenders, listing(offenders)


def test_values_know_torch_as_a_type_only():
    values = next(module for module in modules() if module.name == "medgraft.values")
    assert all(item.typing_only for item in imports(values) if item.target.startswith("torch"))


def test_imported_libraries_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = [*project["dependencies"], *(row for rows in project["optional-dependencies"].values() for row in rows)]
    declared = {re.split(r"[\[<>=!~; ]", row)[0].lower() for row in rows}
    imported = {item.target.split(".")[0] for module in modules() for item in imports(module)}
    used = {DISTRIBUTIONS.get(name, name) for name in imported if name in LIBRARIES}
    assert used <= declared, f"imported but not in pyproject.toml: {sorted(used - declared)}"


def test_no_task_is_named_below_the_tasks_floor():
    offenders = []
    for module in modules():
        if _floor(module.room) >= FLOOR_OF["tasks"]:
            continue
        for node in ast.walk(module.tree):
            offenders += [f"{module.at(node)} names the task {word!r}" for word in _task_words(node)]
    assert not offenders, listing(offenders)


def test_architecture_page_draws_these_floors():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn: dict[int, set[str]] = {}
    for line in page.splitlines():
        if match := re.match(r"\| (\d) [^|]*\|([^|]*)\|", line):
            drawn[int(match[1])] = set(re.findall(r"`(\w+)(?:/|\.py)?`", match[2]))
    built = {module.room for module in modules()}
    assert set(drawn) == set(FLOORS)
    for floor, rooms in drawn.items():
        assert rooms <= FLOORS[floor], f"floor {floor} of the page has rooms the test does not know"
        missing = (FLOORS[floor] & built) - rooms - {"__main__"}
        assert not missing, f"floor {floor} of docs/architecture.md leaves out {sorted(missing)}"


def _floor(room: str) -> int:
    return FLOOR_OF.get(room, NOWHERE)


def _room(target: str) -> str:
    return target.split(".")[1] if "." in target else "__init__"


def _allowed(module: Module, places: set[str]) -> bool:
    inside = module.name.removeprefix("medgraft.")
    return any(inside == place or inside.startswith(f"{place}.") for place in places | {module.room} & places)


def _task_words(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Compare):
        compared = [inner for side in (node.left, *node.comparators) for inner in ast.walk(side)]
        return [item.value for item in compared if isinstance(item, ast.Constant) and item.value in TASKS_TOO]
    if isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant) and node.value.value in TASKS_TOO:
        return [str(node.value.value)]
    names = {"id": ast.Name, "arg": (ast.arg, ast.keyword), "attr": ast.Attribute}
    names |= {"name": (ast.FunctionDef, ast.ClassDef, ast.alias), "value": ast.Constant}
    for field, kinds in names.items():
        word = getattr(node, field, None)
        if isinstance(node, kinds) and isinstance(word, str) and word.lower() in TASKS:
            return [word]
    return []
