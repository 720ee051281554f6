"""Wrong input: exit code 2, one or two sentences on stderr that help, nothing on stdout, never a traceback."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

QUICK = ("--backbone", "none:timm:test_resnet", "--image-size", "32", "--batch-size", "8", "--epochs", "1")
FAST = ("--set", "fit.precision=fp32", "--set", "fit.channels_last=false", "--set", "scores.resamples=100")


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run the command line in this process and get its exit code."""
    from medgraft.cli import main

    monkeypatch.setattr(sys, "argv", ["medgraft", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


class Place:
    """A folder with one finished run, a table, pictures, and mistakes made on demand."""

    def __init__(self, root: Path) -> None:
        from tiny_data import make_tiny_data

        self.root = root
        self.table = make_tiny_data(root / "tiny")
        self.image = self.table.parent / "p00_0.png"
        self.run = root / "run"
        self.new = root / "new"

    def csv(self, text: str, *, name: str = "wrong.csv", encoding: str = "utf-8") -> Path:
        """Get a table of this text, beside the pictures."""
        path = self.table.parent / name
        path.write_text(text, encoding=encoding)
        return path

    def others(self) -> Path:
        """Get a table of pictures that the run has not seen, with classes that it does not know."""
        from tiny_data import make_tiny_data

        folder = self.root / "others"
        table = folder / "table.csv" if folder.exists() else make_tiny_data(folder, patients=6, size=44)
        table.write_text(table.read_text().replace(",ill,", ",sick,"))
        return self.csv("path,label\n" + "\n".join(f"../others/p{i:02d}_0.png,{'ab'[i % 2]}" for i in range(6)))

    def rows(self, *rows: str, head: str = "path,label,patient") -> Path:
        """Get a table of these rows."""
        return self.csv("\n".join([head, *rows]) + "\n")

    def some(self, label: Callable[[int], str], *, count: int = 24, head: str = "path,label") -> Path:
        """Get a table of `count` pictures of different patients, labelled by `label`."""
        return self.rows(*(f"p{i:02d}_0.png,{label(i)}" for i in range(count)), head=head)

    def file(self, name: str, content: bytes | str = b"") -> Path:
        """Get a file of this content."""
        path = self.root / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def folder(self, name: str, **files: bytes) -> Path:
        """Get a folder with these files."""
        path = self.root / "folders" / name
        path.mkdir(parents=True, exist_ok=True)
        for inside, content in files.items():
            (path / inside.replace("_", ".")).write_bytes(content)
        return path

    def one_class(self) -> Path:
        """Get a folder with a single class in it."""
        path = self.root / "folders" / "alone" / "ill"
        path.mkdir(parents=True, exist_ok=True)
        for i in range(4):
            shutil.copy(self.table.parent / f"p0{i}_0.png", path)
        return path.parent

    def volumes(self) -> Path:
        """Get a folder with a class of volumes and another."""
        import nibabel

        path = self.root / "folders" / "volumes"
        for i in range(6):
            (path / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
            array = np.random.default_rng(i).integers(0, 900, (12, 12, 6)).astype(np.int16)
            nibabel.Nifti1Image(array, np.eye(4)).to_filename(path / "ab"[i % 2] / f"{i}.nii.gz")
        return path

    def copied_run(self, name: str) -> Path:
        """Get a copy of the finished run, to damage."""
        path = self.root / name
        if not path.exists():
            shutil.copytree(self.run, path)
        return path

    def cut_model(self) -> Path:
        """Get a run whose model lost its second half."""
        path = self.copied_run("cut")
        model = path / "model.safetensors"
        model.write_bytes((self.run / "model.safetensors").read_bytes()[: model.stat().st_size // 2])
        return path

    def flipped_model(self) -> Path:
        """Get a run in whose model the header is garbage."""
        path = self.copied_run("flipped")
        data = bytearray((self.run / "model.safetensors").read_bytes())
        data[8:40] = b"\xff" * 32
        (path / "model.safetensors").write_bytes(data)
        return path

    def broken_report(self) -> Path:
        """Get a run whose report.json was cut off."""
        path = self.copied_run("cut_report")
        (path / "report.json").write_text('{"medgraft": "0.1')
        return path

    def unfinished(self) -> Path:
        """Get a run folder that holds a recipe and no model."""
        path = self.root / "unfinished"
        path.mkdir(exist_ok=True)
        shutil.copy(self.run / "recipe.yaml", path)
        return path

    def npz(self, **arrays: Any) -> Path:
        """Get an archive of these arrays."""
        path = self.root / "files" / "some.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)
        return path

    def recipe(self, text: str) -> Path:
        """Get a recipe of this text."""
        return self.file("recipe.yaml", text)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Get the place, with its run trained by the command itself."""
    root = tmp_path_factory.mktemp("errors")
    patch = pytest.MonkeyPatch()
    patch.setenv("MEDGRAFT_HOME", str(root / "home"))
    made = Place(root)
    words = ("train", made.table, "--out", made.run, "--label-column", "label", *QUICK, *FAST, "--quiet")
    assert run(patch, *words) == 0
    patch.undo()
    return made


def train(data: object, *more: object) -> list[object]:
    """The words of a training that is to fail."""
    return ["train", data, "--out", Path(os.devnull).parent / "never", *QUICK, *more]


Words = Callable[[Place], list[object]]
SAID: dict[str, tuple[Words, str]] = {
    # the command line itself
    "no such command": (lambda p: ["trian", p.table], "trian"),
    "no such option": (lambda p: ["train", p.table, "--out", p.new, "--epoch", 3], "--epoch"),
    "no out": (lambda p: ["train", p.table], "--out"),
    "no data": (lambda p: ["train"], "data"),
    "epochs is a word": (lambda p: ["train", p.table, "--out", p.new, "--epochs", "many"], "--epochs"),
    "batch size of predict": (lambda p: ["predict", p.run, p.image, "--batch-size", 0], "batch-size"),
    # options and recipe
    "fewer than no epochs": (lambda p: ["train", p.table, "--out", p.new, "--epochs", -1], "fit.epochs"),
    "no epochs and no probe": (lambda p: train(p.table, "--epochs", 0, "--set", "fit.probe=false"), "fit.probe"),
    "no epochs and a depth": (lambda p: train(p.table, "--epochs", 0, "--depth", 2), "--depth head"),
    "negative seed": (lambda p: ["train", p.table, "--out", p.new, "--seed", -1], "seed"),
    "tiny image size": (lambda p: ["train", p.table, "--out", p.new, "--image-size", 4], "input.image_size"),
    "limit of 200 percent": (lambda p: ["train", p.table, "--out", p.new, "--limit-bad", 200], "data.limit_bad"),
    "unknown task": (lambda p: train(p.table, "--task", "clasify"), "classify"),
    "task of another version": (lambda p: train(p.table, "--task", "caption"), "caption"),
    "images that stylegan cannot draw": (
        lambda p: train(p.table, "--task", "stylegan", "--set", "generator.shape=[48,48]"),
        "power of two",
    ),
    "images that diffusion cannot draw": (
        lambda p: train(p.table, "--task", "diffuse", "--set", "generator.shape=[36,36]"),
        "multiples of 8",
    ),
    "depth is a word": (lambda p: train(p.table, "--depth", "deep"), "depth.thaw"),
    "unknown preset": (lambda p: train(p.table, "--augment", "fundos"), "fundus"),
    "unknown device": (lambda p: train(p.table, "--device", "tpu"), "auto, cpu"),
    "device that is not there": (lambda p: train(p.table, "--device", "cuda:99"), "cuda:99"),
    "set without a value": (lambda p: train(p.table, "--set", "nonsense"), "key=value"),
    "set an unknown field": (lambda p: train(p.table, "--set", "fit.epoch=3"), "fit.epochs"),
    "set a wrong value": (lambda p: train(p.table, "--set", "fit.lr=fast"), "fit.lr"),
    "set two values for one": (lambda p: train(p.table, "--set", "input.window=40"), "input.window"),
    "set broken YAML": (lambda p: train(p.table, "--set", "fit.lr=[1,"), "fit.lr"),
    "prevalence is no number": (lambda p: train(p.table, "--set", "scores.prevalence=.nan"), "scores.prevalence"),
    "prevalence of two": (lambda p: train(p.table, "--set", "scores.prevalence=2"), "scores.prevalence"),
    "unknown rule": (lambda p: train(p.table, "--set", "scores.rule=best"), "sensitivity>=0.95"),
    "rule above one": (lambda p: train(p.table, "--set", "scores.rule=sensitivity>=95"), "sensitivity>=0.95"),
    "missing recipe": (lambda p: train(p.table, "--recipe", p.root / "none.yaml"), "none.yaml"),
    "recipe is a folder": (lambda p: train(p.table, "--recipe", p.root), "recipe"),
    "recipe is no YAML": (lambda p: train(p.table, "--recipe", p.recipe("a: [1\nb: }")), "YAML"),
    "recipe is a list": (lambda p: train(p.table, "--recipe", p.recipe("- a\n- b\n")), "fields"),
    "recipe with an unknown field": (lambda p: train(p.table, "--recipe", p.recipe("fit: {epoch: 2}")), "fit.epoch"),
    "recipe with a wrong value": (lambda p: train(p.table, "--recipe", p.recipe("seed: x")), "seed"),
    "recipe with code in it": (
        lambda p: train(p.table, "--recipe", p.recipe("seed: !!python/object/apply:os.getpid []")),
        "YAML",
    ),
    "recipe is an image": (lambda p: train(p.table, "--recipe", p.image), "YAML"),
    # the backbone
    "unknown backbone": (lambda p: train(p.table, "--backbone", "resnet1888"), "resnet18"),
    "unknown source": (lambda p: train(p.table, "--backbone", "keras:vgg16"), "keras"),
    "unknown timm net": (lambda p: train(p.table, "--backbone", "none:timm:resnet1888"), "resnet18"),
    "missing weight file": (lambda p: train(p.table, "--backbone", "file:none.safetensors"), "no such file"),
    "weights are no weights": (
        lambda p: train(p.table, "--backbone", f"file:{p.file('w.safetensors', b'PK' * 99)},arch=timm:test_resnet"),
        "w.safetensors",
    ),
    "weights do not say what they are": (
        lambda p: train(p.table, "--backbone", f"file:{p.file('w.pth', b'PK' * 99)}"),
        "arch=",
    ),
    "offline and not here": (lambda p: train(p.table, "--offline", "--backbone", "timm:resnet18"), "offline"),
    "predict with no run": (lambda p: ["predict", p.root / "runs" / "a", p.image], "run"),
    "random numbers have no classes": (lambda p: ["predict", "none:timm:test_resnet", p.image], "trained weights"),
    # paths
    "no such data": (lambda p: train(p.root / "nowhere"), "nowhere"),
    "survey of nothing": (lambda p: ["survey", p.root / "nowhere"], "nowhere"),
    "plan of nothing": (lambda p: ["plan", p.root / "nowhere"], "nowhere"),
    "empty folder": (lambda p: train(p.folder("empty")), "empty"),
    "folder of texts": (lambda p: train(p.folder("texts", a_txt=b"hello", b_md=b"hello")), "texts"),
    "data is one image": (lambda p: train(p.image), "p00_0.png"),
    "data is an archive of something": (lambda p: train(p.npz(a=np.zeros(3))), "MedMNIST"),
    "archive of other sizes": (
        lambda p: train(p.npz(train_images=np.zeros((5, 8, 8), np.uint8), train_labels=np.zeros((4, 1), int))),
        "train",
    ),
    "evaluate no run": (lambda p: ["evaluate", p.root / "x", p.table, "--out", p.new], "no run"),
    "evaluate on nothing": (lambda p: ["evaluate", p.run, p.root / "nowhere", "--out", p.new], "nowhere"),
    "predict nothing": (lambda p: ["predict", p.run, p.root / "nowhere.png"], "nowhere.png"),
    "predict an empty folder": (lambda p: ["predict", p.run, p.folder("empty")], "no image"),
    "predict a text": (lambda p: ["predict", p.run, p.file("notes.txt", "hello")], "notes.txt"),
    "export no run": (lambda p: ["export", p.folder("empty"), "--out", p.new], "no run"),
    "export an unknown format": (lambda p: ["export", p.run, "--format", "tflite", "--out", p.new], "onnx"),
    "export to a folder": (lambda p: ["export", p.run, "--format", "safetensors", "--out", p.root], "folder"),
    "unknown phantom": (lambda p: ["phantoms", "brain", "--out", p.new], "fundus"),
    "no phantoms": (lambda p: ["phantoms", "skin", "--out", p.new, "--count", 0], "--count"),
    "phantoms into a file": (lambda p: ["phantoms", "skin", "--out", p.table, "--count", 1], "table.csv"),
    "out is a file": (lambda p: ["train", p.table, "--out", p.image, *QUICK], "p00_0.png"),
    "out in a file": (lambda p: ["train", p.table, "--out", p.image / "run", *QUICK], "p00_0.png"),
    "out cannot be written": (lambda p: ["train", p.table, "--out", "/proc/medgraft", *QUICK], "/proc/medgraft"),
    "predict out cannot be written": (lambda p: ["predict", p.run, p.image, "--out", "/proc/a.csv"], "/proc"),
    "survey out is a file": (lambda p: ["survey", p.table, "--label-column", "label", "--out", p.image], "p00_0.png"),
    # the run folder
    "finished run": (lambda p: ["train", p.table, "--out", p.run, *QUICK], "finished"),
    "resume a finished run": (lambda p: ["train", p.table, "--out", p.run, "--resume", *QUICK], "finished"),
    "run goes on without resume": (lambda p: ["train", p.table, "--out", p.unfinished(), *QUICK], "--resume"),
    "resume with another seed": (
        lambda p: ["train", p.table, "--out", p.unfinished(), "--resume", *QUICK, "--seed", 9],
        "seed",
    ),
    "predict with an unfinished run": (lambda p: ["predict", p.unfinished(), p.image], "not finished"),
    "model cut short": (lambda p: ["predict", p.cut_model(), p.image], "model.safetensors"),
    "model with a broken header": (lambda p: ["predict", p.flipped_model(), p.image], "model.safetensors"),
    "report cut short": (lambda p: ["predict", p.broken_report(), p.image], "report.json"),
    "evaluate where a report is": (lambda p: ["evaluate", p.run, p.table, "--out", p.run], "report"),
    "evaluate on its own training images": (
        lambda p: ["evaluate", p.run, p.table, "--out", p.root / "own", "--label-column", "label"],
        "training",
    ),
    "evaluate on other classes": (
        lambda p: ["evaluate", p.run, p.others(), "--out", p.root / "other"],
        "well",
    ),
    # tables
    "empty table": (lambda p: train(p.csv("")), "wrong.csv"),
    "table without rows": (lambda p: train(p.csv("path,label\n")), "row"),
    "table is a picture": (lambda p: train(p.file("table.csv", p.image.read_bytes())), "table.csv"),
    "no such label column": (lambda p: train(p.table, "--label-column", "diagnosis"), "diagnosis"),
    "no such patient column": (lambda p: train(p.table, "--patient-column", "person"), "person"),
    "no such split column": (lambda p: train(p.table, "--split-column", "fold"), "fold"),
    "no column of paths": (lambda p: train(p.rows("1,2,3", head="a,b,c")), "path"),
    "files that do not exist": (lambda p: train(p.rows("q1.png,a,1", "q2.png,b,2")), "q1.png"),
    "labels differ by capitals": (lambda p: train(p.some(lambda i: ["Ill", "ill", "well"][i % 3])), "Ill"),
    "one image, two labels": (lambda p: train(p.rows("p00_0.png,a,1", "p00_0.png,b,1")), "rows 2 and 3"),
    "ids eaten by a spreadsheet": (
        lambda p: train(p.some(lambda i: f"{'ab'[i % 2]},1.{i:02d}E+05", head="path,label,patient")),
        "E+05",
    ),
    "unknown split word": (
        lambda p: train(p.some(lambda i: f"{'ab'[i % 2]},{['train', 'exam'][i % 2]}", head="path,label,split")),
        "exam",
    ),
    "rows longer than the head": (lambda p: train(p.rows("p00_0.png,a,1,2,3", "p01_0.png,b,1,2,3")), "wrong.csv"),
    "labels are all empty": (lambda p: train(p.some(lambda i: "")), "label"),
    "pictures are texts": (lambda p: train(p.rows("table.csv,a,1", "wrong.csv,b,2")), "text file"),
    # too little, or of another kind
    "one class": (lambda p: train(p.one_class()), "class"),
    "one class in a table": (lambda p: train(p.some(lambda i: "ill")), "class"),
    "two patients": (
        lambda p: train(p.some(lambda i: f"{'ab'[i % 2]},p{i % 2}", count=6, head="path,label,patient")),
        "patient",
    ),
    "three images": (lambda p: train(p.some(lambda i: "ab"[i % 2], count=3)), "image"),
    "words as numbers": (lambda p: train(p.table, "--task", "regress", "--label-column", "label"), "number"),
    "words as grades": (lambda p: train(p.table, "--task", "grade", "--label-column", "label"), "grade"),
    "volumes": (lambda p: train(p.volumes()), "volumes"),
    "depth of 99": (lambda p: train(p.table, "--label-column", "label", "--depth", 99), "stages"),
    "unknown positive class": (
        lambda p: train(p.table, "--label-column", "label", "--set", "scores.positive=sick"),
        "sick",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_a_mistake_is_said_in_words(
    name: str, place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place.root)
    words, says = SAID[name]
    code = run(monkeypatch, *words(place))
    out, err = capfd.readouterr()
    said = [line for line in err.splitlines() if line.startswith("medgraft: ")]
    assert code == 2, err
    assert "Traceback" not in err
    assert out == ""
    assert len(said) == 1 and len(said[0]) < 600, err
    assert says in said[0], err


def test_the_same_mistake_in_json(
    place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "survey", place.root / "nowhere", "--json") == 2
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("medgraft: ")


def test_there_are_many_cases() -> None:
    assert len(SAID) >= 40


def test_the_package_runs_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import runpy

    monkeypatch.setattr(sys, "argv", ["medgraft", "backbones", "--json"])
    runpy.run_module("medgraft", run_name="__main__")
    assert "embedded:" in capsys.readouterr().out
