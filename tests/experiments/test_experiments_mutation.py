"""Faults put into the code: where mutants are made and where not, which tests a line has, shares and intervals."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from experiments.common.tables import proportion
from experiments.reliability import hand_made_faults, mutation
from experiments.reliability.hand_made_faults import Fault, applied, count, read_faults
from experiments.reliability.mutation import ROOT, equivalent, files_of, room_of, room_tests, summary
from experiments.reliability.mutation_workshop import Baseline

SOURCE = '''"""A file to mutate."""

from __future__ import annotations

Number = int | float


def scaled(x: int | None = 2, *, factor: float = 3.0) -> int | float:
    """Return a product."""
    if x is None:
        raise ValueError(f"x is {x + 1}")
    total = 0
    for i in range(x):
        total += i
    print(total, end="")
    return factor * total
'''


@pytest.fixture
def made(tmp_path: Path) -> list[tuple[str, str]]:
    """The changed lines of every mutant of the file above."""
    pytest.importorskip("cosmic_ray")
    from experiments.reliability.mutation_mutants import mutants_of

    (tmp_path / "file.py").write_text(SOURCE)
    found = set()
    for seed in range(8):
        mutants = mutants_of(tmp_path, ["file.py"], 100, seed)
        assert [m.text for m in mutants] == [m.text for m in mutants_of(tmp_path, ["file.py"], 100, seed)]
        for mutant in mutants:
            ast.parse(mutant.text)
            assert mutant.name == f"file.py: {mutant.old} -> {mutant.new}"
            found.add((mutant.old, mutant.new))
    return sorted(found)


def test_mutants_are_small_and_in_what_runs(made: list[tuple[str, str]]) -> None:
    changes = {
        ("if x is None:", "if x is not None:"),
        ("for i in range(x):", "for i in []:"),
        ("total += i", "pass"),
        ('print(total, end="")', "pass"),
        ('print(total, end="")', "print(total)"),
        ("total = 0", "total = 1"),
    }
    plain = {(old, " ".join(new.split())) for old, new in made}
    assert changes <= plain
    # Annotations, names of types and messages say nothing that a test could notice.
    assert not any(old.startswith(("Number", "raise")) for old, _ in made)
    heads = [new for old, new in made if old.startswith("def")]
    assert heads
    assert all("int | None" in new and "-> int | float" in new and "*," in new for new in heads)


def test_the_tests_of_a_line_come_quickest_first_and_imports_belong_to_all() -> None:
    base = Baseline({"a": 3.0, "b": 1.0, "c": 2.0}, {"f.py": {1: [""], 2: ["a", "b"], 3: ["c"], 9: ["gone"]}})
    assert base.tests_of("f.py", 2, 3) == ["b", "c", "a"]
    assert base.tests_of("f.py", 3, 3) == ["c"]
    assert base.tests_of("f.py", 1, 2) is None
    assert base.tests_of("f.py", 4, 9) == []
    assert base.tests_of("g.py", 1, 1) == []


def test_intervals_of_shares_by_hand() -> None:
    """Wilson's interval of 8 of 10 by the textbook, and its ends."""
    assert [round(end, 4) for end in proportion(8, 10)] == [0.8, 0.4902, 0.9433]
    assert proportion(0, 10).low == 0.0
    assert proportion(10, 10).high == 1.0
    assert proportion(0, 0)[1:] == (0.0, 1.0)


def test_mutants_that_mean_the_same_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutation, "equivalent", lambda: {"same": "why", "caught all the same": "why"})
    rows = [{"name": "same", "outcome": "passed"}, {"name": "missed", "outcome": "passed"}]
    rows += [
        {"name": n, "outcome": o} for n, o in (("x", "failed"), ("y", "timeout"), ("caught all the same", "broken"))
    ]
    found = summary(rows)
    assert (found["mutants"], found["equivalent"], found["caught"], found["score"]) == (5, 1, 3, 0.75)


def test_every_equivalent_mutant_has_a_reason() -> None:
    assert all(len(why) > 10 for why in equivalent().values())


def test_rooms_and_their_tests() -> None:
    assert room_of("interpnet/mulasso/_solver/_homotopy.py") == "mulasso"
    for room in mutation.ROOMS:
        files = files_of(ROOT, room)
        assert files
        assert all(room_of(file) == room for file in files)
        assert any(name.endswith(".py") for name in room_tests(ROOT, room))
    for room in ("engine", "mulasso", "evaluate"):
        names = room_tests(ROOT, room)
        assert {"tests/test_wrong_arguments.py", "tests/test_shapes.py"} <= set(names)
        assert "tests/pictures/test_picture_arguments.py" in names
        assert len(set(names)) == len(names)
    assert "tests/pipelines/test_run_folder.py" in room_tests(ROOT, "stages", quick=True)
    assert "tests/pipelines/test_pipeline_end_to_end.py" not in room_tests(ROOT, "stages", quick=True)


def test_the_list_of_faults_can_be_read() -> None:
    faults = read_faults()
    assert len(faults) >= 105
    assert len({fault.what for fault in faults}) == len(faults)
    assert all((ROOT / fault.file).suffix == ".py" and fault.old != fault.new for fault in faults)


def test_a_fault_is_put_in_where_its_text_stands_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "a = 1\nb = (\n    2,\n)\nc = 3\n"
    (tmp_path / "f.py").write_text(text)
    fault = Fault("what", "f.py", "b = (\n    2,\n)", "b = 4")
    assert applied(fault, text) == ("a = 1\nb = 4\nc = 3\n", 2, 4)
    assert count(fault, tmp_path) == 1
    assert count(fault._replace(old=" = "), tmp_path) == 3
    assert count(fault._replace(file="absent.py"), tmp_path) == 0
    # Where the code has moved on nothing is tried.
    assert hand_made_faults.main(["--root", str(tmp_path), "--only", "the seed of the halves is ignored"]) == 2
    assert "is not there once (the seed of the halves is ignored)" in capsys.readouterr().out
