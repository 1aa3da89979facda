"""Find words in documentation and code that an English-speaking engineer stumbles over, and suggest others.

Run it from the repository: `python scripts/plain_english.py README.md docs src`. It reads the prose of ``*.md`` files
and the docstrings, comments and strings of ``*.py`` files, prints ``file:line: word → suggestion`` for each find, and
exits with code 1 if there are any. Code in Markdown and names in backquotes are not read.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: A pattern, case does not matter, and what to write instead. A space matches any white space, line ends included.
WORDS = {
    r"told": "said, shown, given, reported; of two things: distinguished",
    r"tells": "says, shows",
    r"anew": "again",
    r"mend(s|ed|ing)?": "fix, repair",
    r"whoever": "anyone who, those who",
    r"so many": "that many, this number of",
    r"nobody": "no one; or name what does not happen",
    r"(every|some)body": "everyone, someone; or name who",
    r"dear(er|est)?": "expensive",
    r"(for )?want of": "for lack of, because there is no",
    r"in vain": "without success",
    r"came of (it|them|this)": "the result",
    r"look(s|ed|ing)?( \w+){0,3} over": "check",
    r"help(s|ed|ing)? (it|them)sel(f|ves)": "recover",
    r"one's own": "your own",
    r"see there": "name the place",
    r"st(ands?|ood) (there|here|twice|ready)": "is there, appears, exists",
    r"st(ands?|ood) in(?! for\b| the way\b)": "is in",
    r"st(ands?|ood) beside": "is next to",
    r"heed(s|ed)?": "take into account",
    r"but for": "except for",
    r"(be|been|is|are|was|were) had": "available",
    r"go(es|ne)? on with": "continue",
    r"of (worth|use)(?! cases?)": "valuable, useful",
    r"the like": "similar",
    r"(?<!there\s)(are|is) no (reproductions?|bounds?|folders?|names?|settings?|numbers?)": "is not a, are not",
    r"at home": "name the place",
    r"mishaps?": "problem, warning",
    r"not (told|distinguished) from chance": "not statistically distinguishable, with the interval",
}

#: Phrases that hold such words and are meant as they are.
ALLOWED = ("told to",)

#: These files name the words in order to find them.
SKIPPED = ("plain_english.py", "test_plain_english.py")

_PATTERNS = [
    (re.compile(rf"\b(?:{words})(?!\w)".replace(" ", r"\s+"), re.IGNORECASE), instead)
    for words, instead in WORDS.items()
]
_CODE = re.compile(r"^[ \t]*```.*?^[ \t]*```|``.+?``|`[^`\n]+`|\]\([^)\s]+\)", re.MULTILINE | re.DOTALL)
# In Python 3.11 the fields of an f-string belong to the string.
_FIELD = re.compile(r"\{[^{}\n]*\}")


@dataclass(frozen=True)
class Find:
    """A word that should be another.

    Attributes:
        line: Counted from 1.
        words: As they are in the file, in one line.
        instead: What to write.
    """

    line: int
    words: str
    instead: str


def find_words(prose: str) -> list[Find]:
    """The words to replace in a text whose code is blanked out, in the order of the text."""
    for phrase in ALLOWED:
        prose = re.sub(re.escape(phrase), lambda found: _blank(found[0]), prose, flags=re.IGNORECASE)
    finds = {
        (found.start(), found.end()): Find(prose.count("\n", 0, found.start()) + 1, " ".join(found[0].split()), instead)
        for pattern, instead in _PATTERNS
        for found in pattern.finditer(prose)
    }
    return [finds[place] for place in sorted(finds)]


def markdown_prose(text: str) -> str:
    """A Markdown text with code and the targets of links blanked out; lines keep their numbers."""
    return _CODE.sub(lambda code: _blank(code[0]), text)


def python_prose(source: str) -> str:
    """The docstrings, comments and strings of a module, all else blanked out; lines keep their numbers."""
    lines = source.splitlines(keepends=True)
    prose = [_blank(line) for line in lines]
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in kinds:
            continue
        (first, begin), (last, end) = token.start, token.end
        for number in range(first - 1, last):
            line, start = lines[number], begin if number == first - 1 else 0
            stop = end if number == last - 1 else len(line)
            prose[number] = prose[number][:start] + line[start:stop].replace("#", " ") + prose[number][stop:]
    return markdown_prose(_FIELD.sub(lambda field: _blank(field[0]), "".join(prose)))


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def files(paths: list[Path]) -> Iterator[Path]:
    """The files to read: those named, and those of the folders named."""
    for path in paths:
        found = [path] if path.is_file() else sorted([*path.rglob("*.md"), *path.rglob("*.py")])
        yield from (file for file in found if file.name not in SKIPPED)


def main() -> None:
    """Print every find; exit code 1 if there is one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("paths", nargs="+", type=Path, help="files and folders")
    count = 0
    for file in files(parser.parse_args().paths):
        text = file.read_text("utf-8")
        for find in find_words(python_prose(text) if file.suffix == ".py" else markdown_prose(text)):
            print(f"{file}:{find.line}: {find.words} → {find.instead}")
            count += 1
    sys.exit(count > 0)


if __name__ == "__main__":
    main()
