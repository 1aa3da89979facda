"""Damaged inputs, drawn at random; `make fuzz` tries many more."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from pclhd.config import load_preset
from pclhd.errors import UserError
from pclhd.parsing import Unparsable, parse_json
from pclhd.runs.records import parse_log_line
from pclhd.study.definition import read_definition
from tests.fuzz.damage import OF_KIND, Random, changed_tree

ROOT = Path(__file__).parent.parent
DRAWS = strategies.randoms(use_true_random=False)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="cases are forked")
def test_no_verb_fails_on_damaged_inputs() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--hypothesis", "--inputs", "300", "--seconds", "40"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DRAWS)
def test_a_damaged_preset_file_is_read_or_refused(tmp_path: Path, draw: Random) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 1\nrecipe: paper\nschedule: {iterations: 3}\nmethod: {cross: 0.5}\ndata: {root: x}\n")
    draw.choice(OF_KIND[".yaml"])(path, draw)
    with contextlib.suppress(UserError):
        load_preset(str(path), [])


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DRAWS)
def test_a_damaged_study_file_is_read_or_refused(tmp_path: Path, draw: Random) -> None:
    path = tmp_path / "study.yaml"
    space = "{clustering.eps: {type: float, low: 0.4, high: 0.7}, recipe: {type: categorical, choices: [paper, pclhd]}}"
    path.write_text(f"preset: tiny\nseeds: [0, 1]\nsettings: {{schedule.iterations: 3}}\nspace: {space}\n")
    draw.choice(OF_KIND[".yaml"])(path, draw)
    with contextlib.suppress(UserError):
        read_definition(path, [])


@settings(max_examples=100, deadline=None)
@given(DRAWS)
def test_a_damaged_line_of_a_log_is_read_or_refused(draw: Random) -> None:
    line = {"kind": "step", "epoch": 1, "stage": 2, "step": 3, "global_step": 23, "lr": 0.5, "loss": {"total": 1.5}}
    tree, _ = changed_tree(line, draw)
    with contextlib.suppress(UserError):
        parse_log_line(json.dumps(tree), "metrics.jsonl, line 1")


@settings(max_examples=200, deadline=None)
@given(strategies.text(alphabet='[]{}",:0123456789.eE+-naNIifty \\u\n\x00', max_size=200))
def test_any_text_is_json_or_refused(text: str) -> None:
    with contextlib.suppress(Unparsable):
        parse_json(text)
