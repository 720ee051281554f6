"""medgraft: graft a new head on a trained vision model, fine-tune it on medical images, say how good it is.

The names below open on first use: `import medgraft` loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medgraft.version import VERSION as __version__

if TYPE_CHECKING:
    from medgraft.api import (
        audit,
        backbones,
        clean,
        demo,
        denoise,
        depth,
        doctor,
        draw_phantoms,
        evaluate,
        explain,
        export,
        generate,
        inspect,
        measure,
        open_run,
        outline,
        plan,
        predict,
        predict_pretrained,
        project,
        stress,
        survey,
        train,
    )
    from medgraft.errors import MedgraftError, Stopped, UserError
    from medgraft.recipe import Recipe

_HOMES = {
    "MedgraftError": "errors",
    "Recipe": "recipe",
    "Stopped": "errors",
    "UserError": "errors",
}

__all__ = [
    "MedgraftError",
    "Recipe",
    "Stopped",
    "UserError",
    "__version__",
    "audit",
    "backbones",
    "clean",
    "demo",
    "denoise",
    "depth",
    "doctor",
    "evaluate",
    "explain",
    "export",
    "generate",
    "inspect",
    "measure",
    "open_run",
    "outline",
    "draw_phantoms",
    "plan",
    "predict",
    "predict_pretrained",
    "project",
    "stress",
    "survey",
    "train",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'medgraft' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"medgraft.{_HOMES.get(name, 'api')}"), name)
