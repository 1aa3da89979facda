"""Check that tests catch the misreadings this field is prone to: each is planted in a copy, where tests must fail.

Usage: python scripts/mutation_check.py [--only WORD] [--list]

Nothing in the working tree is changed. Needs the development environment; with one thread it takes a few minutes, most
of which goes into compiling the re-ranking again for each misreading of it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST_RUN = 300
"""Seconds after which a run of tests is stopped."""
CACHE = "compiled"
"""The folder within a copy for numba's compiled loops of the unchanged package."""

JACCARD = ("tests/golden/test_jaccard.py",)
METRICS = ("tests/golden/test_metrics.py",)
PROTOCOLS = ("tests/golden/test_protocols.py",)
MATCHING = ("tests/golden/test_matching.py",)
# No recorded file separates the exponential from the cosine itself: the best assignments are the same under both.
COSTS = ("tests/clustering/test_matching.py::test_the_least_sum_of_exponentials_not_of_cosines",)
MEMORIES = ("tests/golden/test_memories.py",)
STEPS = ("tests/engine/test_released_step.py::test_both_stages_step_by_step",)


@dataclass(frozen=True)
class Edit:
    """A text that occurs exactly once in a file, and its replacement.

    Attributes:
        file: Path within ``src/pclhd``.
        old: The text.
        new: The replacement.
    """

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A misreading, and the tests that must notice it.

    Attributes:
        name: The misreading in words.
        edits: What it changes, together.
        tests: Arguments for pytest.
    """

    name: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "one neighbour more in the mutual sets",
        (
            Edit(
                "clustering/jaccard.py",
                'k1 if neighbourhood == "released" else k1 + 1',
                'k1 + 1 if neighbourhood == "released" else k1 + 1',
            ),
        ),
        JACCARD,
    ),
    Mutant(
        "two thirds or more, instead of more than two thirds",
        (Edit("clustering/jaccard.py", "3 * shared > 2 * half_counts[j]", "3 * shared >= 2 * half_counts[j]"),),
        JACCARD,
    ),
    Mutant(
        "half-size neighbourhood without the sample itself",
        (Edit("clustering/jaccard.py", "round(k1 / 2) + 1)", "round(k1 / 2))"),),
        JACCARD,
    ),
    Mutant(
        "half-size neighbourhood rounded up at halves",
        (Edit("clustering/jaccard.py", "round(k1 / 2) + 1)", "int(k1 / 2 + 0.5) + 1)"),),
        JACCARD,
    ),
    Mutant(
        "plain query expansion where it should balance the modalities",
        (
            Edit(
                "clustering/jaccard.py",
                "_expansion_shares(index[:, :expansion], modality)",
                "_expansion_shares(index[:, :expansion], None)",
            ),
        ),
        JACCARD,
    ),
    Mutant(
        "weights from the true distance, also for features shorter than one",
        (
            Edit(
                "clustering/jaccard.py",
                "exponents[at - start] = twice_product - 2.0",
                "exponents[at - start] = twice_product - lengths[i] - lengths[j]",
            ),
        ),
        JACCARD,
    ),
    Mutant(
        "camera rule of SYSU-MM01 for the query's own identity only",
        (
            Edit(
                "evaluation/metrics.py",
                "(query_cameras == 3) & (gallery_cameras == 2))",
                "(query_cameras == 3) & (gallery_cameras == 2) & (query_ids == gallery_ids))",
            ),
        ),
        METRICS,
    ),
    Mutant(
        "camera rule of LLCM for every identity",
        (
            Edit(
                "evaluation/metrics.py",
                "(query_cameras == gallery_cameras) & (query_ids == gallery_ids))",
                "(query_cameras == gallery_cameras) & (query_ids == query_ids))",
            ),
        ),
        METRICS,
    ),
    Mutant(
        "mINP from the first correct image instead of the last",
        (
            Edit(
                "evaluation/metrics.py",
                "inp[valid] = correct[valid] / position[last[valid]]",
                "inp[valid] = 1.0 / position[begin]",
            ),
        ),
        METRICS,
    ),
    Mutant(
        "mINP as one over the last position",
        (Edit("evaluation/metrics.py", "correct[valid] / position[last[valid]]", "1.0 / position[last[valid]]"),),
        METRICS,
    ),
    Mutant(
        "CMC divided by all queries, including those without a match",
        (Edit("evaluation/metrics.py", "np.cumsum(found_at) / valid.sum()", "np.cumsum(found_at) / len(valid)"),),
        METRICS,
    ),
    Mutant(
        "CMC counted over images instead of identities",
        (Edit("evaluation/metrics.py", 'if self.cmc_over == "images":', 'if self.cmc_over != "":'),),
        METRICS,
    ),
    Mutant(
        "no random draw from a folder of one image",
        (
            Edit(
                "evaluation/protocols.py",
                "return [generator.choice(group)]",
                "return [generator.choice(group)] if len(group) > 1 else group",
            ),
        ),
        PROTOCOLS,
    ),
    Mutant(
        "the negated cosine as matching cost, not its exponential",
        (Edit("clustering/matching.py", "np.exp(-(unit_length(visible)", "(-(unit_length(visible)"),),
        COSTS,
    ),
    Mutant(
        "later rounds of the matching do not change the inverse map",
        (
            Edit(
                "clustering/matching.py",
                "forward[left[rows]], backward[columns] = columns, left[rows]",
                "forward[left[rows]] = columns",
            ),
        ),
        MATCHING,
    ),
    Mutant(
        "memory momentum as the share of the new value",
        (
            Edit(
                "prototypes/cluster.py",
                "self.momentum * prototypes[classes] + (1.0 - self.momentum) * rows",
                "(1.0 - self.momentum) * prototypes[classes] + self.momentum * rows",
            ),
        ),
        MEMORIES,
    ),
    Mutant(
        "hard prototypes refreshed by the nearest query, not the furthest",
        (
            Edit(
                "prototypes/cluster.py",
                "hardest = rank_by_value(own, labels, self.num_clusters) < self.hard_samples",
                "hardest = rank_by_value(-own, labels, self.num_clusters) < self.hard_samples",
            ),
        ),
        MEMORIES,
    ),
    Mutant(
        "hardest query found with the centroid after its update",
        (
            Edit(
                "prototypes/cluster.py",
                "        if self.hard_samples == 1:\n",
                (
                    "        own = (queries * self.centroids[labels]).sum(1)\n"
                    "        hardest = rank_by_value(own, labels, self.num_clusters) < self.hard_samples\n"
                    "        if self.hard_samples == 1:\n"
                ),
            ),
        ),
        MEMORIES,
    ),
    Mutant(
        "scores multiplied by the temperature",
        (
            Edit(
                "losses.py",
                "(at_least_float32(similarities) / temperature)",
                "(at_least_float32(similarities) * temperature)",
            ),
        ),
        MEMORIES,
    ),
    Mutant(
        "margin taken from each query's loss instead of the batch's mean",
        (
            Edit(
                "losses.py",
                "centroid = mean_over(contrast(centroid_similarities, labels, temperature), confidence)",
                "centroid = contrast(centroid_similarities, labels, temperature)",
            ),
            Edit(
                "losses.py",
                "(hard + (centroid - margin).relu())",
                "(hard + mean_over((centroid - margin).relu(), confidence))",
            ),
        ),
        MEMORIES,
    ),
    Mutant(
        "own cluster's easiest instance instead of its hardest",
        (Edit("losses.py", "own.amin(2)", "own.amax(2)"),),
        MEMORIES,
    ),
    Mutant(
        "memory written before the gradient of its own queries",
        (
            Edit(
                "prototypes/released.py",
                "        memory.update(queries, labels)\n        return gradient",
                "        return gradient",
            ),
            Edit(
                "prototypes/released.py",
                "        gradient = similarities(",
                "        memory.update(queries, labels)\n        gradient = similarities(",
            ),
        ),
        MEMORIES,
    ),
    Mutant(
        "cross term in the same direction in every epoch",
        (Edit("engine/across.py", 'return ["visible"] if epoch % 2 == 0 else ["infrared"]', 'return ["visible"]'),),
        STEPS,
    ),
    Mutant(
        "cross term reads the other memory, but does not write it",
        (
            Edit(
                "engine/terms.py",
                "MEMORY_USE[recipe.memory_update].read(term.memory, queries)",
                '(MEMORY_USE["after_step"] if term.label_map is not None else MEMORY_USE[recipe.memory_update])'
                ".read(term.memory, queries)",
            ),
        ),
        STEPS,
    ),
    Mutant(
        "visible half of the joint batch before the infrared half",
        (
            Edit(
                "engine/across.py",
                "for name, part, _ in in_order(recipe, queries, Pair(held, held))",
                "for name, part in queries.items()",
            ),
        ),
        STEPS,
    ),
    Mutant(
        "joint centres as plain means, so that the larger modality counts more",
        (
            Edit(
                "engine/memories.py",
                "balanced_cluster_means(both, pseudo, modality, count)",
                "cluster_means(both, pseudo, count)",
            ),
        ),
        STEPS,
    ),
    Mutant(
        "batch-norm statistics of the momentum network averaged",
        (Edit("recipes.py", 'momentum_buffers="own",', 'momentum_buffers="average",'),),
        STEPS,
    ),
    Mutant(
        "momentum network averaged from the start of stage I",
        (Edit("recipes.py", 'momentum_from="stage2",', 'momentum_from="start",'),),
        STEPS,
    ),
    Mutant(
        "clustering features scaled back to unit length",
        (Edit("recipes.py", "renormalise=False,", "renormalise=True,"),),
        STEPS,
    ),
    Mutant(
        "one optimiser through both stages",
        (
            Edit(
                "engine/trainer.py",
                "if self.networks.optimiser is None or (epoch == lengths.stage1_epochs and progress.state is None):",
                "if self.networks.optimiser is None:",
            ),
        ),
        STEPS,
    ),
)


class MutationError(Exception):
    """A mutant that cannot be judged, with the reason in one line."""


def mutate(source: str, edit: Edit) -> str:
    """The source with one edit made.

    Raises:
        MutationError: The old text does not occur exactly once.
    """
    found = source.count(edit.old)
    if found != 1:
        raise MutationError(f"{edit.file}: {edit.old.strip()!r} occurs {found} times, expected once")
    return source.replace(edit.old, edit.new)


def mutated_files(package: Path, mutant: Mutant) -> dict[Path, str]:
    """What the files of a package become: path to content.

    Raises:
        MutationError: An edit does not fit, or a file is missing.
    """
    contents: dict[Path, str] = {}
    for edit in mutant.edits:
        path = package / edit.file
        if not path.is_file():
            raise MutationError(f"{edit.file}: no such file")
        contents[path] = mutate(contents.get(path) or path.read_text("utf-8"), edit)
    return contents


def copy_tree(root: Path, target: Path) -> None:
    """Copy what tests need: sources, tests and the project file; no caches."""
    for name in ("src", "tests", "scripts"):
        if (root / name).is_dir():
            shutil.copytree(root / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy2(root / "pyproject.toml", target / "pyproject.toml")


def failed_tests(output: str) -> list[str]:
    """The tests that pytest's summary names as failed, without their file's folder."""
    return [Path(name).name for name in re.findall(r"^FAILED (.+?)(?: - .*)?$", output, re.MULTILINE)]


def _environment(copy: Path) -> dict[str, str]:
    """The copy's package comes before the installed one, no bytecode is written, and there is one thread."""
    return {
        **os.environ,
        "PYTHONPATH": str(copy / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
    }


def run_tests(copy: Path, tests: tuple[str, ...], cache: Path, *, stop_early: bool = True) -> list[str]:
    """Run tests in a copy of the tree, with its package.

    Args:
        copy: The copy.
        tests: Arguments for pytest.
        cache: Folder of numba's compiled loops.
        stop_early: Whether one failure is enough.

    Returns:
        The names of the tests that failed.

    Raises:
        MutationError: Pytest could not finish, or something other than a test failed.
    """
    options = ["-q", "--tb=no", "-rfE", "-p", "no:cacheprovider", *(["-x"] if stop_early else [])]
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=copy,
            env={**_environment(copy), "NUMBA_CACHE_DIR": str(cache)},
            capture_output=True,
            text=True,
            timeout=LONGEST_RUN,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MutationError(f"{' '.join(tests)} took longer than {LONGEST_RUN} seconds") from error
    failed = failed_tests(ran.stdout)
    # Pytest's 0 means "all passed" and 1 "some failed"; a fixture or an import that breaks proves nothing.
    if ran.returncode not in (0, 1) or bool(failed) != (ran.returncode == 1):
        last = (ran.stdout + ran.stderr).strip().splitlines()[-1:]
        raise MutationError(f"{' '.join(tests)} did not run: {''.join(last)}")
    return failed


def check_copy(copy: Path, mutants: tuple[Mutant, ...]) -> None:
    """Check that all tests pass in the copy before anything is planted.

    Raises:
        MutationError: One fails.
    """
    named = tuple(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    failed = run_tests(copy, named, copy / CACHE, stop_early=False)
    if failed:
        raise MutationError(f"fails without any mutant: {', '.join(failed)}")


def imported_from(copy: Path) -> Path:
    """Where the package is imported from with the environment of `run_tests`."""
    where = "import importlib.util as u; print(u.find_spec('pclhd').origin)"
    ran = subprocess.run(
        [sys.executable, "-c", where], cwd=copy, env=_environment(copy), capture_output=True, text=True, check=True
    )
    return Path(ran.stdout.strip())


def catch(copy: Path, mutant: Mutant) -> list[str]:
    """Plant a mutant in a copy, run its tests, and take it out again.

    A mutant in a module with compiled loops gets a cache of its own: numba does not notice that a loop of another file,
    which it compiled into this one, has changed. All others share one, or most of the time would go into compiling.

    Returns:
        The tests that failed; none means that it survived.

    Raises:
        MutationError: It cannot be planted, or its tests do not run.
    """
    contents = mutated_files(copy / "src" / "pclhd", mutant)
    originals = {path: path.read_text("utf-8") for path in contents}
    try:
        for path, content in contents.items():
            path.write_text(content, "utf-8")
        with tempfile.TemporaryDirectory() as fresh:
            compiled = any("numba" in content for content in originals.values())
            return run_tests(copy, mutant.tests, Path(fresh) if compiled else copy / CACHE)
    finally:
        for path, content in originals.items():
            path.write_text(content, "utf-8")


def check(root: Path, mutants: tuple[Mutant, ...]) -> int:
    """Judge mutants one by one and print the table.

    Args:
        root: The tree.
        mutants: The mutants to judge.

    Returns:
        How many were not caught.
    """
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve()
        copy_tree(root, copy)
        if not imported_from(copy).is_relative_to(copy):
            raise MutationError(f"pclhd is imported from {imported_from(copy)}, not from the copy in {copy}")
        check_copy(copy, mutants)
        print("| Misreading | File | Caught by |\n|---|---|---|", flush=True)
        for mutant in mutants:
            try:
                failed = catch(copy, mutant)
                caught = ", ".join(f"`{name}`" for name in failed) or "**nothing**"
            except MutationError as error:
                failed, caught = [], f"**not judged**: {error}"
            missed += not failed
            files = ", ".join(dict.fromkeys(f"`{edit.file}`" for edit in mutant.edits))
            print(f"| {mutant.name} | {files} | {caught} |", flush=True)
    print(f"\n{len(mutants) - missed} of {len(mutants)} caught")
    return missed


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 if every mutant was caught, 1 if not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", metavar="WORD", default="", help="mutants whose name or file holds this word")
    parser.add_argument("--list", action="store_true", help="list the mutants and stop")
    chosen = parser.parse_args(arguments)
    mutants = tuple(
        mutant
        for mutant in MUTANTS
        if any(chosen.only in text for text in (mutant.name, *(e.file for e in mutant.edits)))
    )
    if not mutants:
        print(f"no mutant's name or file holds '{chosen.only}'; --list names them", file=sys.stderr)
        return 1
    if chosen.list:
        print("\n".join(mutant.name for mutant in mutants))
        return 0
    try:
        return int(check(ROOT, mutants) > 0)
    except MutationError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
