"""`medgraft outline` and `medgraft measure` as a person types them, with a model of the real kind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from medgraft.files import read_label_map, save_png

torch.set_num_threads(1)


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run the command line in this process and get its exit code."""
    from medgraft.cli import main

    monkeypatch.setattr(sys, "argv", ["medgraft", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    save_png(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (50, 70)).astype(np.uint8))
    return tmp_path / "a.png"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Get a folder with a random SAM, as a person has one from the hub."""
    from tiny_sam import save, tiny_sam

    return save(tiny_sam(), tmp_path / "sam")


def test_outline_writes_its_folder_and_says_what_it_found(monkeypatch, capsys, tmp_path, picture, model):
    out = tmp_path / "out"
    words = ("--box", "5,5,40,40", "--box", "30,10,65,45", "--point", "20,20", "--point", "8,8,0", "--json")
    code = run(monkeypatch, "outline", picture, *words, "--backbone", model, "--out", out, "--all-candidates")
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0
    names = {"mask.png", "outlines.geojson", "overlay.png", "measures.csv", "outline.json", "candidates.csv"}
    assert names <= {path.name for path in out.iterdir()}
    labels = read_label_map(out / "mask.png").values
    assert [row["pixels"] for row in told["structures"]] == [int((labels == n).sum()) for n in (1, 2)]
    assert told["model"]["name"] == str(model)


def test_measure_reads_what_outline_wrote(monkeypatch, capsys, tmp_path, picture, model):
    out, again = tmp_path / "out", tmp_path / "again"
    run(monkeypatch, "outline", picture, "--point", "20,20", "--backbone", model, "--out", out, "--quiet")
    code = run(monkeypatch, "measure", picture, out / "mask.png", "--features", "--out", again)
    assert code == 0 and "structure 1: pixels" in capsys.readouterr().out
    assert (again / "features.csv").read_text().startswith("structure,shape_area")
    assert (again / "outlines.geojson").read_text() != ""


def test_a_volume_is_outlined_on_its_own_grid(monkeypatch, capsys, tmp_path, model):
    import nibabel

    solid = np.random.default_rng(0).integers(0, 900, (30, 24, 5)).astype(np.int16)
    affine = np.diag([1.0, 1.5, 3.0, 1.0])
    nibabel.Nifti1Image(solid, affine).to_filename(tmp_path / "ct.nii.gz")
    words = ("--slice", 2, "--box", "3,3,20,20", "--window", "400,800", "--backbone", model, "--out", tmp_path / "out")
    assert run(monkeypatch, "outline", tmp_path / "ct.nii.gz", *words) == 0
    written = nibabel.load(tmp_path / "out" / "mask.nii.gz")
    assert written.shape == solid.shape and np.allclose(written.affine, affine)  # type: ignore[attr-defined]
    assert "volume_ml" in capsys.readouterr().out


def test_everything_goes_through_with_a_model_that_is_sure_of_nothing(monkeypatch, capsys, tmp_path, picture, model):
    code = run(monkeypatch, "outline", picture, "--all", "--grid", "4", "--backbone", model, "--out", tmp_path / "out")
    assert code == 0 and "nothing was found" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--box", "5,5,40,40", "--backbone", "nowhere"), "--backbone hf-hub:facebook/sam-vit-base"),
        (("--box", "5,5,forty,40"), "no list of numbers"),
        (("--box", "40,40,5,5", "--backbone", "x"), "is empty"),
        (("--backbone", "x"), "nothing is shown"),
        (("--all", "--backbone", "timm:resnet18"), "no source 'timm'"),
        (("--point", "5,5", "--backbone", "x", "--device", "tpu"), "device is 'tpu'"),
        (("--point", "5,5", "--window", "40", "--backbone", "x"), "a centre and a width"),
    ],
)
def test_a_mistake_ends_with_2_and_a_sentence(monkeypatch, capsys, tmp_path, picture, words, said):
    code = run(monkeypatch, "outline", picture, *words, "--out", tmp_path / "out")
    told = capsys.readouterr()
    assert code == 2 and said in told.err and not told.out
    assert "Traceback" not in told.err and not (tmp_path / "out").exists()
