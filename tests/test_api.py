from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pclhd
from pclhd.clustering.options import ClusteringOptions
from pclhd.clustering.pipeline import cluster_features
from pclhd.config import load_preset
from pclhd.data.records import Modality
from pclhd.models.two_stream import NARROW, TwoStreamNetwork
from pclhd.models.weights import save_model
from pclhd.runs.folder import RunFolder
from pclhd.streams import Streams
from pclhd.weights import starter_path

ROOT = Path(__file__).parent.parent

# A change here is a change of the public interface, so it belongs in the changelog and docs/python.md.
PUBLIC = {
    "load": "(run_or_model, *, device, precision)",
    "search": "(queries, gallery, *, top)",
    "cluster": "(features, *, modality, **options)",
    "evaluate": "(run, *, data, device, write, force)",
    "train": "(preset, *, data, out, observer, **settings)",
    "answer": "(results, calibration, *, false_match_rate, expected)",
    "open_dataset": "(root, *, layout, trial)",
    "Encoder": {"load", "embed", "embed_pixels", "embedding_size", "model_id"},
    "Embeddings": {"features", "images", "model_id", "paths"},
    "RankedResults": {"correct", "distance", "gallery", "index", "metrics", "queries", "to_dict", "to_pandas"},
    "Hit": {"camera", "correct", "distance", "image", "path", "rank", "row", "similarity", "to_dict"},
    "Answer": {"false_match_rate", "hits", "no_one_here", "query", "sentence", "to_dict"},
    "Calibration": {
        "covers",
        "direction",
        "directions",
        "model_id",
        "prior",
        "prior_among",
        "probability",
        "require_model",
        "source",
        "threshold",
        "usual_rate",
    },
    "Gallery": {
        "add",
        "add_list",
        "add_video",
        "calibration",
        "compact",
        "count",
        "encoder",
        "exists",
        "expire",
        "export",
        "in_folder",
        "judge",
        "like",
        "order",
        "path",
        "remove",
        "remove_like",
        "rows",
        "search",
        "search_embedding",
        "stats",
        "thumbnail",
    },
    "GalleryFilter": {"camera", "ids", "modality", "since", "source", "track", "until"},
    "GalleryHit": {"probability", "rank", "row", "sighting", "similarity", "to_dict"},
    "ClusterLabels": {"clusters", "eps", "images", "labels", "noise", "quality", "to_dict"},
    "RunFolder": {
        "calibration",
        "calibration_file",
        "checkpoints_folder",
        "data_root",
        "epochs",
        "facts",
        "is_begun",
        "is_run",
        "kept_weights_file",
        "log",
        "log_file",
        "model_file",
        "model_metadata",
        "onnx_file",
        "path",
        "provenance_file",
        "report_file",
        "require_model",
        "require_weights",
        "require_results",
        "require_run",
        "results",
        "results_file",
        "saved_settings",
        "selected_weights_file",
        "settings",
        "settings_file",
        "survey",
        "survey_file",
        "tensorboard_folder",
        "tracking_file",
        "training_images",
        "training_images_file",
        "write_calibration",
        "write_training_images",
        "weights",
        "weights_file",
        "write_results",
        "write_settings",
        "write_survey",
    },
    "Results": {
        "confused",
        "dataset",
        "left_out",
        "near_copies",
        "people_in_both_splits",
        "ranked_examples",
        "recipe",
        "rows",
        "runs",
        "schema_version",
        "seed",
        "similarities",
        "to_dict",
        "trained_on_test_images",
        "training",
    },
    "UserError": None,
}


@pytest.fixture(scope="module")
def site(tiny_sysu: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the demo's: the data, and a run whose model can distinguish people."""
    root = tmp_path_factory.mktemp("site")
    (root / "build" / "demo").mkdir(parents=True)
    (root / "build" / "demo" / "data").symlink_to(tiny_sysu)
    run = RunFolder(root / "build" / "demo" / "run")
    run.path.mkdir()
    run.write_settings(load_preset("tiny", [], root=tiny_sysu))
    from pclhd.models.preprocessing import Preprocessing
    from pclhd.models.weights import load_model

    save_model(run.model_file, load_model(starter_path()), preprocessing=Preprocessing(96, 48))
    return root


def parameters(function: Any) -> str:
    """The names of a function's parameters, as in its signature."""
    words, keyword_only = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            words.append("*")
            keyword_only = True
        words.append("**" * (parameter.kind is parameter.VAR_KEYWORD) + parameter.name)
    return f"({', '.join(words)})"


def test_what_is_public() -> None:
    assert set(pclhd.__all__) == {*PUBLIC, "__version__"}
    for name, expected in PUBLIC.items():
        value = getattr(pclhd, name)
        assert value.__doc__, name
        if isinstance(expected, str):
            assert parameters(value) == expected, name
        elif expected is not None:
            fields = getattr(value, "model_fields", None) or getattr(value, "__dataclass_fields__", {})
            inherited = ("_", "model_config", "model_fields", "model_computed")
            ours = [one for one in value.__mro__ if one.__module__.startswith("pclhd.")]
            own = {one for part in ours for one in vars(part) if not one.startswith(inherited)} | set(fields)
            assert own == expected, name


def test_every_public_name_is_documented() -> None:
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    for name in PUBLIC:
        assert re.search(rf"`(pclhd\.)?{name}\b", page), name


def test_names_that_do_not_exist() -> None:
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        _ = pclhd.serach
    assert set(pclhd.__all__) <= set(dir(pclhd))


def test_importing_loads_nothing_else() -> None:
    program = (
        "import sys; before = set(sys.modules); import pclhd; dir(pclhd);"
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "['pclhd']"


def script() -> str:
    """The first Python block of the README."""
    (block, *_) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    return str(block)


def test_the_readmes_script_runs(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line for line in script().splitlines() if line]
    assert len(lines) <= 10
    assert [line for line in lines if "import" in line] == ["import pclhd"]
    monkeypatch.chdir(site)
    exec(script(), {})
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(".")[0] for line in printed] == ["1", "2", "3", "4", "5"]
    assert all((site / line.split()[1]).is_file() for line in printed)
    similarities = [float(line.split()[-1]) for line in printed]
    assert similarities == sorted(similarities, reverse=True)


def test_search_finds_an_image_itself(site: Path) -> None:
    encoder = pclhd.load(site / "build/demo/run", device="cpu")
    gallery = encoder.embed(site / "build/demo/data/cam1", modality="visible")
    for row, hits in enumerate(pclhd.search(gallery[:5], gallery, top=3)):
        assert hits[0].row == row
        assert hits[0].path == gallery.paths[row]
        assert hits[0].similarity == pytest.approx(1, abs=1e-5)
        assert len(hits) == 3
    arrays = pclhd.search(gallery.features[:5], gallery.features.tolist(), top=3)
    assert arrays.index.tolist() == pclhd.search(gallery[:5], gallery, top=3).index.tolist()
    assert arrays[0][0].path is None


def test_embeddings_of_different_encoders_are_not_compared(site: Path, tmp_path: Path) -> None:
    from pclhd.models.preprocessing import Preprocessing

    other = TwoStreamNetwork(NARROW, generator=Streams(1).torch("other"))
    save_model(tmp_path / "other.safetensors", other, preprocessing=Preprocessing(96, 48))
    images = sorted((site / "build/demo/data/cam1").rglob("*.jpg"))[:2]
    one, two = (
        pclhd.load(path).embed(images, modality="visible")
        for path in (site / "build/demo/run", tmp_path / "other.safetensors")
    )
    with pytest.raises(pclhd.UserError, match="different encoders"):
        pclhd.search(one, two)


def test_clusters_of_embeddings(site: Path) -> None:
    dataset = pclhd.open_dataset(site / "build/demo/data")
    visible = [image for image in dataset.train.images if image.modality is Modality.VISIBLE]
    encoder = pclhd.load(site / "build/demo/run")
    found = pclhd.cluster(encoder.embed(visible, modality="visible"), k1=8, k2=3, eps=0.6, min_samples=2)
    assert len(found) == len(visible)
    assert 1 < found.clusters < len(visible)
    assert 0 <= found.noise < 1
    assert found.eps == 0.6
    assert dataset.train_identities is not None
    assert found.quality(dataset.train_identities[: len(visible)])["ari"] > 0.5
    assert json.loads(json.dumps(found.to_dict()))["labels"] == found.labels.tolist()


def test_clusters_of_arrays() -> None:
    random = np.random.default_rng(0)
    centres = random.standard_normal((3, 8))
    features = (centres[:, None] + 0.01 * random.standard_normal((3, 10, 8))).reshape(30, 8)
    labels = pclhd.cluster(features, k1=10, k2=3).labels
    assert labels.tolist() == np.repeat([0, 1, 2], 10).tolist()
    light = ["day", "night"] * 15
    both = pclhd.cluster(features, k1=6, k2=2, modality=light, balanced_neighbours=True)
    codes = np.array([0, 1] * 15)
    options = ClusteringOptions(k1=6, k2=2, balanced_neighbours=True)
    expected = cluster_features(features.astype(np.float32), options, modality=codes)
    assert both.labels.tolist() == expected.labels.tolist()
    assert (
        pclhd.cluster(features, modality=light).labels.tolist()
        == pclhd.cluster(features, modality=light, k1=40, k2=32).labels.tolist()
    )
    with pytest.raises(pclhd.UserError, match="k3=5"):
        pclhd.cluster(features, k3=5)
    with pytest.raises(pclhd.UserError, match="min_samples=0"):
        pclhd.cluster(features, min_samples=0)


def test_evaluating_returns_and_writes_only_when_asked(site: Path) -> None:
    run = RunFolder(site / "build/demo/run")
    results = pclhd.evaluate(run, device="cpu")
    assert [row.weights for row in results.rows] == ["final"] * len(results.rows)
    assert 0 < results.rows[0].rank1.mean <= 1
    assert not run.results_file.exists()
    assert pclhd.evaluate(str(run), data=site / "build/demo/data", write=True) == run.results()
    run.results_file.unlink()


@pytest.mark.slow
def test_training_needs_no_observer_and_leaves_a_run(
    tiny_sysu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny_sysu.parent)
    settings = {"iterations": 1, "stage1_epochs": 1, "stage2_epochs": 0}
    run = pclhd.train("tiny", data=tiny_sysu.name, out=tmp_path / "run", recipe="baseline", seed=3, schedule=settings)
    monkeypatch.chdir(tmp_path)
    assert (run.settings().recipe, run.settings().seed, run.settings().schedule.iterations) == ("baseline", 3, 1)
    assert capsys.readouterr().out == ""
    assert pclhd.load(run).embedding_size == 256
    assert pclhd.evaluate(run).rows, "the data is found from another folder, too"
    dotted_settings: dict[str, Any] = {f"schedule.{key}": value for key, value in settings.items()}
    dotted_settings["schedule.iterations"] = 2
    dotted = pclhd.train("tiny", data=tiny_sysu, out=tmp_path / "two", **dotted_settings)
    assert dotted.settings().schedule.iterations == 2
    assert (run.path / "model.safetensors").read_bytes() != (dotted.path / "model.safetensors").read_bytes()


def test_training_with_mistakes(tiny_sysu: Path, tmp_path: Path) -> None:
    with pytest.raises(pclhd.UserError, match="did you mean 'seed'"):
        pclhd.train("tiny", data=tiny_sysu, out=tmp_path / "run", sead=1)
    with pytest.raises(pclhd.UserError, match="data: is missing"):
        pclhd.train("tiny", out=tmp_path / "run")
    with pytest.raises(pclhd.UserError, match="settings are complete"):
        pclhd.train(load_preset("tiny", []), data=tiny_sysu, seed=1)
    assert not (tmp_path / "run").exists()
