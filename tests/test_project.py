"""The files around the code: pinned versions, the Makefile, the licence, and no path of one machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pclhd import __version__

ROOT = Path(__file__).parent.parent
# Folders made by tools; everything else belongs to the project.
MADE = {".git", ".venv", "__pycache__"}
MADE_AT_THE_TOP = {"build", "dist", "runs"}
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".json", ""}


def _project_files() -> list[Path]:
    return [
        path
        for path in ROOT.rglob("*")
        if path.is_file()
        and path.suffix in TEXT
        and not any(part in MADE or part.endswith((".egg-info", "_cache")) for part in path.relative_to(ROOT).parts)
        and path.relative_to(ROOT).parts[0] not in MADE_AT_THE_TOP
        and ".hypothesis" not in path.parts
    ]


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def test_every_dependency_is_pinned_within_its_range() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    requirements = [Requirement(line) for line in wanted]
    pins = _pins()
    for requirement in requirements:
        if requirement.name != project["name"]:
            assert pins[canonicalize_name(requirement.name)] in requirement.specifier


def test_pins_hold_on_any_machine() -> None:
    pins = _pins()
    assert len(pins) > 50
    for name, version in pins.items():
        assert re.fullmatch(r"[0-9][0-9a-z.]*", version), f"{name}=={version}"
        assert not name.startswith(("nvidia", "triton", "cuda"))


def test_no_file_names_a_place_of_one_machine() -> None:
    place = re.compile(r"(?<![\w.:/])/(?:root|home|Users|work|opt|tmp)/\w")
    found = []
    for path in _project_files():
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            if place.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found


def test_the_licence_is_the_whole_apache_licence() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Version 2.0, January 2004" in text
    assert [re.search(rf"^   {number}\. ", text, re.MULTILINE) is not None for number in range(1, 10)] == [True] * 9
    assert "APPENDIX: How to apply the Apache License to your work." in text


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("python", ["no-such-python", "false"])
def test_a_missing_or_old_python_is_reported_in_one_line(tmp_path: Path, python: str) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    command = ["make", "--no-print-directory", "env", f"PYTHON={python}"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode != 0
    # The second line is make's own, on the target that failed.
    assert f"'{python}' is missing or older than Python 3.11" in ran.stderr.splitlines()[0]
    assert len(ran.stderr.splitlines()) <= 2
    assert not (tmp_path / ".venv").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_alone_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"^([a-z-]+):.* ## ", makefile, re.MULTILINE)
    ran = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[1] for line in ran.stdout.splitlines()] == targets
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == set(targets)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("installed", "target", "installs"),
    [
        ([], "demo", "'.[plots,serve]'"),
        ([], "test", "'.[dev]'"),
        ([".runtime"], "demo", None),
        ([".runtime"], "test", "'.[dev]'"),
        ([".runtime", ".installed"], "demo", None),
        ([".runtime", ".installed"], "test", None),
    ],
)
def test_each_target_installs_only_what_it_needs(
    tmp_path: Path, installed: list[str], target: str, installs: str | None
) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    for stamp in installed:
        (tmp_path / ".venv" / stamp).touch()
    command = ["make", "--no-print-directory", "--dry-run", target]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.findall(r"pip install .* -c constraints.txt -e (.*)", ran.stdout) == ([installs] if installs else [])
    # Developers get the runtime dependencies, too.
    assert ("touch .venv/.runtime .venv/.installed" in ran.stdout) == (installs == "'.[dev]'")


def test_the_citation_names_the_software_and_the_paper() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(cited)  # what the format requires
    assert (cited["title"], str(cited["version"]), cited["license"]) == ("pclhd", __version__, project["license"])
    (paper,) = cited["references"]
    assert {"type", "title", "authors"} <= set(paper)
    assert all({"given-names", "family-names"} == set(author) for author in paper["authors"])
    readme = (ROOT / "README.md").read_text("utf-8")
    assert paper["title"] in " ".join(readme.split())
    assert paper["url"] in readme


def test_templates_and_workflow_are_read_by_their_programs() -> None:
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        content = yaml.safe_load(form.read_text("utf-8"))
        if form.stem == "config":
            continue
        assert {"name", "description", "body"} <= set(content)
        fields = [part for part in content["body"] if part["type"] != "markdown"]
        assert len({part["id"] for part in fields}) == len(fields) > 0
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    (job,) = workflow["jobs"].values()
    assert job["steps"][-1]["run"] == ".ci/run"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_nothing_advises_to_install_a_package_that_is_not_published() -> None:
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "src").rglob("*.py")]
    advised = [path.name for path in texts if re.search(r"pip install '?pclhd\b", path.read_text("utf-8"))]
    assert advised == []
