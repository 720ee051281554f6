"""The tree of errors. Each says what is wrong, where, and what to do.

MedgraftError                     exit 1
├── UserError                     exit 2: the user can mend it
│   ├── BadImage                  one file cannot be read as an image
│   ├── BadTable                  a CSV or split file is wrong
│   ├── BadData                   a data set as a whole cannot be used
│   │   └── Leak                  splits share a patient or an image
│   ├── BadRecipe                 a recipe field or option is wrong
│   ├── BadWeights                a weight file is damaged or does not fit
│   ├── UnknownName               no such task, backbone, format, layout
│   ├── MissingExtra              a package is needed that is not installed
│   ├── Offline                   the network is needed and forbidden
│   └── RunRefused                finished, changed or foreign run folder
│       └── RunLocked             another process holds the run folder
└── Stopped                       exit 3: stopped safely, can be resumed
    ├── Interrupted               SIGTERM or SIGINT
    ├── DiskFull
    ├── OutOfMemory
    └── NotFinite                 the loss became NaN or infinite
"""

from __future__ import annotations


class MedgraftError(Exception):
    """What is wrong, where, and what to do, as one or two sentences.

    Args:
        what: one sentence without its full stop.
        where: file, row or tag.
        do: the next step for the reader.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, do: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.do = do
        super().__init__(what, self.where, do)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head.rstrip('.')}. {self.do}" if self.do else head

    def __reduce__(self):
        return _rebuild, (type(self), self.what, self.where, self.do)


def _rebuild(kind: type[MedgraftError], what: str, where: str | None, do: str | None) -> MedgraftError:
    """Keep the words when an error crosses a process border."""
    return kind(what, where=where, do=do)


class UserError(MedgraftError):
    """The user can mend it."""

    exit_code = 2


class BadImage(UserError):
    """One file cannot be read as an image."""


class BadTable(UserError):
    """A CSV or split file is wrong."""


class BadData(UserError):
    """A data set as a whole cannot be used."""


class Leak(BadData):
    """Splits share a patient or an image."""


class BadRecipe(UserError):
    """A recipe field or an option is wrong."""


class BadWeights(UserError):
    """A weight file is damaged or does not fit."""


class UnknownName(UserError):
    """No such task, backbone, format or layout."""


class MissingExtra(UserError):
    """A package is needed that is not installed."""


class Offline(UserError):
    """The network is needed and forbidden."""


class RunRefused(UserError):
    """A run folder that is finished, was changed, or is no run."""


class RunLocked(RunRefused):
    """Another process holds the run folder."""


class Stopped(MedgraftError):
    """The run stopped safely and can be resumed."""

    exit_code = 3


class Interrupted(Stopped):
    """SIGTERM or SIGINT asked the run to stop."""


class DiskFull(Stopped):
    """A write found no space; what was written before is intact."""


class OutOfMemory(Stopped):
    """Memory ran out."""


class NotFinite(Stopped):
    """The loss became NaN or infinite."""
