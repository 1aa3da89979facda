"""How far the momentum network should average: one training, the rank-1 of averages over few and over many steps.

Usage: python benchmarks/averages.py [--data DIR] [--preset NAME] [--seed N] [--decays D …] [--set KEY=VALUE …]
    [--json FILE] [--quick]

In recipes whose losses do not read the momentum network (all but `paper` and those with dynamic prototypes), the
training does not depend on `schedule.ema_decay`. So one training is enough to measure all its values: further averages,
of weights and batch-norm statistics, are kept beside it from the first step of stage II. They are searched after every
second epoch of stage II; a decay of 0 is the trained network itself. Choose with people of a validation drawing.

`--quick` draws tiny data and trains the `tiny` preset: it shows that the benchmark works, and nothing else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.showing import markdown_table, write_json

import pclhd
from pclhd.config import Settings, load_preset
from pclhd.data.records import LabelledImages
from pclhd.evaluation.evaluate import evaluate_embeddings
from pclhd.evaluation.protocols import protocol_for
from pclhd.models.encoder import Encoder, embed_records
from pclhd.models.momentum import BufferPolicy, MomentumNetwork
from pclhd.models.preprocessing import Preprocessing
from pclhd.models.two_stream import TwoStreamNetwork
from pclhd.synthetic import write_synthetic
from pclhd.workflows.train import open_data

SEARCH = "all/single-shot"
DECAYS = (0.0, 0.9, 0.95, 0.97, 0.98, 0.99)
EPOCHS_APART = 2


class Averages:
    """Averages of the trained network beside the training's own, searched every few epochs.

    Args:
        decays: Shares of old weights.
        test: Labelled images of the people to search.
        settings: Of the training.
    """

    def __init__(self, decays: Sequence[float], test: LabelledImages, settings: Settings) -> None:
        self.decays, self.test, self.settings = decays, test, settings
        self.networks: dict[float, MomentumNetwork[TwoStreamNetwork]] = {}
        self.rows: list[dict[str, Any]] = []
        self.steps = 0
        self._search = next(one for one in protocol_for("sysu", test).searches if one.name == SEARCH)

    def update(self, own: MomentumNetwork[TwoStreamNetwork], online: TwoStreamNetwork, decay: float) -> None:
        """Stands in for `MomentumNetwork.update` of the training's own average."""
        UPDATE(own, online, decay)
        self.steps += 1
        for one in self.decays:
            if one not in self.networks:
                self.networks[one] = MomentumNetwork(online, buffers=BufferPolicy.AVERAGE)
            UPDATE(self.networks[one], online, one)
        apart = EPOCHS_APART * self.settings.schedule.numbers().iterations
        if self.steps % apart == 0:
            self.rows += [self._measured(one, average.network) for one, average in self.networks.items()]

    def _measured(self, decay: float, network: TwoStreamNetwork) -> dict[str, Any]:
        size = Preprocessing(self.settings.data.height, self.settings.data.width)
        (embeddings,) = embed_records([Encoder(network, size, device="cpu")], self.test.images)
        found = evaluate_embeddings(embeddings, self.test, [self._search])[0].to_dict()
        figures = {name: 100 * found[name]["mean"] for name in ("rank1", "mAP")}
        return {"steps": self.steps, "decay": decay, **figures}


UPDATE = MomentumNetwork.update


def main() -> None:
    """Train once, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the synthetic benchmark; drawn at scale small if left out")
    parser.add_argument("--preset", default="synthetic")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--decays", type=float, nargs="+", default=list(DECAYS))
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the training")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--quick", action="store_true", help="draw tiny data and train the preset tiny")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.preset, arguments.set = "tiny", [*arguments.set, f"schedule.stage2_epochs={EPOCHS_APART}"]
    settings = load_preset(arguments.preset, [*arguments.set, f"seed={arguments.seed}"])
    with TemporaryDirectory() as folder:
        data = arguments.data or Path(folder) / "data"
        if arguments.data is None:
            write_synthetic(data, scale="tiny" if arguments.quick else "small")
        test = open_data(settings, data).test
        if test is None:
            sys.exit(f"{data}: has no test people")
        averages = Averages(arguments.decays, test, settings)
        # A function, not a method of an object, so that it is called with the network that it updates.
        with mock.patch.object(MomentumNetwork, "update", lambda *given: averages.update(*given)):
            pclhd.train(settings, data=data, out=Path(folder) / "run")
    print(as_markdown(averages.rows, arguments.decays))
    if arguments.json:
        write_json(arguments.json, {"benchmark": "averages", "quick": arguments.quick, "rows": averages.rows})


def as_markdown(rows: list[dict[str, Any]], decays: Sequence[float]) -> str:
    """A line for each number of steps, a column for each decay."""
    lines = []
    for steps in dict.fromkeys(row["steps"] for row in rows):
        of_decay = {row["decay"]: row for row in rows if row["steps"] == steps}
        lines.append([str(steps), *(f"{of_decay[one]['rank1']:.1f}" for one in decays)])
    return markdown_table(["steps of stage II", *map(str, decays)], lines)


if __name__ == "__main__":
    main()
