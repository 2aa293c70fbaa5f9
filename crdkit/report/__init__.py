"""Reports: one page per run, tables and pages over many runs."""
