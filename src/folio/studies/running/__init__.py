"""Cells trained: in processes of their own, here or on Ray, with a record of each."""
