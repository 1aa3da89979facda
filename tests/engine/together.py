"""A short training in 64 bits, run by itself or by `torchrun`: several processes must do what one process does.

In 32 bits the order of a sum changes the last digits of gradients, and a few steps of Adam amplify that to 1e-3.

Usage: python -m tests.engine.together ROOT START OUT OVERRIDE…
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from pclhd.engine import trainer
from pclhd.engine.epoch import end_epoch
from pclhd.engine.position import Position
from pclhd.engine.session import Session
from pclhd.engine.state import EpochState, dismantle
from pclhd.errors import UserError
from tests.engine.double import in_double_precision
from tests.engine.runs import SmallData, draw_people


def main() -> None:
    root, start, out = map(Path, sys.argv[1:4])
    small = SmallData(draw_people(root / f"images-{os.environ.get('RANK', 'alone')}"), start)

    def noted(session: Session, position: Position, state: EpochState) -> dict[str, Any]:
        tensors, _ = dismantle(state, redraws_each_step=False)
        name = f"memories-{position.epoch}-of-{session.networks.processes.rank}.safetensors"
        save_file({key: value.contiguous() for key, value in tensors.items()}, out.parent / f"{out.name}-{name}")
        return end_epoch(session, position, state)

    trainer.end_epoch = noted  # type: ignore[attr-defined]
    try:
        with in_double_precision():
            small.train(out, *sys.argv[4:])
    except UserError as error:
        sys.stdout.write("already printed\n" if error.reported else f"{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
