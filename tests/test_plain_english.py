"""The word list: what it finds, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from scripts.plain_english import ALLOWED, WORDS, files, find_words, markdown_prose, python_prose

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A mistake is told once.", "told"),
        ("Begin the epoch anew.", "anew"),
        ("Mend it.", "Mend"),
        ("was not tried for want\nof memory", "for want of"),
        ("Look the data set over first.", "Look the data set over"),
        ("the file that stands in the folder", "stands in"),
        ("it is no folder", "is no folder"),
        ("not told from chance", "told"),
    ],
)
def test_words_are_found(text: str, words: str) -> None:
    assert words in [find.words for find in find_words(text)]


@pytest.mark.parametrize(
    "text",
    [
        "It stands in for theirs.",
        "What stands in the way are the convolutions.",
        "there is no folder",
        "Stop when told to.",
        "untold amendments",
        "of use cases",
    ],
)
def test_plain_words_are_left_alone(text: str) -> None:
    assert find_words(text) == []


def test_every_word_can_be_found_and_is_allowed_only_where_it_would_be() -> None:
    examples = "told tells anew mending whoever;so many;nobody;somebody;dearer;want of;in vain;came of it;look it over"
    examples += (
        ";helped itself;one's own;see there;stood twice;stands in;stood beside;heeds;but for;is had;goes on with"
    )
    examples += ";of worth;the like;are no bounds;at home;mishap;not told from chance"
    found = {find.instead for find in find_words(examples)}
    assert found == set(WORDS.values())
    for phrase in ALLOWED:
        assert find_words(phrase) == []
        assert any(find_words(word) for word in phrase.split())


def test_lines_are_counted_past_what_is_not_read() -> None:
    text = "```text\ntold\n```\n`told` ``told`` [a link](told.md)\nIt is told.\n"
    assert [find.line for find in find_words(markdown_prose(text))] == [5]


def test_names_in_python_are_not_read_but_all_prose_is() -> None:
    source = (
        '"""Told here."""\n'
        "told = anew(told)  # anew\n"
        'message = f"it is {told} told"\n'
        'words = """\n'
        "so\n"
        'many"""\n'
        "# for want\n"
        "# of room\n"
    )
    finds = [(find.line, find.words) for find in find_words(python_prose(source))]
    assert finds == [(1, "Told"), (2, "anew"), (3, "told"), (5, "so many"), (7, "for want of")]


def test_folders_are_searched_and_the_list_itself_is_not(tmp_path: Path) -> None:
    for name in ("a.md", "deep/b.py", "c.txt", "plain_english.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert {file.name for file in files([tmp_path])} == {"a.md", "b.py"}


@pytest.mark.parametrize(("text", "code"), [("All is said.", 0), ("All is told.", 1)])
def test_the_exit_code(tmp_path: Path, text: str, code: int) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"\n{text}\n", "utf-8")
    command = [sys.executable, str(ROOT / "scripts" / "plain_english.py"), str(page)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == code
    assert ran.stdout == (f"{page}:2: told → {WORDS['told']}\n" if code else "")
