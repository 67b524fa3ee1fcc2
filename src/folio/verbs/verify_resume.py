"""``folio verify-resume``: proof on one's own machine that a run killed at random moments ends with the same bits."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tyro
from pydantic import Field

from folio.artifacts import refuse_occupied, write_file
from folio.config import to_toml
from folio.errors import BrokenPromise, ConfigError
from folio.training.config import TrainConfig
from folio.verbs.action import Action, Outcome, Terminal
from folio.verbs.killing import Kill, Killing, train_undisturbed
from folio.verbs.options import over_recipe
from folio.verbs.recipe import Recipe
from folio.verbs.victim import Trainer

CHECKPOINTS = 22
"""How many are saved over a run whose recipe saves none on the way."""

NAMED = 12
"""How many differences are printed."""


class VerifyOptions(Recipe):
    """A recipe, and how often to kill it."""

    recipe: tyro.conf.Positional[str]
    """A preset's name or a TOML file."""
    kills: int = Field(default=20, ge=1)
    """How many times a process is killed (SIGKILL)."""
    ranks: int = Field(default=1, ge=1)
    """Processes that train together, under torchrun. Half of the kills then hit one of them, half all at once."""
    kill_seed: int | None = Field(default=None, ge=0)
    """Draws the moments. Empty: drawn itself, and printed."""
    out: Path | None = None
    """Keep the runs in this folder. Empty: a temporary one, which stays only if a difference is found."""


def verify_resume(options: VerifyOptions, terminal: Terminal) -> Outcome:
    """Train once undisturbed and again under kills; every difference at the end is told, and is exit code 1."""
    if not hasattr(signal, "SIGKILL"):
        raise ConfigError("this system has no SIGKILL", "Use Linux or macOS.")
    seed = random.randrange(10**6) if options.kill_seed is None else options.kill_seed
    recipe = with_checkpoints(options, terminal)
    terminal.print(f"kills      {options.kills}, drawn with --kill-seed {seed}")
    with working_folder(options.out) as folder:
        return _prove(options, recipe, folder, seed, terminal)


def _prove(options: VerifyOptions, recipe: Recipe, folder: Path, seed: int, terminal: Terminal) -> Outcome:
    undisturbed, config = folder / "undisturbed", recipe.train
    trainer = Trainer(write_recipe(folder, recipe), options.ranks, shared_environment(options.ranks))
    with terminal.progress("undisturbed", config.steps, "step") as bar:
        timing = train_undisturbed(trainer, undisturbed, config, bar.update)
    terminal.print(
        f"took       {timing.start_s:.1f} s to the first step, {timing.train_s:.1f} s from there to the last one"
    )
    config = settled(config, undisturbed)
    write_recipe(folder, recipe.model_copy(update={"train": config}))
    killing = Killing(trainer, folder, config, timing, options.kills, seed)
    data: dict[str, Any] = {"recipe": options.recipe, "ranks": options.ranks, "kill_seed": seed}
    data["undisturbed"] = {"steps": config.steps, "start_s": timing.start_s, "train_s": timing.train_s}
    try:
        with terminal.progress("verify-resume", options.kills, "kill") as bar:
            killing.run(lambda run, step: bar.update(len(killing.kills), {"run": run, "step": f"{step:,}"}))
    except BrokenPromise as broken:
        _show_kills(killing.kills, terminal)
        data["kills"] = [kill.as_dict() for kill in killing.kills]
        raise BrokenPromise(f"{broken}\n       The runs are kept in {folder}", data) from None
    data["kills"] = [kill.as_dict() for kill in killing.kills]
    _show_kills(killing.kills, terminal)
    return _compare(undisturbed, killing, data, terminal, keep=options.out)


def _compare(
    undisturbed: Path, killing: Killing, data: dict[str, Any], terminal: Terminal, keep: Path | None
) -> Outcome:
    from folio.verbs.same_end import differences, final_weights_sha256

    runs: list[dict[str, Any]] = []
    for run in killing.runs:
        found = differences(run, undisturbed)
        runs.append({"run": run.name, "weights_sha256": final_weights_sha256(run), "differences": found})
    data["undisturbed"]["weights_sha256"] = final_weights_sha256(undisturbed)
    count = sum(len(run["differences"]) for run in runs)
    data |= {"runs": runs, "differences": count}
    for ended in [{"run": undisturbed.name, **data["undisturbed"]}, *runs]:
        terminal.print(f"{ended['run']:<12} weights sha256 {ended['weights_sha256']}")
    verdict = f"{len(killing.kills)} kills, {count} differences"
    if count:
        told = [f"{ended['run']}: {line}" for ended in runs for line in ended["differences"]]
        if count > NAMED:
            told[NAMED:] = [f"and {count - NAMED:,} more, all of them with --json"]
        lines = [f"{verdict}: a killed run ended with other bits", *told, f"The runs are kept in {undisturbed.parent}"]
        raise BrokenPromise("\n       ".join(lines), data)
    terminal.print(f"{verdict}: weights, optimizer state and losses are equal bit for bit")
    return Outcome(data, wrote=() if keep is None else (keep,))


def with_checkpoints(options: VerifyOptions, terminal: Terminal) -> Recipe:
    """The recipe, saving checkpoints on the way, and sending its metrics nowhere; what was changed is printed."""
    recipe = Recipe.model_validate({name: getattr(options, name) for name in Recipe.model_fields})
    config, changes = recipe.train, dict[str, Any]()
    if not config.checkpoint_every:
        changes["checkpoint_every"] = max(1, round(config.steps / CHECKPOINTS))
        terminal.print(f"checkpoint every {changes['checkpoint_every']:,} steps: the recipe saves none on the way")
    if config.track:
        changes["track"] = ()
        terminal.print(f"track      none: what is killed reports to nobody ({', '.join(config.track)} left out)")
    return recipe.model_copy(update={"train": config.model_copy(update=changes)})


def settled(config: TrainConfig, run: Path) -> TrainConfig:
    """``config`` with what ``run`` found out by looking at free memory, which may say something else the next time."""
    found, settled = json.loads((run / "config.json").read_bytes())["resolved"], dict[str, Any]()
    if config.micro_batch == "auto":
        settled["micro_batch"] = found["micro_batch"]
    if found.get("parallel") in ("ddp", "fsdp"):
        settled["parallel"] = found["parallel"]
    return config.model_copy(update=settled)


def write_recipe(folder: Path, recipe: Recipe) -> Path:
    """``recipe.toml`` that every process reads; a vocabulary that was not asked for stays the tokenizer's to say."""
    tables = to_toml(recipe).split("\n\n")
    if "vocab_size" not in recipe.model.model_fields_set:
        tables = [
            "\n".join(line for line in table.splitlines() if not line.startswith("vocab_size ="))
            if table.startswith("[model]")
            else table
            for table in tables
        ]
    write_file(folder / "recipe.toml", "\n\n".join(tables))
    return folder / "recipe.toml"


def shared_environment(ranks: int) -> dict[str, str]:
    """This process's environment; with several ranks, one number of threads for each of them, so that sums agree."""
    shared = {} if ranks == 1 else {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // ranks))}
    return {**shared, **os.environ}


@contextmanager
def working_folder(out: Path | None) -> Iterator[Path]:
    """Where the runs lie: ``out``, which must be free, or a temporary folder that stays only if a promise is broken."""
    if out is not None:
        refuse_occupied(out)
        out.mkdir(parents=True, exist_ok=True)
        yield out
        return
    folder = Path(tempfile.mkdtemp(prefix="folio-verify-resume-"))
    try:
        yield folder
    except BrokenPromise:
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _show_kills(kills: Sequence[Kill], terminal: Terminal) -> None:
    rows = [
        (kill.number, kill.run, kill.target, kill.moment, kill.step, kill.resumed_from, kill.steps_again)
        for kill in kills
    ]
    terminal.table(("kill", "run", "killed", "moment", "step reached", "resumed from", "steps done again"), rows)


ACTIONS = {
    "": Action(
        VerifyOptions,
        verify_resume,
        "Kill a run at random moments, and prove that it ends with the same bits as one left alone.",
        examples=(
            "folio verify-resume tiny-shakespeare-char --train.steps 300",
            "folio verify-resume my.toml --kills 100 --out proof",
            "folio verify-resume my.toml --ranks 2",
        ),
        default=over_recipe(VerifyOptions),
    )
}
