"""lm-evaluation-harness on Folio's engine: its model, its tasks, its numbers as ours."""
