from __future__ import annotations

import ast
from pathlib import Path

import pytest
from scripts import mutation_check
from scripts.mutation_check import (
    MUTANTS,
    ROOT,
    Edit,
    Mutant,
    MutationError,
    catch,
    check,
    check_copy,
    copy_tree,
    failed_tests,
    imported_from,
    main,
    mutate,
    mutated_files,
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_fits_the_sources_of_today(mutant: Mutant) -> None:
    """A rewritten line shows up here at once; whether tests catch the mutant takes minutes (below)."""
    for path, content in mutated_files(ROOT / "src" / "pclhd", mutant).items():
        assert ast.dump(ast.parse(content)) != ast.dump(ast.parse(path.read_text("utf-8")))
    for test in mutant.tests:
        file, _, function = test.partition("::")
        named = {node.name for node in ast.parse((ROOT / file).read_text("utf-8")).body if hasattr(node, "name")}
        assert not function or function in named


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree whose tests import its own package."""
    path = tmp_path_factory.mktemp("copy").resolve()
    copy_tree(ROOT, path)
    assert imported_from(path).is_relative_to(path)
    return path


@pytest.mark.slow
def test_without_a_mutant_nothing_fails(copy: Path) -> None:
    check_copy(copy, MUTANTS)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_misreading_makes_a_test_fail(mutant: Mutant, copy: Path) -> None:
    assert catch(copy, mutant)


def test_there_are_at_least_ten_distinct_mutants() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 10
    assert len({mutant.edits for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize(("source", "times"), [("a - b", 0), ("a + b + a + b", 2)])
def test_an_edit_fits_once_or_not_at_all(source: str, times: int) -> None:
    with pytest.raises(MutationError, match=f"occurs {times} times, expected once"):
        mutate(source, Edit("x.py", "a + b", "a"))


def test_edits_of_one_file_add_up(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("a\nb\n", "utf-8")
    mutant = Mutant("both", (Edit("x.py", "a", "c"), Edit("x.py", "b", "d")), ())
    assert mutated_files(tmp_path, mutant) == {tmp_path / "x.py": "c\nd\n"}
    with pytest.raises(MutationError, match=r"y\.py: no such file"):
        mutated_files(tmp_path, Mutant("elsewhere", (Edit("y.py", "a", "c"),), ()))


def test_failures_are_read_off_the_summary() -> None:
    summary = "FAILED tests/a/test_x.py::test_y[one two] - assert 1\nFAILED tests/test_z.py::test_w\nERROR tests/t.py\n"
    assert failed_tests(summary) == ["test_x.py::test_y[one two]", "test_z.py::test_w"]


SOURCE = "def double(number):\n    return number * 2\n"
TEST = "from pclhd.sums import double\n\ndef test_double():\n    assert double(2) == 4\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A package of one function and its one test, which cannot distinguish doubling from squaring."""
    root = tmp_path / "tree"
    for name, content in (
        ("src/pclhd/__init__.py", ""),
        ("src/pclhd/sums.py", SOURCE),
        ("tests/test_sums.py", TEST),
        ("pyproject.toml", ""),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, "utf-8")
    return root


def planted(new: str, test: str = "tests/test_sums.py") -> Mutant:
    return Mutant(f"returns {new}", (Edit("sums.py", "number * 2", new),), (test,))


@pytest.mark.slow
def test_caught_survived_and_not_judged(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert imported_from(tree).is_relative_to(tree)
    assert catch(tree, planted("number * 3")) == ["test_sums.py::test_double"]
    assert (tree / "src/pclhd/sums.py").read_text("utf-8") == SOURCE
    with pytest.raises(MutationError, match="did not run"):
        catch(tree, planted("number *"))
    mutants = planted("number * 3"), planted("number ** 2"), planted("number *")
    assert check(tree, mutants) == 2
    table = capsys.readouterr().out
    assert "| returns number * 3 | `sums.py` | `test_sums.py::test_double` |" in table
    assert "| returns number ** 2 | `sums.py` | **nothing** |" in table
    assert "| returns number * | `sums.py` | **not judged**" in table
    assert "1 of 3 caught" in table


def test_tests_that_fail_anyway_prove_nothing(tree: Path) -> None:
    (tree / "tests/test_sums.py").write_text(TEST.replace("== 4", "== 5"), "utf-8")
    with pytest.raises(MutationError, match=r"fails without any mutant: test_sums\.py::test_double"):
        check(tree, (planted("number * 3"),))


def test_the_command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[tuple[Mutant, ...]] = []

    def pretend(root: Path, mutants: tuple[Mutant, ...]) -> int:
        judged.append(mutants)
        return len(judged) - 1

    monkeypatch.setattr(mutation_check, "check", pretend)
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [mutant.name for mutant in MUTANTS]
    assert main([]) == 0
    assert main(["--only", "evaluation"]) == 1
    assert judged[0] == MUTANTS
    assert 0 < len(judged[1]) < len(MUTANTS)
    assert main(["--only", "no such word"]) == 1
    assert "no mutant's name" in capsys.readouterr().err
