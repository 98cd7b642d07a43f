"""The report of a run: one self-contained HTML file, with tables and figures beside it.

:func:`interpnet.pipelines.report.build.build_report` makes it; importing this package loads nothing heavy.
"""
