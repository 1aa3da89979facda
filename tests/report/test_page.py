from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pclhd.errors import UserError
from pclhd.report.figures.maps import MapPanel, PeopleMaps, Separation
from pclhd.report.page import write_report
from tests.report.fixtures import SEARCHES, make_album, make_metrics, make_results, write_data, write_run

_VOID = {"meta", "img", "br", "link", "hr", "input"}


class _Outline(HTMLParser):
    """Checks that tags close in order, and collects what the tests ask for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for key, value in attrs if key == "id" and value is not None]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("complete")
    return write_report(write_run(folder / "run"), data_root=write_data(folder / "data")).read_text(encoding="utf-8")


def _absent_parts(run: Path) -> list[str]:
    page = write_report(run).read_text(encoding="utf-8")
    _Outline(page)
    return re.findall(r'<p class="absent">(.*?)</p>', page, flags=re.DOTALL)


def test_page_needs_no_other_file(page: str) -> None:
    outline = _Outline(page)
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    for tag, attributes in outline.tags:
        assert tag not in {"script", "link", "iframe", "object", "base"}
        for key in ("src", "href", "xlink:href", "srcset", "data"):
            value = attributes.get(key)
            assert value is None or value.startswith(("#", "data:image/jpeg;base64,"))
        assert not any(key.startswith("on") for key in attributes)
    for target in re.findall(r"url\((.*?)\)", page):
        assert target.startswith("#")
    assert "</html>" in page


def test_page_is_sound(page: str) -> None:
    outline = _Outline(page)
    assert len(outline.ids) == len(set(outline.ids))
    links = [
        str(attributes["href"])[1:] for _, attributes in outline.tags if (attributes.get("href") or "").startswith("#")
    ]
    assert set(links) <= set(outline.ids)
    assert set(re.findall(r"url\(#(.*?)\)", page)) <= set(outline.ids)
    assert all(attributes.get("alt") for attributes in outline.all("img"))
    assert all(attributes.get("scope") for attributes in outline.all("th"))
    assert all(attributes.get("role") == "img" and attributes.get("aria-label") for attributes in outline.all("svg"))
    assert len(outline.all("h1")) == 1
    assert outline.all("html")[0]["lang"] == "en"


def test_numbers_appear(page: str) -> None:
    text = _Outline(page).text
    for shown in (
        "47.0 ± 1.2",
        "For 47 of 100 infrared queries",
        "+21.0",
        "7,200 training images",
        "4,104",
        "2.99.0",
        "3,803 queries",
        "0.93 / 0.50",
        "1 min 25 s",
        "5f" * 32,
    ):
        assert shown in text
    for name in ("visible centroid", "infrared dynamic", "images per second", "correct partners", "ARI", "NMI"):
        assert name in text
    assert "No identity label" in text
    assert "last epoch" in text
    assert "Responsible use" in text


def test_ranked_strips_show_right_and_wrong_by_sign_and_words(page: str) -> None:
    assert 'class="absent"' not in page
    page = re.findall(r'<section id="examples".*?</section>', page, flags=re.DOTALL)[0]
    outline = _Outline(page)
    alts = [str(attributes["alt"]) for attributes in outline.all("img")]
    examples = make_results()["ranked_examples"]["weights"]
    right = sum(image["correct"] for lists in examples.values() for example in lists for image in example["gallery"])
    assert (
        sum(", right:" in alt for alt in alts) == right == page.count("✓</b>") == page.count('<li class="shot right">')
    )
    assert sum(", wrong:" in alt for alt in alts) == 60 - right == page.count("✗</b>")
    assert sum(alt.startswith("Query ") for alt in alts) == 3
    assert "first correct image at rank 27" in page


def test_settings_are_shown_as_they_are(page: str) -> None:
    assert "# a &lt; b &amp; c" in page
    assert "recipe <code>pclhd</code>" in page


def test_same_input_same_bytes(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    metrics = make_metrics(1, 1)
    pages = [
        write_report(write_run(tmp_path / name / "run", metrics=metrics), data_root=data).read_bytes()
        for name in ("a", "b")
    ]
    assert pages[0] == pages[1]
    assert write_report(tmp_path / "a/run", data_root=data).read_bytes() == pages[0]
    assert sorted(path.name for path in (tmp_path / "a/run/report").iterdir()) == ["index.html"]


def test_hostile_names_are_only_text(tmp_path: Path) -> None:
    evil = "\"'><script>alert(1)</script>${x}$version"
    results = make_results(searches=(evil,))
    results["dataset"] = {"name": evil, "checksum": evil}
    for row in results["rows"]:
        row["weights"] = evil if row["weights"] == "stage1" else row["weights"]
    for example in results["ranked_examples"]["weights"]["start"]:
        example["query"].update(path=evil, identity=evil, camera=evil, modality=evil)
        example["gallery"][0].update(path=evil, identity=evil, camera=evil)
    results["ranked_examples"]["weights"][evil] = results["ranked_examples"]["weights"]["start"]
    metrics: list[dict[str, Any]] = make_metrics(1, 1)
    metrics[-1]["loss"][evil] = 1.0
    run = write_run(tmp_path / "run", results=results, metrics=metrics)
    quoted = json.dumps(evil)
    (run / "config.yaml").write_text(
        f"seed: {quoted}\nrecipe: {quoted}\nmodel: {{architecture: {quoted}, weights: {quoted}}}\n", encoding="utf-8"
    )
    page = write_report(run).read_text(encoding="utf-8")
    outline = _Outline(page)
    assert "<script" not in page
    assert evil in outline.text
    assert not any(attribute.startswith("on") for _, attributes in outline.tags for attribute in attributes)


def test_an_empty_run_says_which_commands_fill_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    absent = _absent_parts(tmp_path / "run")
    assert sum("<code>pclhd evaluate RUN</code>" in part for part in absent) == 2
    assert sum("<code>pclhd train PRESET --out RUN</code>" in part for part in absent) == 3


def test_the_page_says_that_the_test_was_trained_on(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", results={**make_results(), "trained_on_test_images": 7})
    assert "the weights were trained on 7" in write_report(run).read_text("utf-8")


def test_without_results_training_is_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "results.json").unlink()
    absent = _absent_parts(run)
    assert len(absent) == 2
    assert all("pclhd evaluate RUN" in part for part in absent)
    assert 'id="loss-' in (run / "report/index.html").read_text(encoding="utf-8")


def test_without_metrics_results_are_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", metrics=[])
    absent = _absent_parts(run)
    assert [part.split(";")[0] for part in absent] == [
        "The images were not found",
        "No clusters were logged",
        "No epochs were logged",
    ]


def test_images_come_from_the_settings_unless_named(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    run = write_run(tmp_path / "run", metrics=[])
    (run / "config.yaml").write_text(f"data: {{root: {json.dumps(str(data))}}}\n", encoding="utf-8")
    assert not any("images were not found" in part for part in _absent_parts(run))
    (data / "list.csv").write_text("path\n", encoding="utf-8")
    page = write_report(run, data_root=data / "list.csv").read_text(encoding="utf-8")
    assert "<img" in page
    other = write_report(run, data_root=tmp_path / "elsewhere").read_text(encoding="utf-8")
    assert "<img" not in other
    assert other.count('class="missing"') == 3 + 60
    assert "cam3/11/ir.jpg" in other


def test_one_epoch_without_labels_and_with_a_broken_loss(tmp_path: Path) -> None:
    metrics = make_metrics(1, 0)
    del metrics[-1]["labels"], metrics[-1]["matched"], metrics[-1]["infrared"]
    metrics[-1]["loss"]["broken"] = float("nan")
    run = write_run(tmp_path / "run", metrics=metrics, results=make_results(searches=SEARCHES, trials=1))
    absent = _absent_parts(run)
    assert any("Some losses are not numbers" in part for part in absent)
    page = (run / "report/index.html").read_text(encoding="utf-8")
    assert 'id="ari-' not in page
    assert "<dd>47.0\u00a0%" in page


def test_an_oracle_is_called_one(tmp_path: Path) -> None:
    results = make_results(searches=("a",))
    results["rows"].append({**results["rows"][-1], "weights": "oracle"})
    page = write_report(write_run(tmp_path / "run", results=results)).read_text(encoding="utf-8")
    assert "oracle (test labels)" in page
    assert "is the epoch chosen with test labels" in page


def test_what_cannot_be_read_or_written_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        write_report(tmp_path / "nothing")
    run = write_run(tmp_path / "run")
    (run / "metrics.jsonl").write_text('{"kind": "other"}\n{\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2"):
        write_report(run)
    assert not (run / "report").exists()
    (run / "metrics.jsonl").unlink()
    (run / "report").write_text("in the way", encoding="utf-8")
    with pytest.raises(UserError, match="report: cannot be created"):
        write_report(run)


def _beside(tmp_path: Path, settings: str = "", provenance: str = "{}", **dataset: Any) -> str | None:
    """The section with published figures of a run on SYSU-MM01, with `changes` applied; None if there is no section."""
    results = make_results()
    results["dataset"] |= {"name": "sysu", "synthetic": False, **dataset}
    results["training"] = results["dataset"].pop("training", "unsupervised")
    size = results["dataset"].pop("queries", 3803)
    for row in results["rows"]:
        row["queries"] = row["valid_queries"] = size
        if str(results["dataset"]["name"]).startswith("regdb"):
            row["search"] = {"all/single-shot": "visible→infrared", "indoor/single-shot": "infrared→visible"}[
                row["search"]
            ]
            row["queries"] = row["valid_queries"] = row["gallery"] = 2060
    run = write_run(tmp_path / "run", results=results, metrics=[])
    (run / "config.yaml").write_text(f"recipe: pclhd\nbatch: {{sampler: camera}}\n{settings}", encoding="utf-8")
    (run / "provenance.json").write_text(provenance, encoding="utf-8")
    page = write_report(run).read_text(encoding="utf-8")
    outline = _Outline(page)
    assert ("published" in outline.ids) == ('href="#published"' in page)
    found = re.search(r'<section id="published".*?</section>', page, flags=re.DOTALL)
    return None if found is None else found[0]


def _our_cells(section: str | None) -> list[str]:
    assert section is not None
    last = section.split("</table>")[0].rpartition("<tr>")[2]
    return re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", last)


def test_published_figures_beside_those_of_a_run_on_sysu(tmp_path: Path) -> None:
    section = _beside(tmp_path)
    assert _our_cells(section) == [
        "this run", "recipe pclhd", "unsupervised", "yes", "47.0", "44.0", "51.0", "48.0", "measured here",
    ]  # fmt: skip
    assert section is not None
    for said in (">PCLHD<", ">64.4<", "semi-supervised", "transcribed second-hand", "Sources: 1, ", "the test set"):
        assert said in section
    assert "one trial" not in section
    assert "other images" not in section


def test_published_figures_beside_one_trial_of_regdb(tmp_path: Path) -> None:
    section = _beside(tmp_path, name="regdb-3")
    assert _our_cells(section)[2:4] == ["unsupervised, trial 3 of 10", "no"]
    assert section is not None
    assert ">84.3<" in section
    assert "This run is one trial" in section


@pytest.mark.parametrize(
    "dataset", [{"synthetic": True}, {"name": "regdb-1", "synthetic": True}, {"name": "llcm"}, {"name": "own"}]
)
def test_no_published_figures_beside_other_data(tmp_path: Path, dataset: dict[str, Any]) -> None:
    assert _beside(tmp_path, **dataset) is None


@pytest.mark.parametrize(("dataset", "said"), [({"synthetic": None}, "pclhd evaluate RUN"), ({"queries": 720}, "720")])
def test_no_published_figures_where_it_is_not_known_to_be_the_same_test(
    tmp_path: Path, dataset: dict[str, Any], said: str
) -> None:
    section = _beside(tmp_path, **dataset)
    assert section is not None
    assert said in section
    assert "<table" not in section
    assert "64.4" not in section


@pytest.mark.parametrize(
    ("settings", "cameras"),
    [
        ("", "yes"),
        ("batch: {sampler: blind}\n", "no"),
        ("batch: {sampler: blind}\nmethod: {centre_features: camera}\n", "yes"),
        ("batch: {}\n", "–"),
    ],
)
def test_whether_a_run_used_camera_labels(tmp_path: Path, settings: str, cameras: str) -> None:
    assert _our_cells(_beside(tmp_path, settings))[3] == cameras


@pytest.mark.parametrize(
    ("training", "called"),
    [
        ("supervised", ["recipe pclhd", "supervised"]),
        ("semi-supervised", ["recipe pclhd", "semi-supervised"]),
        ("imported", ["third-party weights", "imported"]),
        (None, ["recipe pclhd", "unknown training"]),
    ],
)
def test_a_run_is_called_by_the_labels_that_it_had(tmp_path: Path, training: str | None, called: list[str]) -> None:
    cells = _our_cells(_beside(tmp_path, training=training))
    assert cells[1:3] == called
    assert cells[3] == ("–" if training == "imported" else "yes")
    page = (tmp_path / "run/report/index.html").read_text(encoding="utf-8")
    assert ("No identity label of this data" in page) == (training is None)


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("sysu", "drawn people in SYSU-MM01's layout"),
        ("regdb-2", "drawn people in RegDB's layout, trial 2"),
        ("synthetic-small", "drawn people"),
    ],
)
def test_drawn_people_are_not_called_by_a_benchmark_alone(tmp_path: Path, name: str, called: str) -> None:
    _beside(tmp_path, name=name, synthetic=True)
    text = _Outline((tmp_path / "run/report/index.html").read_text(encoding="utf-8")).text
    assert text.count(f"Run report: {called}\n") == 2
    assert f", on {called} (7,200 training images)" in text
    assert f"name{called}\n" in text


@pytest.mark.parametrize(("labels", "unseen"), [("clusters", True), ("visible_identities", False)])
def test_training_with_labels_is_not_called_unsupervised(tmp_path: Path, labels: str, unseen: bool) -> None:
    run = write_run(tmp_path / "run")
    (run / "config.yaml").write_text(f"method: {{labels: {labels}}}\n", encoding="utf-8")
    page = write_report(run).read_text(encoding="utf-8")
    assert ("which training does not use" in page) == ("No identity label" in page) == unseen


def test_an_imported_run_claims_no_recipe_no_seed_and_no_start(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", results={**make_results(), "training": "imported"})
    trained = write_report(run).read_text(encoding="utf-8")
    (run / "provenance.json").write_text(json.dumps({"pclhd": "0.1.0", "imported": {"file": "best.pth"}}))
    page = write_report(run).read_text(encoding="utf-8")
    for claim in (
        "Unsupervised visible-infrared person",
        "recipe <code>pclhd",
        "“Start” is",
        "<td>seed</td>",
        ">seed<",
    ):
        assert claim not in page
    assert (
        sum(claim in trained for claim in ("Unsupervised visible-infrared person", "recipe <code>pclhd", ">seed<")) == 3
    )
    assert "Visible-infrared person re-identification with the" in page
    assert "their training and selection are unknown" in page
    (run / "results.json").unlink()
    assert "No identity label" not in write_report(run).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("setting", "said"),
    [("", "“final” is the last epoch"), ("selection: last\n", "is the last epoch"), ("selection: cycle\n", "cycle")],
)
def test_which_epoch_is_final_is_stated(tmp_path: Path, setting: str, said: str) -> None:
    _beside(tmp_path, setting)
    text = _Outline((tmp_path / "run/report/index.html").read_text(encoding="utf-8")).text
    assert said in text.split("“Start” is")[0]
    assert ("last epoch, regardless" in text) == ("cycle" not in setting)


def test_a_run_trained_on_other_images_says_so(tmp_path: Path) -> None:
    elsewhere = _beside(tmp_path / "a", provenance=json.dumps({"data": {"training_checksum": "77"}}))
    here = _beside(tmp_path / "b", provenance=json.dumps({"data": {"training_checksum": "5f" * 32}}))
    assert elsewhere is not None
    assert here is not None
    assert "trained on other images" in elsewhere
    assert "trained on other images" not in here


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run on images without labels: no evaluation, no identities."""
    folder = tmp_path_factory.mktemp("unlabelled")
    run = write_run(folder / "run")
    (run / "results.json").unlink()
    return write_report(run, album=make_album(folder / "data", labelled=False)).read_text(encoding="utf-8")


def test_images_without_labels_fill_the_page(unlabelled: str) -> None:
    outline = _Outline(_without_scripts(unlabelled))
    assert set(outline.ids) >= {"chosen", "sheets", "pairs", "prototypes", "alike", "focus", "map", "data"}
    assert not set(outline.ids) & {"results", "examples", "similarities", "confused", "published"}
    assert 'class="absent"' not in unlabelled
    assert "pclhd evaluate" not in unlabelled  # it would refuse
    assert "From 18 visible and 18 infrared images without labels" in outline.text
    assert "infrared/person0/0.jpg" in outline.text


def test_images_without_labels_are_not_judged(unlabelled: str) -> None:
    outline = _Outline(_without_scripts(unlabelled))
    for sign in ("✓", "✗", "visible, identity", "% of identity", "same person ("):
        assert sign not in outline.text
    assert not re.search(r'class="(shot|both) (right|wrong)"', unlabelled)


def test_infrared_queries_come_first(unlabelled: str) -> None:
    queries = re.findall(r'alt="query (\w+)', unlabelled)
    assert queries
    assert set(queries) == {"infrared"}


def test_identities_only_judge_the_clusters(tmp_path: Path) -> None:
    page = write_report(write_run(tmp_path / "run"), album=make_album(tmp_path / "data")).read_text(encoding="utf-8")
    text = _Outline(_without_scripts(page)).text
    assert "5 of 5 pairs show the same person (100.0 %)" in text
    assert "5 of 6 clusters show one person only" in text  # the last infrared image is in a cluster of another person
    assert "two people who look alike" in text


def test_the_script_is_ours_and_the_library_alone(unlabelled: str) -> None:
    outline = _Outline(_without_scripts(unlabelled))
    assert "<script" not in _without_scripts(unlabelled)
    assert not any(attribute.startswith("on") for _, attributes in outline.tags for attribute in attributes)
    scripts = re.findall(r"<script([^>]*)>", unlabelled)
    assert scripts in ([], [' type="application/json" id="map-points"', ' type="text/plain" id="map-library"', ""])


def test_hostile_names_of_files_and_people_are_only_text(tmp_path: Path) -> None:
    evil = "\"'></script><script>alert(1)</script>\x1b[2J"
    album = make_album(tmp_path / "data")
    pictures = tuple(replace(one, path=evil, identity=evil, camera=evil) for one in album.pictures)
    page = write_report(write_run(tmp_path / "run"), album=replace(album, pictures=pictures)).read_text("utf-8")
    rest = _without_scripts(page)
    assert "<script" not in rest
    assert "\x1b" not in page
    assert "alert(1)</script>" not in page.replace(_library(page), "")


def test_metadata_of_images_do_not_travel(tmp_path: Path) -> None:
    album = make_album(tmp_path / "data")
    for picture in album.pictures:
        with Image.open(picture.file) as image:
            image.load()
        exif = Image.Exif()
        exif[0x010E] = "taken by Ann"
        image.save(picture.file, exif=exif, comment=b"taken by Ann")
    page = write_report(write_run(tmp_path / "run"), album=album).read_text(encoding="utf-8")
    uris = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    assert len(uris) > 50
    assert not any(b"Ann" in base64.b64decode(uri) for uri in uris)


def _library(page: str) -> str:
    return max(re.findall(r"<script[^>]*>(.*?)</script>", page, flags=re.DOTALL), key=len, default="")


def _without_scripts(page: str) -> str:
    """The page without the map's data, the plotting library and the map's script, which come last in their section."""
    scripts = (
        r'<script type="application/json" id="map-points">.*?</script>\n'
        r'<script type="text/plain" id="map-library">.*?</script>\n<script>.*?</script>\n'
    )
    return re.sub(scripts, "", page, flags=re.DOTALL)


def maps_before_and_after() -> PeopleMaps:
    random = np.random.default_rng(0)
    panels = [
        MapPanel(title, random.normal(size=(8, 2)), Separation(same, 0.25, right))
        for title, same, right in (("start weights", 0.3, 0.5), ("final weights", 0.75, 0.96))
    ]
    people, modality = ("a", "<b>") * 4, ("visible", "infrared") * 4
    return PeopleMaps(tuple(panels), people, modality, tuple("12345678"), "Eight images of two people.")


def test_the_same_people_stand_side_by_side_before_and_after_training(tmp_path: Path) -> None:
    album = replace(make_album(tmp_path / "album"), stages=maps_before_and_after())
    page = write_report(write_run(tmp_path / "run"), album=album).read_text(encoding="utf-8")
    _Outline(page)
    (section,) = re.findall(r'<section id="stages".*?</section>', page, flags=re.DOTALL)
    assert section.count("<figure") == 2
    assert "Eight images of two people." in section
    assert "identity &lt;b&gt;" in section
    for words in ("the start weights; similarity across modalities: same person 0.30", "rightly ordered 96 %"):
        assert words in " ".join(section.split())


def test_maps_that_could_not_be_made_say_why(tmp_path: Path) -> None:
    album = replace(make_album(tmp_path / "album"), stages="only 4 test images of people in both modalities")
    page = write_report(write_run(tmp_path / "run"), album=album).read_text(encoding="utf-8")
    (section,) = re.findall(r'<section id="stages".*?</section>', page, flags=re.DOTALL)
    assert "Left out: only 4 test images of people in both modalities" in section
    assert "<figure" not in section
    without = write_report(write_run(tmp_path / "other"), album=make_album(tmp_path / "more")).read_text("utf-8")
    assert '<section id="stages"' not in without
