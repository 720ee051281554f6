"""Images drawn as latents: both nets learnt one after the other, killed in either and resumed, saved in one file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import medgraft as mg
from medgraft import gather
from medgraft.errors import RunRefused
from medgraft.generation.fit import fit_images
from medgraft.generation.latents import FOLDER, Latents, given_back, in_latents
from medgraft.generation.opened import GeneratorRun
from medgraft.generation.parts import assemble_images, prepare_images
from medgraft.generation.told import weights_of
from medgraft.learn.resume import Checkpoints
from medgraft.recipe import Recipe
from medgraft.tasks.diffuse import Diffuse
from medgraft.values import ImageRef
from medgraft.weights.tensors import load_model
from tiny_data import make_tiny_data
from whole_runs import finish, result, start

OPTIONS: dict[str, Any] = {"device": "cpu", "offline": True, "image_size": 16, "batch_size": 8, "epochs": 2}
SETTINGS: dict[str, Any] = {
    "generator.latent": 2,
    "generator.latent_epochs": 2,
    "generator.looks": 1,
    "generator.widths": [8, 16],
    "generator.steps": 3,
    "augment.preset": "skin",  # with mirrors, so that latents of several views are drawn from
    "fit.ema": 0.5,
    "machine.save_seconds": 0,
}


class Cut(Exception):
    """What a kill is here: nothing after it is done."""


def cut_at(step: int, phase: int) -> Callable[[dict[str, Any]], None]:
    """Get a listener that ends the run after so many steps of the first or the second net."""
    count = {"step": 0, "phase": 0}

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "say" and event["text"].startswith(("first the autoencoder", "then what draws latents")):
            count["phase"], count["step"] = (1 if event["text"].startswith("first") else 2), 0
        count["step"] += event["event"] == "step"
        if count["phase"] == phase and count["step"] == step:
            raise Cut

    return listen


def train(data: Path, out: Path, **words: Any) -> None:
    mg.train(data, out=out, task="diffuse", label_column="label", settings=SETTINGS, **OPTIONS, **words)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_data(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(data, out)
    return out


def test_cut_in_either_net_both_learn_on_to_the_same_bits(data: Path, tmp_path: Path):
    recipe = Recipe().changed({**SETTINGS, "task": "diffuse", "input.image_size": 16, "fit.batch_size": 8})
    recipe = recipe.changed({"fit.epochs": 2, "machine.device": "cpu", "data.label_column": "label"})
    prepared = prepare_images(gather.read(data, recipe), recipe, listen=lambda event: None)

    def learn(out: Path, listen: Callable[[dict[str, Any]], None] = lambda event: None) -> dict[str, torch.Tensor]:
        parts, _ = in_latents(out, assemble_images(*prepared), listen=listen)
        fit_images(out, parts, listen=listen)
        return weights_of(parts)

    plain = learn(tmp_path / "whole")
    for step, phase in ((6, 1), (7, 2)):  # what was not saved is done again
        with pytest.raises(Cut):
            learn(tmp_path / "cut", cut_at(step, phase))
    again = learn(tmp_path / "cut")
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)


@pytest.mark.slow
def test_killed_in_either_net_and_resumed_it_ends_with_the_same_bits(data: Path, whole: Path, tmp_path: Path):
    out = tmp_path / "cut"
    with pytest.raises(Cut):
        train(data, out, listen=cut_at(6, 1))
    first = Checkpoints(out / FOLDER / "resume").latest()
    assert first is not None and first.facts["epoch"] * 4 + first.facts["step"] == 5
    assert not (out / FOLDER / "model.safetensors").exists() and not (out / "resume").exists()
    with pytest.raises(RunRefused, match="unfinished run"):
        train(data, out)
    with pytest.raises(Cut):
        train(data, out, resume=True, listen=cut_at(7, 2))
    assert (out / FOLDER / "model.safetensors").exists() and not (out / FOLDER / "resume").exists()
    second = Checkpoints(out / "resume").latest()
    assert second is not None and second.facts["epoch"] == 1
    assert not any(name.startswith("model/coder") and "weight" in name for name in second.tensors)  # it is frozen
    said: list[str] = []
    train(data, out, resume=True, listen=lambda event: said.append(str(event.get("text"))))
    assert not any("first the autoencoder" in text for text in said)
    assert result(out) == result(whole)
    assert not (out / FOLDER / "model.safetensors").exists() and (out / FOLDER / "log.jsonl").exists()


def test_one_file_holds_both_nets_and_a_run_is_opened_from_it_alone(whole: Path):
    state, card = load_model(whole / "model.safetensors")
    assert card["coder"]["step"] == 2 and card["net"]["channels"] == card["coder"]["latent"] == 4
    assert {name.split(".")[0] for name in state} == {"net", "coder", "gaussian"} and (state["coder.scale"] != 1).all()
    opened = mg.open_run(whole, device="cpu")
    assert isinstance(opened, GeneratorRun) and isinstance(opened.task, Diffuse) and opened.task.coder is not None
    made = [image for _, image in opened.draw(3, label="ill", seed=5)]
    assert made[0].shape == (3, 16, 16) and max(np.abs(one).max() for one in made) <= 1
    (alone,) = [image for _, image in opened.draw(1, label="ill", seed=5, first=2)]
    np.testing.assert_allclose(alone, made[2], atol=1e-5)


def test_latents_of_the_training_have_mean_zero_and_variance_one(whole: Path, data: Path):
    opened = mg.open_run(whole, device="cpu")
    assert isinstance(opened, GeneratorRun) and isinstance(opened.task, Diffuse) and opened.task.coder is not None
    rows = [line.split(",") for line in (whole / "samples.csv").read_text().splitlines()]
    split = rows[0].index("split")
    names = [row[0] for row in rows[1:] if row[split] == "train"]
    images = np.stack([opened.seen(ImageRef(data.parent / Path(name).name)) for name in names])
    with torch.no_grad():
        latents = opened.task.coder.folded(torch.from_numpy(images))
    mean, spread = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(spread, torch.ones(4), atol=1e-3, rtol=0)


def test_the_report_says_how_well_images_come_back(whole: Path):
    report = json.loads((whole / "report.json").read_text())
    psnr, told = report["scores"]["test"]["psnr_latents"], report["generation"]["autoencoder"]
    assert psnr["low"] < psnr["value"] < psnr["high"] and psnr["n"] == report["data"]["images"]["test"]
    assert "patients" in psnr["method"] and psnr["n_patients"] == report["data"]["patients"]["test"]
    assert told["step"] == 2 and told["epochs"] == len(told["history"]) == 2
    assert "latents" in report["generation"]["floors"] and report["timing"]["train_seconds"] > told["seconds"]
    assert "autoencoder (Kingma and Welling" in report["methods"]
    page = (whole / "report.html").read_text()
    assert "PSNR" in page and "after a way through their latents" in page


def test_images_come_back_one_by_one_as_together(whole: Path):
    opened = mg.open_run(whole, device="cpu")
    assert isinstance(opened, GeneratorRun) and isinstance(opened.task, Diffuse) and opened.task.coder is not None
    images = np.random.default_rng(0).uniform(-1, 1, (3, 3, 16, 16)).astype(np.float32)
    together = given_back(opened.task.coder, opened.engine, images)
    assert together.shape == images.shape
    np.testing.assert_allclose(given_back(opened.task.coder, opened.engine, images[1:2])[0], together[1], atol=1e-5)


def test_latents_are_rows_of_a_loader():
    values = np.arange(24, dtype=np.float32).reshape(3, 2, 2, 2)
    rows = Latents(values)
    np.testing.assert_array_equal(rows.rows([2, 0]), values[[2, 0]])
    assert not rows.bad


@pytest.mark.slow
def test_killed_with_nine_and_resumed_it_ends_with_the_same_bits(data: Path, tmp_path: Path):
    settings = {**SETTINGS, "generator.widths": "[8,16]", "fit.probe": "true"}
    more = ["--task", "diffuse", "--offline", "--image-size", "16"]
    words: dict[str, Any] = {"epochs": 2, "more": more, "settings": settings, "depth": "all"}
    finish(start(data, tmp_path / "whole", **words))
    out = tmp_path / "cut"
    for phase in (1, 2):
        process = start(data, out, resume=phase == 2, **words)
        wait_for_phase(process, phase)
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
    finish(start(data, out, resume=True, **words))
    assert result(tmp_path / "whole") == result(out)


def wait_for_phase(process: Any, phase: int) -> None:
    """Read what a run says until the first or second net has done two steps."""
    now = 0
    for line in process.stderr:
        now = 1 if line.startswith("first the autoencoder") else 2 if line.startswith("then what draws") else now
        if now == phase and line.startswith("step ") and int(line.split()[1].rstrip(":")) >= 2:
            return
