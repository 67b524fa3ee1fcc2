"""Where text comes from: named corpora and local files, as cleaned documents with a fixed side of the split."""

from folio.corpus.cleaning import CleaningCounts
from folio.corpus.config import CorpusConfig
from folio.corpus.corpus import Corpus, open_corpus
from folio.corpus.document import Document
from folio.corpus.mirrors import fetch

__all__ = ["CleaningCounts", "Corpus", "CorpusConfig", "Document", "fetch", "open_corpus"]
