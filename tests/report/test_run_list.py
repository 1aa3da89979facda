from __future__ import annotations

from pathlib import Path

from pclhd.report.run_list import as_size, runs_text
from pclhd.runs.listing import list_runs
from tests.commands import Call
from tests.runs.test_listing import make_run


def test_the_list_as_text(tmp_path: Path) -> None:
    make_run(tmp_path / "one", epochs=3, model=True)
    make_run(tmp_path / "two", epochs=1, seed=4)
    failed = make_run(tmp_path / "three") / "metrics.jsonl"
    failed.write_text('{"kind": "failure", "epoch": 0, "reason": "all images are noise"}\n')
    (make_run(tmp_path / "bad") / "config.yaml").write_text("[")
    lines = runs_text(list_runs([tmp_path])).splitlines()
    assert " ".join(lines[0].split()) == "run state method preset data seed epochs rank-1 mAP best disk"
    assert lines[2].split()[:7] == [f"{tmp_path}/one", "finished", "pclhd", "tiny", "data", "0", "3/3"]
    assert lines[3].split()[:7] == [f"{tmp_path}/three", "failed", "pclhd", "tiny", "data", "0", "0/3"]
    assert lines[4].split()[:7] == [f"{tmp_path}/two", "interrupted", "pclhd", "tiny", "data", "4", "1/3"]
    assert lines[5] == f"failed: {tmp_path}/three: all images are noise"
    assert lines[6].startswith(f"damaged: {tmp_path}/bad/config.yaml")
    assert lines[8].startswith("4 runs, ")
    assert runs_text([]) == "no run folders"


def test_sizes() -> None:
    assert [as_size(size) for size in (0, 1023, 1024, 5 * 2**20, 3 * 2**29)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "5.0 MiB",
        "1.5 GiB",
    ]


def test_the_verb(pclhd: Call, tmp_path: Path) -> None:
    make_run(tmp_path / "one", model=True)
    (make_run(tmp_path / "bad") / "metrics.jsonl").write_text("broken\n")
    text, as_json = pclhd("runs", tmp_path), pclhd("runs", tmp_path, "--json")
    assert (text.code, as_json.code, text.err) == (0, 0, "")
    assert '"state": "damaged"' in as_json.out
    assert f"damaged: {tmp_path}/bad/metrics.jsonl" in text.out
    assert pclhd("runs", tmp_path / "nowhere").code == 2
