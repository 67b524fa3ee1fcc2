"""``folio`` on a rank that meets trouble alone: ``torchrun ... faulty_rank.py TROUBLE STEP -- ARGUMENTS``.

The last rank raises what TROUBLE names in the step after STEP; the others are what ``folio`` is.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from folio.errors import DataError

TROUBLES = {
    "bug": ZeroDivisionError("division by zero"),
    "memory": MemoryError(),
    "text": DataError("this rank cannot read the text", "Restore it."),
}


def meet(trouble: Exception, step: int) -> None:
    from folio.training.state import TrainingState

    train_step = TrainingState.train_step

    def troubled(self: Any, *arguments: Any) -> Any:
        if self.step == step:
            raise trouble
        return train_step(self, *arguments)

    TrainingState.train_step = troubled  # type: ignore[method-assign]


def main() -> int:
    trouble, step, _, *arguments = sys.argv[1:]
    if int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1:
        meet(TROUBLES[trouble], int(step))
    from folio.cli import main as command_line

    return command_line(arguments)


if __name__ == "__main__":
    sys.exit(main())
