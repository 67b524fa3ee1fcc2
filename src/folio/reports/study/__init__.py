"""The report of a study: its answer, tables, figures, and one self-contained page."""
