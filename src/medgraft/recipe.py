"""The recipe: everything needed to do a run again, typed, in one file.

It is the only configuration. `plan.py` fills what the data decide, each with
its reason; a person may edit the YAML; functions below take plain arguments.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from medgraft.errors import BadRecipe
from medgraft.recipe_anomaly import Anomaly
from medgraft.recipe_denoise import Denoising
from medgraft.recipe_generator import Generator, Synthetic
from medgraft.recipe_places import Boxes, Masks, Prompts, Section, Zones
from medgraft.storage import sha256_json, write_text

Thaw = Literal["auto", "head", "lora", "all"] | int


class Data(Section):
    """Which columns to read, and what may be wrong with the data."""

    label_column: str | None = Field(None, description="column of the label; found by itself when empty")
    patient_column: str | None = Field(None, description="column of the patient; found by itself when empty")
    split_column: str | None = Field(None, description="column of the split; found by itself when empty")
    boxes_column: str | None = Field(None, description="column of an annotation file an image; found by itself")
    mask_column: str | None = Field(None, description="column of a label map an image; found by itself")
    patients_unknown: bool = Field(False, description="say that nobody knows the patients, which silences the question")
    limit_bad: float = Field(1.0, ge=0, le=100, description="percentage of unreadable images above which the run stops")


class Split(Section):
    """How the samples are parted when the data do not say."""

    val: float = Field(0.1, gt=0, lt=0.9, description="part of the patients for validation")
    test: float = Field(0.2, gt=0, lt=0.9, description="part of the patients for the test")
    allow_leaks: bool = Field(False, description="train although splits share a patient or image; said on the report")
    limit_train: int | None = Field(None, ge=4, description="use only this many training images, whole patients first")


class Input(Section):
    """How a file becomes network pixels."""

    image_size: int | None = Field(None, ge=16, le=2048, description="side of the network's square in pixels; planned")
    channels: Literal["auto", 1, 3] = Field("auto", description="1 for gray, 3 for colour; auto asks the survey")
    fit: Literal["pad", "stretch", "crop"] = Field("pad", description="how a rectangle becomes a square")
    window: tuple[float, float] | None = Field(None, description="(centre, width) in the file's unit, such as HU")


class Backbone(Section):
    """The encoder and the head that is grafted on."""

    name: str = Field(
        "auto", description="auto, embedded:NAME, timm:NAME, torchvision:NAME, hf-hub:…, file:…, none:NAME"
    )
    sha256: str | None = Field(None, description="of the weights; other weights under this name are refused; planned")
    pooling: Literal["auto", "avg", "levels"] = Field(
        "auto", description="what the head sees: averages of the last level, or of three levels and the last's maxima"
    )
    recalibrate: bool | None = Field(
        None, description="measure BatchNorm's statistics anew on training images, without their labels; planned"
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout before the head")
    offline: bool = Field(False, description="never open a network connection")


class Depth(Section):
    """How much of the encoder is tuned."""

    thaw: Thaw = Field("auto", description="auto, head, all, how many stages from the head down are tuned, or lora")
    candidates: list[Thaw] | None = Field(
        None, min_length=1, description="depths that auto tries, such as [head, 1, all]; all when empty"
    )
    views: int | None = Field(
        None, ge=0, le=64, description="views of each image in the cache of the frozen layers; 0 = no cache; planned"
    )


class Augment(Section):
    """Random changes of training images."""

    preset: str = Field("auto", description="auto, none, or a preset by modality such as fundus or chest")
    strength: float = Field(1.0, ge=0, le=2, description="scales every range of the preset")


class Fit(Section):
    """The training loop."""

    probe: bool | None = Field(
        None, description="first put the head at its optimum on the untuned features, and go on from there; planned"
    )
    epochs: int | None = Field(
        None, ge=0, description="passes over the training images at most; 0 = the probe is the model; planned"
    )
    batch_size: int | None = Field(None, ge=1, description="images a step; planned")
    lr: float | None = Field(None, gt=0, description="peak learning rate of the encoder's last stage (AdamW); planned")
    head_lr: float | None = Field(None, gt=0, description="peak learning rate of the head; planned")
    layer_decay: float | None = Field(
        None, gt=0, le=1, description="factor on the rate of each stage further from the head; planned"
    )
    norms: Literal["auto", "batch", "stored"] = Field(
        "auto", description="BatchNorm of tuned stages: statistics of each batch, or those stored with the weights"
    )
    weight_decay: float = Field(0.05, ge=0, description="AdamW's weight decay; none on norms and biases")
    warmup: float = Field(0.1, ge=0, lt=1, description="part of all steps in which the rate rises from zero")
    clip: float = Field(1.0, ge=0, description="largest norm of the gradient; 0 = no limit")
    label_smoothing: float = Field(0.1, ge=0, lt=0.5, description="share of a label given to the other classes")
    mixup: float = Field(0.2, ge=0, le=2, description="alpha of mixup; 0 = off")
    balance: Literal["auto", "none", "weights", "sampling"] = Field(
        "auto", description="rare classes: weigh the loss, draw them more often, or leave them"
    )
    ema: float | None = Field(None, ge=0, lt=1, description="decay of the averaged weights; 0 = off; planned")
    patience: int | None = Field(
        None, ge=0, description="epochs without a better validation score before stopping; 0 = never; planned"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto measures at the start which is faster")
    channels_last: bool | None = Field(None, description="memory layout; measured at the start when empty")


class Scores(Section):
    """How the result is judged."""

    rule: str = Field(
        "youden", description="operating point on validation: youden, sensitivity>=0.95, specificity>=0.9"
    )
    prevalence: float | None = Field(None, gt=0, lt=1, description="prevalence at which PPV and NPV are stated as well")
    resamples: int = Field(2000, ge=100, description="bootstrap resamples of patients")
    positive: str | None = Field(None, description="the class that counts as positive when there are two")
    learning: bool = Field(True, description="ask what more training images would bring")
    shortcuts: bool = Field(True, description="ask what metadata, border and surroundings answer without the finding")
    maps: bool = Field(True, description="show where it looked beside the surest mistakes")
    stress: bool = Field(True, description="score changed test images too: turned, darker, blurred, compressed ...")


class Certainty(Section):
    """How sure single answers are."""

    coverage: float = Field(0.9, gt=0.5, lt=1, description="share of the sets of answers that are to hold the truth")
    familiar: float = Field(
        0.95, gt=0.5, le=1, description="share of images like the validation images that count as familiar"
    )


class Machine(Section):
    """Where it runs. The disk budget decides whether frozen layers show stored views or new ones in each epoch."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1")
    workers: int = Field(0, ge=0, description="extra processes that prepare batches")
    cache_gb: float = Field(20.0, ge=0, description="disk budget for decoded images and frozen layers")
    save_seconds: float = Field(30.0, ge=0, description="seconds between checkpoints; each epoch's end may save")


class Recipe(Section):
    """Everything needed to do a run again."""

    medgraft: str = Field("", description="version that wrote it")
    task: str = Field(
        "auto",
        description="classify, multilabel, grade, regress, localise, detect, segment, outline, diffuse, stylegan, "
        "anomaly, denoise; auto: by the data",
    )
    seed: int = Field(0, ge=0, description="every random draw is a function of it")
    data: Data = Data()  # type: ignore[call-arg]
    zones: Zones = Zones()  # type: ignore[call-arg]
    boxes: Boxes = Boxes()  # type: ignore[call-arg]
    masks: Masks = Masks()  # type: ignore[call-arg]
    prompts: Prompts = Prompts()  # type: ignore[call-arg]
    generator: Generator = Generator()  # type: ignore[call-arg]
    anomaly: Anomaly = Anomaly()  # type: ignore[call-arg]
    synthetic: Synthetic = Synthetic()  # type: ignore[call-arg]
    denoise: Denoising = Denoising()  # type: ignore[call-arg]
    split: Split = Split()  # type: ignore[call-arg]
    input: Input = Input()  # type: ignore[call-arg]
    backbone: Backbone = Backbone()  # type: ignore[call-arg]
    depth: Depth = Depth()  # type: ignore[call-arg]
    augment: Augment = Augment()  # type: ignore[call-arg]
    fit: Fit = Fit()  # type: ignore[call-arg]
    scores: Scores = Scores()  # type: ignore[call-arg]
    certainty: Certainty = Certainty()  # type: ignore[call-arg]
    machine: Machine = Machine()  # type: ignore[call-arg]
    reasons: dict[str, str] = Field(default_factory=dict, description="why a planned field has its value")

    def changed(self, values: Mapping[str, Any]) -> Recipe:
        """Get a copy with dotted fields replaced, such as {"fit.epochs": 5}.

        Raises:
            BadRecipe: no such field, or the value does not fit; names both.
        """
        tree = self.model_dump()
        for path, value in values.items():
            _put(tree, path, value)
            if path != "reasons":
                tree["reasons"].pop(path, None)  # the reason was for the former value
        return parse(tree)

    def fingerprint(self) -> str:
        """Get the sha256 of what decides the result (not machine, not reasons)."""
        return sha256_json(self.model_dump(mode="json", exclude={"machine", "reasons"}))

    def to_yaml(self) -> str:
        """Get the recipe as YAML, its fields explained in comments."""
        lines = ["# medgraft recipe: edit it, then: medgraft train DATA --recipe THIS --out RUN"]
        for name, field in Recipe.model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Section):
                lines += ["", f"{name}:  # {(type(value).__doc__ or '').strip().rstrip('.')}"]
                lines += [
                    _line(key, getattr(value, key), f.description, "  ") for key, f in type(value).model_fields.items()
                ]
            elif name == "reasons":
                text = yaml.safe_dump({name: dict(value)}, sort_keys=False, allow_unicode=True, width=1000)
                lines += ["", text.rstrip()]
            else:
                lines.append(_line(name, value, field.description, ""))
        return "\n".join(lines) + "\n"

    def save(self, path: Path) -> None:
        """Write the YAML atomically."""
        write_text(path, self.to_yaml())


def _line(name: str, value: Any, why: str | None, indent: str) -> str:
    plain = json.dumps(value, ensure_ascii=False)  # JSON is YAML, on one line
    return f"{indent}{name}: {plain}  # {why}"


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    at: Any = tree
    for name in parents:
        at = at.get(name) if isinstance(at, dict) else None
    if not isinstance(at, dict) or last not in at:
        near = difflib.get_close_matches(path, fields(), n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else "See docs/recipe.md for every field."
        raise BadRecipe(f"the recipe has no field {path!r}", do=hint)
    at[last] = value


def fields() -> dict[str, str]:
    """Get every field as a dotted path, with what it means."""
    found: dict[str, str] = {}
    for name, field in Recipe.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            for key, inner in kind.model_fields.items():
                found[f"{name}.{key}"] = inner.description or ""
        else:
            found[name] = field.description or ""
    return found


def parse(tree: Mapping[str, Any], *, where: object = None) -> Recipe:
    """Get a recipe from plain values.

    Raises:
        BadRecipe: every field that does not fit, with what was given.
    """
    try:
        return Recipe.model_validate(dict(tree))
    except ValidationError as error:
        raise BadRecipe(_say(error), where=where, do="See docs/recipe.md for every field.") from None


def _say(error: ValidationError) -> str:
    said: dict[str, str] = {}
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"] if not _is_branch(part))
        given = item.get("input")
        shown = "" if isinstance(given, dict) else f" (got {given!r})"
        said.setdefault(path, f"{path}{_words(item['type'], item['msg'])}{shown}")
    return "; ".join(said.values())


def _words(kind: str, text: str) -> str:
    """What pydantic says, for a person who never heard of it."""
    if kind == "extra_forbidden":
        return ": there is no such field"
    if text.startswith("Input should be "):
        return f" should be {text.removeprefix('Input should be ')}"
    return f": {text}"


def _is_branch(part: object) -> bool:
    """Tell pydantic's names of union branches from field names."""
    return isinstance(part, str) and (part in ("int", "float", "constrained-float") or part.startswith("literal["))


# What the commands and the Python verbs call an option, and the field it sets.
OPTIONS = {
    "task": "task",
    "seed": "seed",
    "backbone": "backbone.name",
    "offline": "backbone.offline",
    "depth": "depth.thaw",
    "epochs": "fit.epochs",
    "batch_size": "fit.batch_size",
    "image_size": "input.image_size",
    "augment": "augment.preset",
    "label_column": "data.label_column",
    "patient_column": "data.patient_column",
    "split_column": "data.split_column",
    "boxes_column": "data.boxes_column",
    "mask_column": "data.mask_column",
    "patients_unknown": "data.patients_unknown",
    "limit_bad": "data.limit_bad",
    "synthetic": "synthetic.run",
    "ratio": "synthetic.ratio",
    "device": "machine.device",
    "workers": "machine.workers",
}


def with_options(recipe: Recipe, options: Mapping[str, Any], *, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Get the recipe changed by options that are not None, then by dotted settings.

    Raises:
        BadRecipe: no such option or field, or a value that does not fit.
    """
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        near = difflib.get_close_matches(unknown[0], list(OPTIONS), n=1)
        raise BadRecipe(f"there is no option {unknown[0]!r}", do=f"Did you mean {near[0]!r}?" if near else None)
    changes = {OPTIONS[name]: value for name, value in options.items() if value is not None}
    changes |= dict(settings or {})
    return recipe.changed(changes) if changes else recipe


def load(path: Path) -> Recipe:
    """Read a recipe's YAML (data only: no tags that make objects).

    Raises:
        BadRecipe: the file is missing, no YAML, or a field does not fit.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRecipe(f"the recipe cannot be read ({error.strerror})", where=path) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadRecipe(f"this is not YAML: {_yaml_fault(error)}", where=path) from None
    if not isinstance(tree, dict):
        raise BadRecipe("a recipe is a list of fields and values", where=path)
    return parse(tree, where=path)


def _yaml_fault(error: Exception) -> str:
    """What is wrong and in which line."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error).splitlines()[0]
    return f"{getattr(error, 'problem', None) or 'it cannot be read'} in line {mark.line + 1}"


def setting(text: str) -> tuple[str, Any]:
    """Get (dotted field, value) from `key=value`; the value is read as YAML.

    Example:
        >>> setting("fit.epochs=5")
        ('fit.epochs', 5)
    """
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise BadRecipe(f"--set takes key=value, got {text!r}", do="For instance --set fit.epochs=5.")
    try:
        return name.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        return name.strip(), value
