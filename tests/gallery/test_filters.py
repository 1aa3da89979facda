from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pclhd.errors import ArgumentError
from pclhd.gallery.filters import age_ago, ids_among, older_than, pattern_expression, sql_filter
from pclhd.gallery.records import GalleryFilter

START = datetime(2026, 3, 1, tzinfo=UTC)
HOSTILE = [
    "x'; DROP TABLE images; --", "' OR '1'='1", "''", "'", '"', "\\", "\\'", "%", "_", "a%b_c", "/*", "--", ";", "\n",
    "\t", "é", "e\u0301", "漢字", "🚶", "`camera`", "NULL", "true", "a\x00b", "$1", "?", "[", "]", "[]", "[!]", "*",
    "a[1].jpg",
    "{}", "^$", "(?i)A", "a" * 5000,
]  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Callable[[GalleryFilter], list[str]]:
    """Cameras of the rows that satisfy a filter; each row has one of the hostile names as camera, source and track."""
    import lancedb
    import pyarrow as pa

    count = len(HOSTILE)
    times = [START + timedelta(microseconds=row) for row in range(count)]
    table = lancedb.connect(tmp_path_factory.mktemp("rows")).create_table(
        "images",
        data=pa.table(
            {
                "camera": HOSTILE, "source": HOSTILE, "track": HOSTILE, "modality": ["visible"] * count,
                "id": [f"{row:032x}" for row in range(count)],
                "time": pa.array([None, *times[1:]], pa.timestamp("us", "UTC")),
                "added": pa.array(times, pa.timestamp("us", "UTC")),
            }
        ),
    )  # fmt: skip

    def search(wanted: GalleryFilter | str) -> list[str]:
        where: Any = wanted if isinstance(wanted, str) else sql_filter(wanted)
        query = table.search().limit(None)
        return [row["camera"] for row in (query if where is None else query.where(where)).to_list()]

    return search  # type: ignore[return-value]


def test_nothing_asked_for_is_no_condition() -> None:
    assert sql_filter(GalleryFilter()) is None
    assert not GalleryFilter()
    assert GalleryFilter(camera="")
    assert GalleryFilter(ids=[])


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_finds_its_own_row_and_no_other(found: Callable[[GalleryFilter], list[str]], name: str) -> None:
    assert found(GalleryFilter(camera=name)) == [name]
    assert found(GalleryFilter(track=name)) == [name]
    assert found(GalleryFilter(camera=[name, "not there"])) == [name]
    assert found(GalleryFilter(camera=name, track="not there")) == []
    assert name in found(GalleryFilter(source=name))


@given(name=st.text(min_size=1))
@example(name="' OR 1=1 --")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_other_text_finds_a_row(found: Callable[[GalleryFilter], list[str]], name: str) -> None:
    assert found(GalleryFilter(camera=name)) == [one for one in HOSTILE if one == name]


SIGNS = "ab1*?[]!^-.\\'%_é\n"


@given(pattern=st.text(SIGNS, min_size=1, max_size=8))
@example(pattern="[!]*")
@example(pattern="[]a]*")
@example(pattern="[a-]")
@example(pattern="[-a]")
@example(pattern="[z-a]")
@example(pattern="[!z-a]")
@example(pattern="[^a]*")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_patterns_are_those_of_the_shell(found: Callable[[GalleryFilter], list[str]], pattern: str) -> None:
    shell = pattern.replace("[^", "[!")  # Python takes ^ for a sign, shells and we for "not"
    expected = [one for one in HOSTILE if one == pattern or fnmatch.fnmatchcase(one, shell)]
    assert found(GalleryFilter(source=pattern)) == expected


@given(text=st.text(min_size=1, max_size=20))
def test_no_sign_from_outside_can_end_a_literal(text: str) -> None:
    for wanted in (GalleryFilter(camera=text), GalleryFilter(source=text), GalleryFilter(track=text)):
        condition = sql_filter(wanted)
        assert condition is not None
        # Without its literals, which end at the next quotation mark, a condition consists of our own words.
        assert re.fullmatch(
            r"\((camera|source|track) IN \(\)( OR regexp_like\(\1, \))?\)"
            r"|\(regexp_like\(\w+, \)( OR regexp_like\(\w+, \))?\)",
            re.sub(r"'[^']*'", "", condition),
        ), condition


def test_a_pattern_has_no_sign_of_its_own() -> None:
    assert pattern_expression("a.b") == r"a\x{2e}b"
    assert pattern_expression("[a-c]'") == r"[a-c]\x{27}"
    assert pattern_expression("*?") == "(?s:.*)(?s:.)"


def test_times_include_both_ends_to_the_microsecond(found: Callable[[GalleryFilter], list[str]]) -> None:
    since, until = START + timedelta(microseconds=2), START + timedelta(microseconds=4)
    assert found(GalleryFilter(since=since, until=until)) == HOSTILE[2:5]
    elsewhere = timezone(timedelta(hours=-7))
    assert found(GalleryFilter(since=since.astimezone(elsewhere), until=until)) == HOSTILE[2:5]
    assert found(GalleryFilter(since=since.replace(tzinfo=None), until=until.replace(tzinfo=None))) == HOSTILE[2:5]
    assert found(GalleryFilter(since=datetime.min, until=datetime.max)) == HOSTILE[1:]


def test_rows_without_a_time_expire_by_when_they_were_added(found: Callable[[Any], list[str]]) -> None:
    assert found(older_than(START + timedelta(microseconds=2))) == HOSTILE[:2]
    assert found(older_than(START)) == []


def test_ids(found: Callable[[Any], list[str]]) -> None:
    assert found(GalleryFilter(ids=[f"{3:032x}", f"{1:032x}"])) == [HOSTILE[1], HOSTILE[3]]
    assert found(GalleryFilter(ids=["0" * 31])) == HOSTILE[:16]
    assert found(GalleryFilter(ids=["0" * 31, f"{17:032x}"])) == [*HOSTILE[:16], HOSTILE[17]]
    assert found(ids_among([f"{3:032x}"])) == [HOSTILE[3]]
    for wrong in ("0000000", "0" * 33, "'", "0000000g", "00000000' OR 1=1"):
        with pytest.raises(ArgumentError, match="digits"):
            sql_filter(GalleryFilter(ids=[wrong]))


def test_values_that_cannot_match() -> None:
    for wrong in (GalleryFilter(camera=""), GalleryFilter(camera=[]), GalleryFilter(track=""), GalleryFilter(ids=[]),
                  GalleryFilter(source=""), GalleryFilter(camera=["a", ""])):  # fmt: skip
        with pytest.raises(ArgumentError, match="empty"):
            sql_filter(wrong)
    with pytest.raises(ArgumentError, match="must be text"):
        sql_filter(GalleryFilter(camera=[3]))  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match="not Unicode"):
        sql_filter(GalleryFilter(source="\udcff"))
    with pytest.raises(ValueError, match="red"):
        sql_filter(GalleryFilter(modality="red"))  # type: ignore[arg-type]


def test_ages() -> None:
    assert age_ago(timedelta(days=1), START) == START - timedelta(days=1)
    with pytest.raises(ArgumentError, match="negative"):
        age_ago(timedelta(days=-1))
    with pytest.raises(ArgumentError, match="calendar"):
        age_ago(timedelta(days=10**6))


def test_only_one_module_writes_conditions() -> None:
    import pclhd.gallery

    folder = Path(pclhd.gallery.__file__).parent
    writers = {path.name for path in folder.glob("*.py") if re.search(r"regexp_like| IN \(\{", path.read_text("utf-8"))}
    assert writers == {"filters.py"}
