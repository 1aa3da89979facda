from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from pclhd.config import load_settings
from pclhd.data.open import open_dataset
from pclhd.data.records import digest_file
from pclhd.errors import UserError
from pclhd.models.released import RELEASED_ARCHITECTURE, released_state
from pclhd.models.two_stream import NARROW, RESNET50_AGW, TwoStreamNetwork
from pclhd.models.weights import load_model, model_metadata, save_model
from pclhd.runs.folder import RunFolder
from pclhd.workflows import exchange
from pclhd.workflows.exchange import export_released, import_checkpoint
from tests.models.small import SMALL, SMALL_BOTTLENECK, stirred


@pytest.fixture
def small_family(monkeypatch: pytest.MonkeyPatch) -> TwoStreamNetwork:
    """The released family with a small network, and one such network."""
    monkeypatch.setattr(exchange, "RELEASED_ARCHITECTURE", SMALL_BOTTLENECK)
    return stirred(SMALL_BOTTLENECK, 1)


@pytest.fixture
def checkpoint(small_family: TwoStreamNetwork, tmp_path: Path) -> Path:
    path = tmp_path / "model_best.pth.tar"
    state = {f"module.{name}": tensor for name, tensor in released_state(small_family).items()}
    torch.save({"state_dict": state, "epoch": 50}, path)
    return path


def final(run: Path) -> TwoStreamNetwork:
    return load_model(run / "model.safetensors")


def same(left: TwoStreamNetwork, right: TwoStreamNetwork) -> bool:
    ours, theirs = left.state_dict(), right.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def run_of(network: TwoStreamNetwork, run: Path) -> Path:
    run.mkdir()
    save_model(run / "model.safetensors", network)
    return run


def test_the_run_says_where_it_comes_from(small_family: TwoStreamNetwork, checkpoint: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "theirs"
    report = import_checkpoint(checkpoint, "regdb", run, trial=3)
    assert same(final(run), small_family)
    count = len(small_family.state_dict())
    sha256 = digest_file(checkpoint)
    assert model_metadata(run / "model.safetensors") == {
        "weights": "imported",
        "source": "model_best.pth.tar",
        "source_sha256": sha256,
        "source_network": "state_dict.module",
        "entries_used": str(count),
        "entries_unused": str(len(report.entries.unused)),
    }
    settings = load_settings(run / "config.yaml")
    assert (settings.preset, settings.data.layout, settings.data.trial, settings.data.root) == (
        "regdb",
        "regdb",
        3,
        None,
    )
    assert (settings.model.architecture, settings.model.weights) == ("resnet50", "none")
    facts = json.loads((run / "provenance.json").read_text("utf-8"))
    assert facts["imported"]["sha256"] == sha256
    assert facts["imported"]["entries_used"] == count
    assert "data" not in facts
    assert "torch" in facts["libraries"]
    assert sorted(path.name for path in run.iterdir()) == ["config.yaml", "model.safetensors", "provenance.json"]
    assert [path.name for path in run.parent.iterdir()] == ["theirs"], "nothing is left beside it"


def test_the_data_is_remembered(checkpoint: Path, tiny_sysu: Path, tmp_path: Path) -> None:
    import_checkpoint(checkpoint, "sysu", tmp_path / "run", data=tiny_sysu)
    digests = open_dataset("sysu", tiny_sysu).train.digests
    assert RunFolder(tmp_path / "run").training_images() == dict.fromkeys(digests)
    assert load_settings(tmp_path / "run" / "config.yaml").data.root == tiny_sysu.resolve()
    facts = json.loads((tmp_path / "run" / "provenance.json").read_text("utf-8"))
    assert facts["data"]["training_checksum"] == open_dataset("sysu", tiny_sysu).train.checksum


def test_equal_checkpoints_give_equal_models(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        import_checkpoint(checkpoint, "own", tmp_path / name)
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_an_empty_folder_is_used(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    import_checkpoint(checkpoint, "own", tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").is_file()


@pytest.mark.parametrize("there", ["folder", "file"])
def test_nothing_is_overwritten(checkpoint: Path, tmp_path: Path, there: str) -> None:
    run = tmp_path / "run"
    note = run / "note.txt" if there == "folder" else run
    note.parent.mkdir(exist_ok=True)
    note.write_text("mine")
    with pytest.raises(UserError, match="already exists; choose another, or replace a run with `force`"):
        import_checkpoint(checkpoint, "own", run)
    assert note.read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"run", checkpoint.name}


def test_a_failure_while_writing_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exchange, "save_model", full)
    with pytest.raises(UserError, match="No space left"):
        import_checkpoint(checkpoint, "own", tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.name]

    def said_of_the_file(path: Path, *_: object, **__: object) -> None:
        raise UserError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr(exchange, "save_model", said_of_the_file)
    with pytest.raises(UserError, match=rf"^{tmp_path / 'run'}/model\.safetensors: cannot be written"):
        import_checkpoint(checkpoint, "own", tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.name]


def test_the_report_is_short_and_names_what_was_left_out(small_family: TwoStreamNetwork, tmp_path: Path) -> None:
    state = {f"model.{name}": tensor for name, tensor in released_state(small_family).items()}
    momentum = {f"model_ema.{name}": tensor for name, tensor in released_state(stirred(SMALL_BOTTLENECK, 2)).items()}
    extra = {"model.attention.weight": torch.zeros(2), "optimizer.step": torch.zeros(1)}
    torch.save({**state, **momentum, **extra, "epoch": 3}, tmp_path / "x.pth")
    report = import_checkpoint(tmp_path / "x.pth", "own", tmp_path / "run", network="model")
    assert same(final(tmp_path / "run"), small_family)
    text = report.text()
    lines = text.splitlines()
    assert len(lines) < 15
    assert f"{len(small_family.state_dict())} entries used, " in lines[0]
    assert lines[0].endswith("from model")
    table = {words[0]: words[1:] for words in map(str.split, lines[2:]) if words[1:] and words[-1].isdecimal()}
    assert table["classifier"] == ["1"]
    assert table["visible_module"][0] == "6"
    assert f"outside the network, ignored: epoch, model_ema ({len(momentum)}), optimizer" in text
    assert "note: the released network has no attention.weight; " in text
    # And the momentum copy, if wanted.
    import_checkpoint(tmp_path / "x.pth", "own", tmp_path / "other", network="model_ema")
    assert same(final(tmp_path / "other"), stirred(SMALL_BOTTLENECK, 2))


def test_a_network_without_non_local_blocks(small_family: TwoStreamNetwork, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in released_state(small_family).items() if not name.startswith("NL_")}
    torch.save(state, tmp_path / "adca.pth")
    report = import_checkpoint(tmp_path / "adca.pth", "own", tmp_path / "run")
    assert "non-local blocks: the file has none" in report.text()
    assert "note:" not in report.text()
    assert not json.loads((tmp_path / "run" / "provenance.json").read_text("utf-8"))["imported"]["non_local_blocks"]


def test_trials_are_regdbs_alone(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="only regdb has"):
        import_checkpoint(checkpoint, "sysu", tmp_path / "run", trial=2)
    with pytest.raises(UserError, match=r"data\.trial"):
        import_checkpoint(checkpoint, "regdb", tmp_path / "run", trial=11)


@pytest.mark.parametrize("name", ["x.pth.tar", "x.pth", "x.safetensors", "X.PTH.TAR"])
def test_there_and_back(small_family: TwoStreamNetwork, tmp_path: Path, name: str) -> None:
    run = run_of(small_family, tmp_path / "ours")
    count = export_released(run, tmp_path / name)
    assert count == len(released_state(small_family))
    report = import_checkpoint(tmp_path / name, "own", tmp_path / "again")
    assert same(final(tmp_path / "again"), small_family)
    assert len(report.entries.used) + len(report.entries.unused) == count
    assert report.entries.unknown == ()


def test_exports_have_the_released_form(small_family: TwoStreamNetwork, tmp_path: Path) -> None:
    run = run_of(small_family, tmp_path / "ours")
    for name in ("x.pth.tar", "x.pth"):
        export_released(run, tmp_path / name)
    saved = torch.load(tmp_path / "x.pth.tar", weights_only=True)
    bare = torch.load(tmp_path / "x.pth", weights_only=True)
    assert set(saved) == {"state_dict", "epoch"}
    assert list(saved["state_dict"]) == [f"module.{name}" for name in bare]
    assert torch.equal(bare["base_resnet.base.conv1.weight"], bare["visible_module.visible.conv1.weight"])
    assert not torch.equal(bare["base_resnet.base.conv1.weight"], bare["thermal_module.thermal.conv1.weight"])
    # Three copies of the trunk, stored once.
    assert len({tensor.untyped_storage().data_ptr() for tensor in bare.values()}) == len(small_family.state_dict()) + 1


@pytest.mark.parametrize(("name", "said"), [("narrow", "is narrow, but"), ("other", "is of another architecture, but")])
def test_other_networks_are_not_exported(tmp_path: Path, name: str, said: str) -> None:
    run = run_of(TwoStreamNetwork(NARROW if name == "narrow" else SMALL["basic"]), tmp_path / "ours")
    with pytest.raises(UserError, match=said):
        export_released(run, tmp_path / "x.pth")
    assert not (tmp_path / "x.pth").exists()


def test_weights_that_are_not_finite_are_not_exported(small_family: TwoStreamNetwork, tmp_path: Path) -> None:
    network = copy.deepcopy(small_family)
    network.state_dict()["neck.running_var"].fill_(torch.inf)
    run = run_of(network, tmp_path / "ours")
    with pytest.raises(UserError, match=r"not finite \(first neck\.running_var\)"):
        export_released(run, tmp_path / "x.pth")
    assert not (tmp_path / "x.pth").exists()


def test_the_family_is_the_resnet_50() -> None:
    assert RELEASED_ARCHITECTURE == RESNET50_AGW


def test_where_an_export_cannot_go(small_family: TwoStreamNetwork, tmp_path: Path) -> None:
    run = run_of(small_family, tmp_path / "ours")
    (tmp_path / "old.pth").write_text("mine")
    for out, said in (
        ("old.pth", "already exists"),
        ("no/x.pth", "no folder"),
        ("x.tar", "not a kind of file for a checkpoint"),
    ):
        with pytest.raises(UserError, match=said):
            export_released(run, tmp_path / out)
    assert (tmp_path / "old.pth").read_text() == "mine"
    assert not (tmp_path / "no").exists()


def test_an_export_needs_a_finished_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        export_released(tmp_path, tmp_path / "x.pth")
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(UserError, match="not finished"):
        export_released(tmp_path, tmp_path / "x.pth")
