"""An option of the clustering is one field and its use: everything that lists or reads options comes from the field."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pclhd
from pclhd.clustering.options import ClusteringOptions, ClusteringSizes, automatic_sizes
from pclhd.errors import ArgumentError
from pclhd.recipes import RECIPES

NEW_SIZE = """
    reach: float = Field(0.25, gt=0, description="A made-up size.")
"""
NEW_CHOICE = """
    flavour: Literal["plain", "odd"] = Field("plain", description="A made-up choice.")
"""

# Everything that a user can see of an option, collected in a process that imports the changed package.
LOOK = """
import io, json, sys
from contextlib import redirect_stdout, suppress
from pclhd.cli import main
from pclhd.clustering.options import ClusteringOptions
from pclhd.config import load_preset

def run(*words):
    sys.argv = ["pclhd", *words]
    out = io.StringIO()
    with redirect_stdout(out), suppress(SystemExit):
        main()
    return out.getvalue()

settings = load_preset("tiny", ["clustering.reach=0.5", "method.flavour=odd"])
options = ClusteringOptions.of(settings.clustering, settings.method)
print(json.dumps({
    "engine": [options.reach, options.flavour],
    "page": run("settings", "--markdown"),
    "list": run("settings", "clustering.reach") + run("settings", "flavour"),
    "schema": run("settings", "--schema"),
    "recipe": run("recipes", "pclhd"),
    "help": run("cluster", "--help"),
    "yaml": settings.to_yaml(),
}))
"""


@pytest.mark.slow
def test_a_new_option_is_one_field(tmp_path: Path) -> None:
    import json
    import shutil

    package = tmp_path / "pclhd"
    shutil.copytree(Path(pclhd.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    home = package / "clustering" / "options.py"
    text = home.read_text("utf-8")
    for before, field in (("\n\nclass ClusteringChoices", NEW_SIZE), ("\n\nclass ClusteringOptions", NEW_CHOICE)):
        assert text.count(before) == 1
        text = text.replace(before, f"{field}{before}")
    home.write_text(text, "utf-8")
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "", "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert seen["engine"] == [0.5, "odd"]
    assert "| `clustering.reach` | `0.25` | number above 0 | A made-up size. |" in seen["page"]
    assert "| `method.flavour` | `plain` | plain, odd | A made-up choice. |" in seen["page"]
    assert "A made-up size." in seen["list"]
    assert "A made-up choice." in seen["list"]
    assert '"reach"' in seen["schema"]
    assert '"flavour"' in seen["schema"]
    assert "method.flavour=plain" in seen["recipe"]
    assert "--reach" in seen["help"]
    assert "--flavour" in seen["help"]
    assert "plain|odd" in seen["help"]
    assert "reach: 0.5" in seen["yaml"]


def test_sizes_and_choices_together() -> None:
    options = ClusteringOptions.of(ClusteringSizes(k1=7), RECIPES["paper"], k2=3, eps=0.4)
    assert options == ClusteringOptions(k1=7, k2=3, eps=0.4, neighbourhood="paper")


def test_a_change_is_checked() -> None:
    assert ClusteringOptions(k1=7).changed(k2=3) == ClusteringOptions(k1=7, k2=3)
    with pytest.raises(ValueError, match="k1"):
        ClusteringOptions().changed(k1=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"k1": 0}, "k1=0: expected a whole number from 1, or auto"),
        ({"eps": 1.5}, "eps=1.5: expected a distance above 0 and below 1, or auto"),
        ({"k3": 1}, "k3=1: Extra inputs are not permitted"),
    ],
)
def test_what_a_user_gave_is_refused_by_name(given: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        ClusteringOptions.checked(given)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("images", "joint", "k1", "k2"),
    [
        (0, False, 6, 3),
        (20, False, 6, 3),
        (72, False, 6, 3),
        (800, False, 20, 5),
        (1740, False, 29, 6),
        (22_258, False, 30, 6),
        (0, True, 12, 4),
        (144, True, 12, 4),
        (800, True, 28, 6),
        (34_167, True, 40, 7),
    ],
)
def test_sizes_that_follow_the_number_of_images(images: int, joint: bool, k1: int, k2: int) -> None:
    assert automatic_sizes(images, joint=joint) == {"k1": k1, "k2": k2}
    resolved = ClusteringOptions(k1="auto", k2="auto").resolved(images, joint=joint)
    assert resolved.numbers() == (k1, k2)
    assert ClusteringOptions(k1=7).resolved(images, joint=joint).numbers() == (7, 6)
    with pytest.raises(ValueError, match="still 'auto'"):
        ClusteringOptions(k2="auto").numbers()


def test_sizes_grow_with_the_number_of_images() -> None:
    for joint in (False, True):
        sizes = [automatic_sizes(images, joint=joint) for images in range(0, 4000, 7)]
        for name in ("k1", "k2"):
            values = [size[name] for size in sizes]
            assert values == sorted(values)


@pytest.mark.parametrize("value", [True, 1.5, "7", "automatic", None, -1])
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(ArgumentError, match="expected a whole number from 1, or auto"):
        ClusteringOptions.checked({"k1": value})
