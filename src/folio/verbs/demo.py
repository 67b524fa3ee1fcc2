"""``folio demo``: the whole way, from Shakespeare's plays to a model that writes, in a few minutes."""

from __future__ import annotations

import time
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from pydantic import Field

from folio.config import Table
from folio.verbs.action import Action, Outcome, Terminal

if TYPE_CHECKING:
    from folio.verbs.prepare import Prepared
    from folio.verbs.recipe import Recipe

PRESET = "shakespeare"
PROMPTS = ("HAMLET:\n", "FIRST WITCH:\n")
TRIAL_STEPS = 6


class DemoOptions(Table):
    """How long, and where to."""

    minutes: float = Field(default=4.0, gt=0)
    """How long to train, as near as a few trial steps can tell."""
    out: Path | None = None
    """The run's folder. Empty: runs/demo, or the next free name."""


def demo(options: DemoOptions, terminal: Terminal) -> Outcome:
    """Corpus, tokenizer, shards, training, evaluation and text, with a report at the end."""
    from folio.artifacts import refuse_occupied
    from folio.verbs.evaluate import EvaluateOptions, evaluate
    from folio.verbs.prepare import prepare
    from folio.verbs.pretraining import PretrainingJob
    from folio.verbs.recipe import load_recipe
    from folio.verbs.run import start
    from folio.verbs.run_folder import fresh_folder

    begun = time.perf_counter()
    run = options.out or fresh_folder(Path("runs/demo"))
    refuse_occupied(run)
    recipe = for_budget(load_recipe(PRESET), options.minutes)
    prepared = prepare(recipe, terminal)
    recipe = steps_for(recipe, prepared, 60 * options.minutes, terminal)
    trained = start(PretrainingJob(recipe, PRESET, terminal, prepared), run, terminal)
    terminal.print()
    scored = evaluate(EvaluateOptions(models=(str(run),), precision="auto", to=run / "evaluation"), terminal)
    passages = [passage(run, prompt, terminal) for prompt in PROMPTS]
    seconds = time.perf_counter() - begun
    scores = scored.data["evaluations"][0]["measurements"]["loss"]["scores"]
    bits = next(score["value"] for score in scores if score["metric"] == "bits_per_byte")
    terminal.print(f"held-out   {bits:.4f} bits/byte on plays it never saw")
    terminal.print(f"time       {int(seconds // 60)}:{int(seconds % 60):02d} in all")
    data = {**trained.data, "evaluation": scores, "passages": passages, "seconds": seconds}
    return Outcome(
        data,
        trained.wrote,
        (
            f'folio generate {quote(str(run))} --prompt "ROMEO:\\n"',
            f"folio evaluate {quote(str(run))}",
            f"folio check {PRESET}",
            "folio demo --minutes 30",
        ),
    )


def for_budget(recipe: Recipe, minutes: float) -> Recipe:
    """``recipe``, with a model twice as large from a quarter of an hour on: by then the small one has seen it all."""
    if minutes < 15:
        return recipe
    larger = {"n_layer": 6, "n_head": 4, "n_embd": 256}
    return recipe.model_copy(update={"model": recipe.model.model_copy(update=larger)})


def steps_for(recipe: Recipe, prepared: Prepared, seconds: float, terminal: Terminal) -> Recipe:
    """``recipe`` with as many steps as fit into ``seconds`` here, measured on a few steps of a model thrown away."""
    from folio.verbs.pretraining import open_session

    session = open_session(recipe, prepared)
    times = []
    for _ in range(TRIAL_STEPS):
        start = time.perf_counter()
        session.state.train_step(session.source, session.plan)
        session.runtime.synchronize()
        times.append(time.perf_counter() - start)
    pace = sorted(times[1:])[len(times[1:]) // 2]
    steps = max(20, round(0.93 * seconds / pace / 20) * 20)  # the rest goes to validation, samples and saving
    terminal.print(f"pace       {pace * 1000:.0f} ms a step: {steps:,} steps in about {seconds / 60:.1f} minutes")
    every = steps // 4
    train = recipe.train.model_copy(update={"steps": steps, "validate_every": every, "sample_every": every})
    return recipe.model_copy(update={"train": train})


def passage(run: Path, prompt: str, terminal: Terminal) -> dict[str, Any]:
    """Let the finished model go on from ``prompt``, printed as it comes."""
    from folio.generation import Generation, GenerationConfig
    from folio.verbs.library import as_dtype, load

    model = load(run)
    writing = Generation(
        as_dtype(model.gpt, "fp32"), model.tokenizer, [prompt], GenerationConfig(max_new_tokens=160, top_p=0.95, seed=1)
    )
    terminal.print("\n" + "-" * 60)
    terminal.write(prompt)
    for piece in writing:
        terminal.write(piece.text)
    terminal.print("\n" + "-" * 60)
    return {"prompt": prompt, "text": writing.answers[0].text}


ACTIONS = {
    "": Action(
        DemoOptions,
        demo,
        "From Shakespeare's plays to a model that writes, in a few minutes.",
        examples=("folio demo", "folio demo --minutes 30"),
    )
}
