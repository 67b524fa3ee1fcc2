"""The recipe of a fine-tuning run: everything that it is made from besides the model."""

from __future__ import annotations

from folio.config import Table
from folio.errors import ConfigError
from folio.evaluation.config import EvaluationConfig
from folio.finetuning.config import USUAL_RATES, FinetuneTrain
from folio.finetuning.config_data import DataConfig
from folio.finetuning.config_lora import LoraConfig, Method
from folio.finetuning.preference.config import DpoConfig
from folio.finetuning.samples import SamplesConfig
from folio.finetuning.search.config import SearchConfig
from folio.generation.config import GenerationConfig
from folio.verbs.finetune.forgetting import ForgettingConfig

ADAPTERS = ("lora", "qlora")
PLACES = ("path", "validation", "test", "template")
"""Of [data], where things lie: what is in them is known by a hash."""


class FinetuneRecipe(Table):
    """What ``folio finetune`` reads from a TOML file."""

    method: Method = "lora"
    """What is trained: every weight (full), low-rank adapters (lora), those on a base in 4 bits (qlora), or the output
    head and the last norm (head)."""
    data: DataConfig
    """The examples."""
    lora: LoraConfig = LoraConfig()
    """The adapters, of lora and qlora."""
    dpo: DpoConfig = DpoConfig()
    """Preference tuning, for records with prompt, chosen and rejected."""
    search: SearchConfig = SearchConfig()
    """The search for a learning rate, and more, before the run."""
    train: FinetuneTrain = FinetuneTrain()
    """The run."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """What is measured while training, besides the validation loss."""
    generation: GenerationConfig = GenerationConfig()
    """How samples are drawn."""
    samples: SamplesConfig = SamplesConfig()
    """What the finished model writes for a look."""
    forgetting: ForgettingConfig = ForgettingConfig()
    """What the base could do, measured before and after."""


def with_usual_rate(recipe: FinetuneRecipe) -> FinetuneRecipe:
    """``recipe`` with the rate that is usual for its method, unless one was given."""
    optimizer = recipe.train.optimizer
    if "learning_rate" in optimizer.model_fields_set:
        return recipe
    rate = USUAL_RATES[recipe.method]
    train = recipe.train.model_copy(update={"optimizer": optimizer.model_copy(update={"learning_rate": rate})})
    return recipe.model_copy(update={"train": train})


def refuse_idle(recipe: FinetuneRecipe, *, preferences: bool) -> None:
    """:class:`ConfigError` for a table that is filled in and that nothing would read."""
    if recipe.method not in ADAPTERS and recipe.lora != LoraConfig():
        raise ConfigError(
            f"[lora] is for the methods lora and qlora, not for {recipe.method}",
            "Leave it out, or choose --method lora.",
        )
    if not preferences and recipe.dpo != DpoConfig():
        raise ConfigError("[dpo] is for records with prompt, chosen and rejected, which these are not", "Leave it out.")
    if recipe.method != "full" and recipe.train.optimizer.kind == "muon":
        raise ConfigError(
            f"muon trains whole matrices, which {recipe.method} does not", "Use --train.optimizer.kind adamw."
        )
    if recipe.evaluation.oracle is not None:
        raise ConfigError(
            "an oracle judges how a corpus is continued, and fine-tuning has none",
            "Leave evaluation.oracle out; afterwards: folio evaluate oracle RUN --text FILE",
        )
