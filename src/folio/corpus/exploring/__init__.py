"""What texts are made of: any source or shards, whole or by a sample, on its own or against another."""

from folio.corpus.exploring.comparison import compared_words, distinctions, overlap
from folio.corpus.exploring.explorer import Exploration, explore
from folio.corpus.exploring.material import Drawn, Look, Material
from folio.corpus.exploring.walking import corpus_material, deduplicated, source_material

__all__ = [
    "Drawn",
    "Exploration",
    "Look",
    "Material",
    "compared_words",
    "corpus_material",
    "deduplicated",
    "distinctions",
    "explore",
    "overlap",
    "source_material",
]
