"""Measures of heatmaps."""

from __future__ import annotations

from interpnet.evaluate.checkerboard import checkerboard as checkerboard
