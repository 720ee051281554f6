"""Tasks: a backbone, a head, and what they mean. One task, one file."""

from __future__ import annotations

from medgraft.registry import Registry

TASKS = Registry(
    "task",
    {
        "classify": "medgraft.tasks.classify:Classify",
        "multilabel": "medgraft.tasks.multilabel:Multilabel",
        "grade": "medgraft.tasks.grade:Grade",
        "regress": "medgraft.tasks.regress:Regress",
        "localise": "medgraft.tasks.localise:Localise",
        "detect": "medgraft.tasks.detect:Detect",
        "segment": "medgraft.tasks.segment:Segment",
        "outline": "medgraft.tasks.outline:Outline",
        "diffuse": "medgraft.tasks.diffuse:Diffuse",
        "stylegan": "medgraft.tasks.stylegan:Stylegan",
        "anomaly": "medgraft.tasks.anomaly:Anomaly",
        "denoise": "medgraft.tasks.denoise:Denoise",
    },
)
