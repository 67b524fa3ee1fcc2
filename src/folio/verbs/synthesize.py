"""``folio synthesize SPEC.toml``: examples for fine-tuning, drawn from an OpenAI-compatible endpoint."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from folio.config import Table, build, leaves
from folio.errors import Interrupted, UserError
from folio.finetuning.synthesis.spec import check_spec, read_spec, spec_path
from folio.finetuning.synthesis.tables import Settings
from folio.verbs.action import Action, Outcome, Terminal
from folio.verbs.options import read_flags, spelling


class SynthesizeOptions(Settings):
    """Which spec, and what to change in it. Base URL, key and, if the spec names none, the model come from the
    environment: OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL."""

    spec: Positional[str]
    """A TOML file, or the name of a shipped spec: fantasy-locations."""
    out: Path | None = None
    """The folder that the examples grow in; the same command goes on in it. Empty: synthesized/ and the spec's name."""
    preview: bool = False
    """Ask for three examples, show them, and stop; they count as the first three."""
    yes: bool = False
    """Spend without asking: needed where nobody is at a terminal."""


def spec_defaults(args: Sequence[str]) -> Table | None:
    """The settings of the spec that the arguments name, for flags to start from; None if they name none."""
    _, loose, _ = read_flags(dict(leaves(SynthesizeOptions)), args)
    if not loose:
        return None
    data = {key: value for key, value in read_spec(loose[0]).items() if key in Settings.model_fields}
    return build(SynthesizeOptions, {**data, "spec": loose[0]}, source=f"'{loose[0]}'")


def synthesize(options: SynthesizeOptions, terminal: Terminal) -> Outcome:
    """Show what it will cost, ask, and collect examples until there are enough."""
    from folio.finetuning.synthesis.cells import cell_count
    from folio.finetuning.synthesis.client import Endpoint
    from folio.finetuning.synthesis.opening import opened_folder
    from folio.verbs.synthesizing import Sitting

    settings = options.model_dump(mode="json", include=set(Settings.model_fields))
    spec = check_spec({**read_spec(options.spec), **settings}, f"'{options.spec}'")
    cell_count(spec)
    endpoint = Endpoint(spec.request, spec.limits)
    spec = spec.model_copy(update={"request": spec.request.model_copy(update={"model": endpoint.model})})
    out = options.out or Path("synthesized") / spec_path(options.spec).stem
    with opened_folder(out, spec) as folder:
        sitting = Sitting(spec, endpoint, folder, terminal, command=command_of(options))
        try:
            return sitting.run(preview=options.preview, yes=options.yes)
        except (UserError, Interrupted):
            sitting.save()
            raise
        except KeyboardInterrupt:
            sitting.save()
            raise Interrupted(f"stopped; what was on its way counts in full\n{sitting.how_to_go_on}") from None


def command_of(options: SynthesizeOptions) -> str:
    """The command that goes on with the same folder: the spec, and what flags changed in it."""
    given = dict(leaves(SynthesizeOptions))
    command = ["folio", "synthesize", options.spec]
    if options.out is not None:
        command += ["--out", str(options.out)]
    before = check_spec(read_spec(options.spec))
    for key in (name for name in given if "." in name):
        table, name = key.split(".")
        value = getattr(getattr(options, table), name)
        if value != getattr(getattr(before, table), name):
            command += as_flag(spelling(key, given), value)
    return shlex.join(command)


def as_flag(flag: str, value: Any) -> list[str]:
    """A changed value as the command line takes it."""
    if isinstance(value, bool):
        table, dot, name = flag.removeprefix("--").rpartition(".")
        return [flag if value else f"--{table}{dot}no-{name}"]
    if isinstance(value, tuple):
        return [flag, *map(str, value)]
    return [flag, "none" if value is None else str(value)]


ACTIONS = {
    "": Action(
        SynthesizeOptions,
        synthesize,
        "Collect examples for fine-tuning from an OpenAI-compatible endpoint.",
        examples=(
            "folio synthesize fantasy-locations --preview",
            "folio synthesize my-spec.toml --amount.count 200 --budget.tokens 200000 --yes",
            "OPENAI_BASE_URL=http://localhost:8000/v1 OPENAI_API_KEY=none folio synthesize my-spec.toml",
        ),
        default=spec_defaults,
    )
}
