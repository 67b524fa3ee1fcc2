"""Preference tuning on the ranks of a job: its losses, weights and measures, written as JSON.

``torchrun --nproc_per_node 2 preference_on_ranks.py FOLDER ddp``; without a launcher, one process alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from preference_pairs import RECORDS, char_tokenizer, even_model, pairs_of, shape

from folio.finetuning.preference.batches import PreferenceBatches
from folio.finetuning.preference.measure import measure_preferences
from folio.finetuning.preference.objective import Preference
from folio.finetuning.preference.reference import make_reference
from folio.ranks import ALONE, Ranks, joined
from folio.runtime import Runtime
from folio.training.config import TrainConfig
from folio.training.plan import solve_batch
from folio.training.state import TrainingState

PAIRS = [*RECORDS, {"prompt": "Who", "chosen": " is it?", "rejected": " men"}]
STEPS, SEQUENCES, BLOCK = 3, 4, 48


def tuned(folder: Path, way: str, ranks: Ranks = ALONE) -> dict[str, Any]:
    """What a few steps give: an odd number of pairs and of passes, so that ranks have unequal work."""
    pairs = pairs_of(folder, PAIRS)
    model = even_model(shape(char_tokenizer()))
    tokens = SEQUENCES * BLOCK
    train = {"steps": STEPS, "batch_tokens": tokens, "optimizer": {"learning_rate": 1e-2}}
    runtime = Runtime(torch.device("cpu"), "fp32", ranks=ranks)
    objective = Preference(model.config, beta=0.4)
    state = TrainingState(model, TrainConfig.model_validate(train), runtime, way, objective)
    reference = make_reference(state.model, pairs, pass_tokens=40, ranks=ranks)
    source = PreferenceBatches(pairs, reference, BLOCK, SEQUENCES, seed=1)
    plan = solve_batch(tokens, BLOCK, 1, world_size=ranks.world_size)
    results = [state.train_step(source, plan) for _ in range(STEPS)]
    with state.shipping_weights() as shipped:
        facts = measure_preferences(shipped, pairs, reference, objective, pass_tokens=40, ranks=ranks)
    return {
        "reference": reference.log_p.flatten().tolist(),
        "losses": [result.loss for result in results if result is not None],
        "norms": [result.grad_norm for result in results if result is not None],
        "facts": [value for value in facts.values() if not isinstance(value, str)],
    }


if __name__ == "__main__":
    folder, way = Path(sys.argv[1]), sys.argv[2]
    with joined("cpu", timeout_s=120) as ranks:
        own = folder / f"rank-{ranks.rank}"
        own.mkdir()
        found = tuned(own, way, ranks)
        (own / "found.json").write_text(json.dumps(found))
