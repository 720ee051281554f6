"""Pictures and curves of a made-up model, for the sample reports; every draw has a fixed seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from medgraft import seeds


def pictures() -> tuple[list[dict[str, Any]], list[np.ndarray]]:
    """Get (gallery, augmented) of small drawn fundus-like pictures."""
    gallery = []
    for place in range(12):
        kind = "mistake" if place < 8 else "right"
        truth = ("no", "yes")[place % 2]
        predicted = truth if kind == "right" else ("yes", "no")[place % 2]
        gallery.append(
            {
                "kind": kind,
                "image": fundus(place),
                "key": f"images/P{place:03d}_left.png",
                "truth": truth,
                "predicted": predicted,
            }
            | {"probability": 0.99 - 0.02 * place, "patient": f"P{place:03d}", "note": None}
        )
    return gallery, [fundus(100 + place) for place in range(16)]


def fundus(place: int, side: int = 256) -> np.ndarray:
    """Get an orange disc with a bright spot and dark dots, uint8 (H, W, 3)."""
    random = seeds.generator(0, "fundus picture", 0, place)
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    disc = (x**2 + y**2) < 0.46**2
    light = np.clip(1.1 - 1.2 * (x**2 + y**2) ** 0.5, 0, 1)[..., None]
    picture = np.array([205, 105, 52]) * light
    spot = np.exp(-(((x - 0.2 * random.choice([-1, 1])) ** 2 + y**2) / 0.004))[..., None]
    picture = picture + spot * np.array([70, 110, 70])
    for _ in range(int(random.integers(0, 14))):
        cx, cy, size = random.uniform(-0.35, 0.35), random.uniform(-0.35, 0.35), random.uniform(0.0001, 0.0006)
        picture *= 1 - 0.6 * np.exp(-(((x - cx) ** 2 + (y - cy) ** 2) / size))[..., None]
    return np.clip(picture * disc[..., None], 0, 255).astype(np.uint8)


def predictions(count: int, positives: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    """Get (truth, probability) of a made-up model."""
    random = seeds.generator(0, "predictions", positives, count)
    truth = np.zeros(count, int)
    truth[:positives] = 1
    return truth, 1 / (1 + np.exp(-(random.normal(0, 1.1, count) + apart * (truth - 0.55))))


def roc_curve(truth: np.ndarray, p: np.ndarray) -> dict[str, Any]:
    """Get the empirical ROC curve with a rough band."""
    order = truth[np.argsort(-p, kind="stable")]
    y = np.concatenate([[0], np.cumsum(order) / order.sum()])
    x = np.concatenate([[0], np.cumsum(1 - order) / (1 - order).sum()])
    band = 0.13 * np.sqrt(np.clip(y * (1 - y), 0, 1)) + 0.01
    return {
        "x": x.tolist(),
        "y": y.tolist(),
        "low": np.clip(y - band, 0, 1).tolist(),
        "high": np.clip(y + band, 0, 1).tolist(),
    }


def pr_curve(truth: np.ndarray, p: np.ndarray) -> dict[str, Any]:
    """Get the empirical precision-recall curve with a rough band."""
    order = truth[np.argsort(-p, kind="stable")]
    found = np.cumsum(order)
    x, y = found / order.sum(), found / np.arange(1, len(order) + 1)
    band = 0.09 * np.sqrt(np.clip(y * (1 - y), 0, 1)) + 0.015
    ends = {"low": np.clip(y - band, 0, 1).tolist(), "high": np.clip(y + band, 0, 1).tolist()}
    return {"x": x.tolist(), "y": y.tolist(), **ends, "prevalence": float(truth.mean())}


def bins(truth: np.ndarray, p: np.ndarray) -> list[dict[str, Any]]:
    """Get ten bins of a reliability curve with rough intervals."""
    rows = []
    for low in np.arange(0, 1, 0.1):
        inside = (p >= low) & (p < low + 0.1)
        n = int(inside.sum())
        if not n:
            continue
        seen = float(truth[inside].mean())
        half = 1.2 * np.sqrt(max(seen * (1 - seen), 0.02) / n)
        rows.append(
            {
                "p": float(p[inside].mean()),
                "observed": seen,
                "low": max(0, seen - half),
                "high": min(1, seen + half),
                "n": n,
            }
        )
    return rows


def log(epochs: int) -> list[dict[str, Any]]:
    """Get a training log that first falls and then overfits."""
    random = seeds.generator(0, "sample log")
    rows = []
    for epoch in range(1, epochs + 1):
        loss = 0.22 + 0.48 * np.exp(-epoch / 6) + random.normal(0, 0.008)
        val = 0.34 + 0.34 * np.exp(-epoch / 5) + 0.004 * epoch + random.normal(0, 0.012)
        rate = 0.94 - 0.3 * np.exp(-epoch / 5) - 0.001 * epoch + random.normal(0, 0.006)
        rows.append({"epoch": epoch, "loss": float(loss), "val_loss": float(val), "val_score": float(rate)})
    return rows
