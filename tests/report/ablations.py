"""The folder of an ablation with invented numbers that are known for each entry and seed."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from pclhd.runs.ablation import AblationFolder, AblationRecord, Entry, Table
from tests.report.fixtures import make_metrics, make_results, write_run

SEARCH = "all/single-shot"
PARTS = Table(
    "Parts",
    (
        Entry("floor", "pgm", (), "the floor"),
        Entry("more", "pgm", ("method.cross=1",), "+ more", against="floor"),
    ),
    kind="parts",
)
CURVE = Table(
    "The number k",
    (
        Entry("base", "paper", (), "base", value="2"),
        Entry("base-8", "paper", ("method.hard_samples=8",), "k = 8", against="base", value="8"),
        Entry("base-1", "paper", ("method.hard_samples=1",), "k = 1", against="base", value="1"),
    ),
    kind="curve",
    setting="method.hard_samples",
    symbol="k",
)
METHODS = Table(
    "Methods",
    (Entry("baseline", "baseline"), Entry("pclhd", "pclhd", start="pclhd", against="baseline")),
    kind="methods",
)
TABLES = {"parts": PARTS, "k": CURVE, "methods": METHODS}

#: Rank-1 of seed 0 as a fraction; each further seed has 0.1 more, and those of a floor differ a little.
LEVELS = {"floor": 0.5, "more": 0.53, "base": 0.4, "base-8": 0.45, "base-1": 0.3, "baseline": 0.2, "pclhd": 0.6}
SHIFTS = {"more": 0.01}


def rank1(entry: str, seed: int) -> float:
    """The invented rank-1."""
    return LEVELS[entry] + (0.1 + SHIFTS.get(entry, 0.0)) * seed


def make_ablation(
    root: Path, tables: dict[str, Table] | None = None, *, seeds: tuple[int, ...] = (0, 1, 2), labels: bool = True
) -> AblationFolder:
    """Write all runs; stage I has two epochs and stage II three."""
    folder, used = AblationFolder(root), TABLES if tables is None else tables
    for entry in (entry for table in used.values() for entry in table.entries):
        for seed in seeds:
            _write(folder.start(entry, seed).path, entry, seed, 1, labels=labels)
            _write(folder.run(entry, seed).path, entry, seed, 2, labels=labels)
    folder.add(AblationRecord("synthetic", (), SEARCH, seeds, used))
    return folder


def ari(seed: int, epoch: int) -> float:
    """The invented ARI of visible clusters in an epoch from 1 over both stages."""
    return 0.1 * epoch + 0.02 * seed


def _write(path: Path, entry: Entry, seed: int, stage: int, *, labels: bool) -> None:
    if path.exists():
        return
    results = make_results(searches=(SEARCH,))
    results["dataset"] = {"name": "sysu", "checksum": "5f" * 32, "test_checksum": "6a" * 32, "synthetic": True}
    for row in results["rows"]:
        if row["weights"] == "final":
            row["rank1"]["mean"] = rank1(entry.name, seed)
    results |= {"training": "unsupervised", "recipe": entry.recipe, "seed": seed}
    metrics = [line for line in make_metrics(2, 3) if line["kind"] == "epoch" and line["stage"] == stage]
    for number, line in enumerate(metrics):
        line["epoch"] = number  # stage II of a run of its own begins with 0
        if labels:
            line["labels"]["ari_visible"] = ari(seed, number + 1 + 2 * (stage - 1))
        else:
            line["labels"] = None
    write_run(path, results=results, metrics=metrics)
    settings = {"preset": "synthetic", "seed": seed, "recipe": entry.recipe, "method": {"labels": "clusters"}}
    settings |= {"data": {"layout": "sysu"}, "batch": {"sampler": "cluster"}}
    (path / "config.yaml").write_text(yaml.safe_dump(settings))
    facts = {"pclhd": "0.1.0", "seed": seed, "data": {"training_checksum": "5f" * 32}}
    (path / "provenance.json").write_text(json.dumps(facts))
    if stage == 1:
        (path / "results.json").unlink()
