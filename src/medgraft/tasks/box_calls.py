"""Which of the boxes that were found are called, and how that is said: the same for whatever finds them."""

from __future__ import annotations

from collections import Counter

import numpy as np

from medgraft.tasks.answers import Answers
from medgraft.values import Boxes


class BoxCalls:
    """What finds boxes has classes, and of each a score from which a box is called.

    Attributes:
        answers: the classes.
        threshold: of each class, the score from which a box counts as found; chosen on validation only.
    """

    answers: Answers
    threshold: tuple[float, ...]

    def called(self, boxes: Boxes) -> Boxes:
        """Get the boxes whose score reaches the threshold of their class."""
        assert boxes.scores is not None
        limits = dict(zip(self.answers.classes, self.threshold, strict=True))
        return boxes.take(boxes.scores >= np.array([limits[name] for name in boxes.labels]))

    def said(self, boxes: Boxes) -> str:
        """Get in words what is called, such as "2 RBC, 1 WBC"; "none" where nothing is."""
        counts = Counter(self.called(boxes).labels)
        return ", ".join(f"{counts[name]} {name}" for name in self.answers.classes if counts[name]) or "none"
