"""The page of ``folio corpus explore``: what a text is made of, alone or beside another."""

from folio.reports.exploration.cloud import word_cloud
from folio.reports.exploration.page import exploration_page

__all__ = ["exploration_page", "word_cloud"]
