"""Every block of commands or Python in the documentation runs, on tiny data, or has a reason here why not."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pclhd.data.records import Modality
from tests.commands import call

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^[ \t]*```(bash|python)\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)

BENCHMARK = "hours of computing; `make bench` and tests/test_benchmarks*.py run each benchmark in its quick form"
STARTER = "minutes of training; tests/supervised/test_starter.py makes small ones"
PAIRS = "needs sets that we do not have; tests/test_pedestrian_pairs.py runs it on drawn frames"
REPRODUCE = "tests/test_reproduce.py runs the page's commands on people drawn in RegDB's layout"
#: What is not run, by page and beginning of the block (after a `# comment` line, if it begins with one).
NOT_RUN = {
    "CONTRIBUTING.md": {
        "def contrast": "a part of src/pclhd/losses.py, as tests/test_docs.py checks",
        "python3 -m venv": "installs all dependencies from the network",
    },
    "docs/answers.md": {"pclhd synth --out build/small": "the training behind the page's figures"},
    "docs/backbones.md": {
        "pclhd starter --out vit.safetensors --preset vit --learning-rate": STARTER,
        "pclhd starter --out vit.safetensors --preset vit --people": STARTER,
        "hf download": "downloads a model",
    },
    "docs/benchmark.md": {
        "pclhd synth --out build/validation": BENCHMARK,
        "pclhd ablate synthetic --data build/validation": BENCHMARK,
    },
    "docs/cluster.md": {
        "pip install lancedb pyarrow 'ray[data]'": "starts Ray; tests/gallery/test_ray_workers.py does so",
        "ray start": "needs several machines",
        "pip install lancedb pyarrow obstore": "needs object storage; tests/gallery/test_bucket.py has a local one",
    },
    "docs/clustering.md": {"pclhd synth --out build/fresh": BENCHMARK},
    "docs/first-steps.md": {"pclhd gallery search build/demo": "needs the demo's gallery; tests/test_demo_gallery.py"},
    "docs/export.md": {"from pathlib import Path": "tests/workflows/test_export.py runs it"},
    "docs/faults.md": {"python -m tests.fuzz": "many minutes; tests/test_fuzz.py draws some hundred inputs"},
    "docs/fidelity.md": {
        ".venv/bin/python scripts/mutation_check.py": "tests/test_mutation_check.py runs it",
        "pclhd synth --out build/small --scale small --generator 1": BENCHMARK,
    },
    "docs/report.md": {
        "pclhd report runs/mine --queries": "names images of yours; tests/workflows/test_report.py",
        "pclhd report runs/baseline-0": "names four runs; tests/workflows/test_report.py",
    },
    "docs/figures.md": {
        "pclhd synth --out build/validation": BENCHMARK,
        "pclhd ablate synthetic": "many trainings; tests/workflows/test_ablate.py does a few",
        "pclhd figures runs/baseline-0": "needs four runs; tests/workflows/test_ablate.py draws figures of two",
        "pclhd figures runs/sysu-pclhd": "needs a run on SYSU-MM01; tests/report/test_paper.py",
    },
    "docs/real-photographs.md": {"python scripts/pedestrian_pairs.py": PAIRS},
    "docs/reproduce.md": {"": REPRODUCE},
    "docs/results.md": {
        "pclhd synth --out build/third": BENCHMARK,
        "pclhd starter --out starter.safetensors": STARTER,
    },
    "docs/search.md": {
        "import pandas": "needs Renumics Spotlight; the page says what was run",
        "import pyarrow.parquet": "needs Qdrant's and Milvus's clients; the page says what was run",
    },
    "docs/service.md": {
        "pclhd audit verify": "needs the log of a service that ran; tests/service/test_audit.py",
        "curl": "needs a running service; tests/service calls these routes",
    },
    "docs/several-processes.md": {
        "torchrun": "needs several GPUs; tests/engine/test_together.py trains in several processes",
        "#!/bin/bash": "a job for Slurm",
        ".venv/bin/python -m pytest": "a test of its own",
    },
    "docs/speed.md": {
        "git worktree add": BENCHMARK,
        "pclhd synth --out build/validation": BENCHMARK,
        "python scripts/gpu_check.py": "needs a GPU; tests/test_gpu.py runs it on a processor",
    },
    "docs/studies.md": {
        "pclhd study run": "many trainings; tests/study runs small studies",
        "python -c": "many trainings; tests/study runs small studies",
        "import pandas": "reads the table of these trainings",
        "for seed in 0 1 2": "three trainings on these data",
        "export PCLHD_STUDY_STORAGE": "needs a database server; tests/study shares a study without one",
    },
    "docs/weights.md": {
        "pclhd import model_best": "needs a ResNet-50 checkpoint; tests/golden/test_imported.py",
        "pclhd export runs/mine --format released": "needs a ResNet-50 run; tests/workflows/test_exchange.py",
    },
}  # fmt: skip
#: Lines of blocks that are run which are left out, and why.
SKIPPED_LINES = {
    r"(\S*/)?pip install": "installs",
    r"make ": ".ci/run calls the targets that matter; tests/test_docs.py checks that all exist",
    r"source ": "the tests have an environment",
    r"(\S*/)?pclhd serve ": "runs until it is stopped; tests/service/test_run.py",
    r"(\S*/)?pre-commit ": "installs",
    r"pclhd fetch-imagenet": "downloads; tests/models/test_imagenet.py",
}
#: Replacements that make a command small. The words of the documentation are accepted as they are (tests/test_docs.py).
SMALLER = (
    (r"(?<=\btrain )(synthetic|own-laptop|own|sysu)(?= )", "tiny"),
    (r" model\.weights=imagenet:\S+", ""),
    (r" schedule\.\S+", ""),
    (r"--scale (small|sysu)", "--scale tiny"),
    (r"(pclhd synth (?!.*--scale)[^\n#]*)", r"\1 --scale tiny "),
    (r"--out DIR\b", "--out drawn"),
    (r"DIR --layout regdb", "regdb --layout regdb"),
    (r"/scratch/", "scratch/"),
    ("\"own-laptop\"", "\"tiny\""),
    (r'"iterations": \d+', '"iterations": 1'),
)  # fmt: skip
_PROGRAMS = {"pclhd", "mkdir", "cp", "for", "do", "done"}


@dataclass(frozen=True)
class Block:
    """A block of code in a page."""

    page: str
    kind: str
    code: str

    @property
    def beginning(self) -> str:
        lines = [line for line in self.code.splitlines() if not re.match(r"# ", line)]
        return lines[0].strip() if lines else ""

    @property
    def reason(self) -> str | None:
        """Why the block is not run; None if it is."""
        if re.fullmatch(r"((\w+=\S+ |nice \S+ \S+ )*(\S*/)?python benchmarks/\S.*(\n|\Z)|.*\\\n|    .*\n)+", self.code):
            return BENCHMARK
        for start, why in NOT_RUN.get(self.page, {}).items():
            if self.beginning.startswith(start):
                return why
        return None


BLOCKS = [
    Block(page.relative_to(ROOT).as_posix(), kind, code)
    for page in PAGES
    for kind, code in _FENCE.findall(page.read_text("utf-8"))
]
RUN = {
    page: [b for b in BLOCKS if b.page == page and b.reason is None] for page in dict.fromkeys(b.page for b in BLOCKS)
}


def test_most_blocks_are_run_and_every_reason_is_needed() -> None:
    assert len(BLOCKS) > 60
    assert sum(map(len, RUN.values())) > 25
    for page, reasons in NOT_RUN.items():
        for start in reasons:
            assert any(b.page == page and b.beginning.startswith(start) for b in BLOCKS), f"{page}: no block {start!r}"


def _lines(code: str) -> Iterator[str]:
    """The lines of a block that are run, made smaller; continued lines are joined."""
    numbers = itertools.count(1)
    for line in code.replace("\\\n", " ").splitlines():
        if any(re.match(pattern, line.strip()) for pattern in SKIPPED_LINES):
            continue
        for pattern, instead in SMALLER:
            line = re.sub(pattern, instead, line)
        yield re.sub(r"--out drawn\b", lambda _: f"--out drawn{next(numbers)}", line)


def _calls(code: str, folder: Path) -> list[list[str]]:
    """The calls of `pclhd` in a block, as bash understands it; other commands (mkdir, cp) are run by bash."""
    lines = [re.sub(r"(?<!\S)\S*/pclhd(?!\S)", "pclhd", line) for line in _lines(code)]
    for line in lines:
        program = (shlex.split(line, comments=True) or ["mkdir"])[0]
        assert program in _PROGRAMS, f"'{line}' calls {program}: run it, or give the reason in this file"
    record = folder / ".calls"
    record.write_text("")
    script = "\n".join(['pclhd() { printf "%q " "$@" >> .calls; echo >> .calls; }', "set -eu", *lines])
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    subprocess.run(["bash", "-c", script], cwd=folder, env=environment, check=True)
    calls = [shlex.split(line) for line in record.read_text().splitlines()]
    record.unlink()
    return calls


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory, tiny_sysu: Path, tiny_regdb: Path) -> Path:
    """A folder with what the pages talk about: the demo's data and run, folders of images, a video, checkpoints."""
    from pclhd.runs.folder import RunFolder
    from tests.gallery.test_video import draw

    root = tmp_path_factory.mktemp("sandbox")
    shutil.copytree(tiny_sysu, root / "build/demo/data")
    shutil.copytree(tiny_sysu, root / "SYSU-MM01")
    shutil.copytree(tiny_sysu, root / "DIR")
    shutil.copytree(tiny_regdb, root / "regdb")
    by_camera = {n: sorted((root / f"build/demo/data/cam{n}").rglob("*.jpg")) for n in range(1, 7)}
    for folders, cameras in (
        (("day", "photos/day", "mine/visible"), (1, 2, 4, 5)),
        (("night", "photos/night", "mine/infrared"), (3, 6)),
    ):
        for folder in folders:
            (root / folder).mkdir(parents=True)
            for camera in cameras:
                for image in by_camera[camera]:
                    shutil.copy(image, root / folder / f"{camera}-{image.parent.name}-{image.name}")
    shutil.copy(by_camera[6][0], root / "night/0031.jpg")
    shutil.copy(by_camera[6][0], root / "someone.jpg")
    rows = ["path,modality,camera,identity"]
    for image in sorted((root / "mine").rglob("*.jpg")):
        taken_by, person, _ = image.name.split("-")
        rows.append(f"{image.relative_to(root / 'mine')},{image.parent.name},{taken_by},{person}")
    (root / "mine/images.csv").write_text("\n".join(rows) + "\n")
    film = draw(root / "gate.mp4", {"1": (0, 12)}, 12)
    film.boxes.rename(root / "tracks.txt")
    with contextlib.chdir(root):
        for words in (
            ("train", "tiny", "--data", "build/demo/data", "--out", "build/demo/run"),
            ("evaluate", "build/demo/run"),
        ):
            outcome = call(*words)
            assert outcome.code == 0, outcome
    run = RunFolder(root / "build/demo/run")
    # Six people calibrate one direction only; the pages speak of runs that know all four.
    known = run.calibration()
    assert known is not None
    lights = [str(light) for light in Modality]
    every = [known.directions[0].model_copy(update={"query": a, "gallery": b}) for a in lights for b in lights]
    run.write_calibration(known.model_copy(update={"directions": every}))
    for checkpoint in run.checkpoints_folder.glob("epoch-*"):
        checkpoint.unlink()
    return root


def _needs(page: str, folder: Path) -> None:
    """What a page has from the pages before it."""
    if page not in {"README.md", "docs/own-images.md", "docs/first-steps.md", "docs/python.md"}:  # they make it
        shutil.copytree(folder / "build/demo/run", folder / "runs/mine", copy_function=os.link)
    if page == "docs/clustering.md":
        from pclhd.features.read import read_features

        for ending in ("npy", "safetensors", "parquet"):
            assert call("embed", folder / "runs/mine", "--out", folder / f"features.{ending}").code == 0
        modality = read_features(folder / "features.safetensors").columns["modality"]
        np.save(folder / "modality.npy", modality)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, blocks in RUN.items() if blocks])
def test_blocks_run(page: str, sandbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "page"
    shutil.copytree(sandbox, folder, copy_function=os.link)
    _needs(page, folder)
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    for block in RUN[page]:
        if block.kind == "python":
            code = "\n".join(_lines(block.code))
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(code, f"{page}, {block.beginning}", "exec"), names)
            continue
        for words in _calls(block.code, folder):
            outcome = call(*words)
            assert outcome.code == 0, f"pclhd {shlex.join(words)}\n{outcome.out}\n{outcome.err}"
