"""Preference tuning: from pairs of answers, one preferred to the other, to a model that prefers as they say (DPO)."""
