"""The command line: a thin skin over `medgraft.api`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; a user's mistake ends with exit code 2 and one or two sentences, never a traceback."""
    from medgraft.cli.app import app
    from medgraft.errors import MedgraftError

    try:
        app(standalone_mode=False)
    except MedgraftError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("stopped", 3)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        # Every file of a run says for itself that it found no room; this is for those that libraries write.
        from pathlib import Path

        from medgraft.storage import explained

        plain = explained(error, Path(error.filename or "."), needed_bytes=1)
        if not isinstance(plain, MedgraftError):
            raise
        _fail(str(plain), plain.exit_code)
    except Exception as error:
        # Typer's usage errors are told apart by their face, so that no class of a library it vendors is named here.
        if hasattr(error, "format_message"):
            _fail(error.format_message().replace("Input should", "it should").strip(), 2)  # type: ignore[attr-defined]
        if type(error).__name__ in {"Exit", "Abort"}:
            sys.exit(getattr(error, "exit_code", 1))
        raise


def _fail(text: str, code: int) -> None:
    print(f"medgraft: {text}", file=sys.stderr)  # noqa: T201
    sys.exit(code)
