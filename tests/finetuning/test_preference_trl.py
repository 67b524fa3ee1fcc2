"""Loss, rewards and gradients are those of TRL, run here where it is installed, and as recorded from trl 1.16.0."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from preference_pairs import RECORDS, char_tokenizer, even_model, pairs_of, shape

from folio.finetuning.preference.batches import PreferenceBatches
from folio.finetuning.preference.measure import measure_preferences
from folio.finetuning.preference.objective import Preference
from folio.finetuning.preference.reference import make_reference
from folio.model.folder import save_model
from folio.model.gpt import GPT

OPTIONS: dict[str, dict[str, Any]] = {
    "sigmoid": {"beta": 0.1},
    "steep": {"beta": 0.7},
    "smoothed": {"beta": 0.5, "label_smoothing": 0.2},
    "ipo": {"beta": 0.3, "loss": "ipo"},
}
THEIR_LOSS = {"ipo": "ipo", "smoothed": "aot"}
"""Their name of the loss. Conservative labels are in "aot" alone, which for one pair at a time is our "smoothed"."""


RECORDED: dict[str, dict[str, float]] = {
    "sigmoid": {
        "loss": 0.7005953192710876,
        "chosen_reward": 0.016216754913330078,
        "rejected_reward": 0.030991505831480026,
        "accuracy": 0.25,
        "margin": -0.014774750918149948,
        "embed": 0.47598445415496826,
        "norm": 0.0800570547580719,
    },
    "steep": {
        "loss": 0.7478265762329102,
        "chosen_reward": 0.11351728439331055,
        "rejected_reward": 0.21694055199623108,
        "accuracy": 0.25,
        "margin": -0.10342326760292053,
        "embed": 3.498134136199951,
        "norm": 0.5866336226463318,
    },
    "smoothed": {
        "loss": 0.716826319694519,
        "chosen_reward": 0.08108282089233398,
        "rejected_reward": 0.15495753288269043,
        "accuracy": 0.25,
        "margin": -0.07387471199035645,
        "embed": 1.5160404443740845,
        "norm": 0.2540116310119629,
    },
    "ipo": {
        "loss": 2.7818009853363037,
        "chosen_reward": 0.048650264739990234,
        "rejected_reward": 0.09297452867031097,
        "accuracy": 0.25,
        "margin": -0.04432426020503044,
        "embed": 4.2863311767578125,
        "norm": 0.9012668132781982,
    },
}
"""What trl 1.16.0 (transformers 5.23.0, torch 2.13.0) gave: means over the pairs, and the norms of two gradients."""
LOG_P = (-42.669734954833984, -43.930015563964844)
"""Its mean log-probabilities of chosen and rejected answers."""


@dataclass
class Judged:
    """Means over the pairs, and the gradients of the mean loss in embedding and final norm."""

    facts: dict[str, float]
    log_p: tuple[float, float]
    gradients: dict[str, torch.Tensor]


def models() -> tuple[GPT, GPT]:
    """What is tuned, and its reference."""
    config = shape(char_tokenizer(), norm_eps=1e-5)
    return even_model(config), even_model(config, phase=0.05)


def ours(tmp_path: Path, name: str) -> Judged:
    model, reference_model = models()
    pairs = pairs_of(tmp_path)
    reference = make_reference(reference_model, pairs)
    objective = Preference(model.config, **OPTIONS[name])
    rows = PreferenceBatches(pairs, reference, 48, len(pairs), seed=0).batch(0)
    loss = objective.nats(model, rows, torch.device("cpu")) / objective.count(rows)
    loss.backward()
    facts = measure_preferences(model, pairs, reference, objective)
    assert facts["nats_per_pair"] == pytest.approx(loss.item(), rel=1e-5)
    names = ("chosen_reward", "rejected_reward", "accuracy", "margin")
    log_p = make_reference(model, pairs).log_p.mean(1)
    assert model.norm.weight.grad is not None
    gradients = {"embed": model.embed.weight.grad[: model.config.vocab_size], "norm": model.norm.weight.grad}
    return Judged({"loss": loss.item(), **{name: facts[name] for name in names}}, (log_p[0], log_p[1]), gradients)


def theirs(tmp_path: Path, name: str) -> Judged:
    """TRL's trainer over our model folders and the same records in text; its own tokenization, collator and loss."""
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options, tokenizer = OPTIONS[name], char_tokenizer()
    for model, part in zip(models(), ("model", "reference"), strict=True):
        (tmp_path / part).mkdir()
        save_model(model, tmp_path / part, eos_id=tokenizer.eot_id, tokenizer_files=tokenizer.save_into)
    config = trl.DPOConfig(
        output_dir=str(tmp_path / "trl"),
        beta=options["beta"],
        label_smoothing=options.get("label_smoothing", 0.0),
        loss_type=[THEIR_LOSS.get(name, "sigmoid")],
        per_device_train_batch_size=1,
        report_to="none",
        use_cpu=True,
        bf16=False,
    )
    policy = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    trainer = trl.DPOTrainer(
        policy,
        AutoModelForCausalLM.from_pretrained(tmp_path / "reference", dtype=torch.float32),
        config,
        train_dataset=datasets.Dataset.from_list(RECORDS),
        processing_class=AutoTokenizer.from_pretrained(tmp_path / "model"),
    )
    assert_same_ids(trainer.train_dataset, tmp_path)
    examples = list(trainer.train_dataset)
    alone = [trainer.data_collator([example]) for example in examples]
    batches = alone if name == "smoothed" else [trainer.data_collator(examples)]  # a batch at once, but for "aot"
    losses = [trainer.compute_loss(policy, batch) for batch in batches]
    loss = torch.stack(losses).mean()
    loss.backward()
    metrics = {key: float(np.mean(values)) for key, values in trainer._metrics["eval"].items()}
    facts = {
        "loss": loss.item(),
        "chosen_reward": metrics["rewards/chosen"],
        "rejected_reward": metrics["rewards/rejected"],
        "accuracy": metrics["rewards/accuracies"],
        "margin": metrics["rewards/margins"],
    }
    gradients = {"embed": policy.transformer.wte.weight.grad, "norm": policy.transformer.ln_f.weight.grad}
    return Judged(facts, (metrics["logps/chosen"], metrics["logps/rejected"]), gradients)


def assert_same_ids(dataset: Any, tmp_path: Path) -> None:
    for row, pair in zip(dataset, pairs_of(tmp_path), strict=True):
        assert row["prompt_ids"] + row["chosen_ids"] == pair.chosen.ids.tolist()
        assert row["prompt_ids"] + row["rejected_ids"] == pair.rejected.ids.tolist()
        assert row["prompt_ids"] == pair.prompt_ids.tolist()


@pytest.mark.parametrize("name", OPTIONS)
def test_loss_rewards_and_gradients_are_as_trl_gave_them(tmp_path: Path, name: str) -> None:
    found = ours(tmp_path, name)
    norms = {part: float(gradient.norm()) for part, gradient in found.gradients.items()}
    assert {**found.facts, **norms} == pytest.approx(RECORDED[name], rel=2e-5, abs=2e-6)
    assert found.log_p == pytest.approx(LOG_P, rel=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OPTIONS)
def test_loss_rewards_and_gradients_are_those_of_trl(tmp_path: Path, name: str) -> None:
    found, judge = ours(tmp_path, name), theirs(tmp_path, name)
    assert found.facts == pytest.approx(judge.facts, rel=2e-5, abs=2e-6)
    assert found.log_p == pytest.approx(judge.log_p, rel=1e-6)
    for part, gradient in found.gradients.items():
        assert torch.allclose(gradient, judge.gradients[part], rtol=1e-4, atol=1e-5 * float(gradient.abs().max())), part
