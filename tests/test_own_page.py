"""The examples of docs/own.md run, each page from top to bottom as a reader would type it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from interpnet.ablation import rankings, unregister_ranking
from interpnet.attribution import methods, unregister_method

PAGE = Path(__file__).resolve().parents[1] / "docs" / "own.md"


@pytest.fixture
def clean() -> Iterator[None]:
    yield
    for name in rankings():
        unregister_ranking(name)
    for method in methods():
        if method.family == "own":
            unregister_method(method.name)


def test_the_examples_run(clean: None, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for example in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(example, str(PAGE), "exec"), names)  # noqa: S102 - the page is ours
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["['relevant', 'relevant-positive', 'random', 'selective']", "(4, 8, 8)"]
