"""Shards of several sources to one set of shards, by weights and a budget."""

from folio.shards.mixing.mix import MixProgress, mix_shards
from folio.shards.mixing.plan import MixConfig, Share, plan_mixture

__all__ = ["MixConfig", "MixProgress", "Share", "mix_shards", "plan_mixture"]
