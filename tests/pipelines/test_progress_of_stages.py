"""Every long stage of an audit says how far it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.tiny_run import through, tiny_session

from interpnet.support import progress


def test_no_stage_is_silent_in_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "QUIET", 0.0)
    through(tiny_session(tmp_path, masks=True, mu="auto", stability=2, identify="both"))
    said = [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert list(dict.fromkeys(said)) == [
        "First look",
        "Collecting scores",
        "Choosing mu",
        "Solving",
        "stability",
        "Collecting contributions",
        "Measuring reliance",
        "Reading images",
        "Ablating",
        "Finding maxima",
        "Moving images inwards",
        "Averaging crops",
        "Writing pictures",
        "Choosing examples",
        "Explaining images",
        "Comparing maps with masks",
        "Comparing channels with masks",
    ]
