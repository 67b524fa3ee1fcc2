"""One sitting of ``folio synthesize``: what is shown and asked around the requests."""

from __future__ import annotations

import asyncio
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folio.errors import ConfigError, Interrupted
from folio.verbs.action import Outcome, Terminal

if TYPE_CHECKING:
    from folio.finetuning.synthesis.client import Endpoint
    from folio.finetuning.synthesis.folder import SynthesisFolder
    from folio.finetuning.synthesis.run import Ending
    from folio.finetuning.synthesis.spec import Spec
    from folio.verbs.progress import Progress

PREVIEWED = 3
SHOWN = 600
"""Characters of a previewed text that are shown."""
ENDINGS = {
    "budget": "the budget ends here: raise [budget] and run the same command to go on",
    "combinations": "no combination is left: add values, or raise amount.repeats, and run the same command to go on",
}


class Sitting:
    """One call of the verb: what is shown and asked, around the runs that send requests."""

    def __init__(
        self, spec: Spec, endpoint: Endpoint, folder: SynthesisFolder, terminal: Terminal, *, command: str
    ) -> None:
        self.spec, self.endpoint, self.folder, self.terminal = spec, endpoint, folder, terminal
        self.command = command
        """The command that goes on with this folder."""

    def run(self, *, preview: bool, yes: bool) -> Outcome:
        """Show the plan, and spend as far as ``preview``, ``yes`` or the person at the terminal say."""
        from folio.finetuning.synthesis.estimate import check_one_request

        check_one_request(self.spec, self.folder)
        self.show_plan()
        if preview:
            return self.done(self.preview())
        if not self.missing:
            return self.done("count")
        if not yes and not self.watched:
            raise ConfigError(
                "this spends on an endpoint, and nobody is at a terminal to agree",
                "Look at three examples with --preview, then give --yes.",
            )
        return self.done(self.ask(None) if yes else self.ask_with_consent())

    @property
    def missing(self) -> int:
        return max(0, self.spec.amount.count - self.folder.kept)

    @property
    def watched(self) -> bool:
        """Whether a person is there to be asked."""
        return self.terminal.interactive and sys.stdin.isatty()

    @property
    def how_to_go_on(self) -> str:
        return f"       {self.folder.kept:,} examples are kept in {self.folder.path}; go on with: {self.command}"

    def show_plan(self) -> None:
        """What will be asked, of whom, and what it is expected to cost."""
        from folio.finetuning.synthesis.estimate import estimate

        spec, folder, terminal = self.spec, self.folder, self.terminal
        told = estimate(spec, folder)
        budget = folder.budget
        lines = [
            ("endpoint", f"{self.endpoint.place}, model {self.endpoint.model}"),
            ("examples", f"{spec.amount.count:,} of {spec.combinations * spec.amount.repeats:,} combinations"),
        ]
        if folder.attempts:
            lines.append(("so far", f"{folder.kept:,} kept, {folder.filtered.total():,} filtered; "
                                    f"{budget.words(budget.spent)}"))  # fmt: skip
        if self.missing:
            lines.append(("estimate", f"about {budget.words(told.about)}; at most {budget.words(told.most)} unless "
                                      "answers are filtered or requests fail"))  # fmt: skip
        lines.append(("budget", budget.limit_words()))
        for name, words in lines:
            terminal.print(f"{name:<10} {words}")

    def ask_with_consent(self) -> Ending:
        """Three examples first, then the rest, each if the person at the terminal agrees."""
        if self.folder.answers < PREVIEWED and not self.confirmed(f"Ask for {PREVIEWED} examples first?"):
            return "asked"
        ending = self.preview()
        if ending != "asked" or not self.missing:
            return ending
        self.show_plan()
        return self.ask(None) if self.confirmed(f"Go on with the other {self.missing:,}?") else "asked"

    def confirmed(self, question: str) -> bool:
        from rich.prompt import Confirm

        try:
            answer: bool = Confirm.ask(question, console=self.terminal.console, default=False)
        except EOFError:
            return False
        return answer

    def preview(self) -> Ending:
        """Show three answers, of which the folder may have some already."""
        self.show_prompt()
        ending: Ending = "asked"
        if self.folder.answers < PREVIEWED:
            ending = self.ask(PREVIEWED - self.folder.answers)
        self.show_examples()
        return ending

    def show_prompt(self) -> None:
        from folio.finetuning.synthesis.cells import cells

        for message in next(cells(self.spec)).messages:
            self.terminal.print(f"\n[{message['role']}] {message['content']}", style="dim")

    def show_examples(self) -> None:
        for record in self.folder.first_records:
            chosen = ", ".join(f"{name}: {value}" for name, value in record["attributes"].items())
            mark = f" (filtered: {record['filtered']})" if "filtered" in record else ""
            usage = record["usage"]
            self.terminal.print(f"\n--- {chosen or record['id']}{mark}", style="bold")
            self.terminal.print(record["text"][:SHOWN] + "..." * (len(record["text"]) > SHOWN))
            self.terminal.print(
                f"    {usage['prompt_tokens']:,} + {usage['completion_tokens']:,} tokens, {record['finish']}",
                style="dim",
            )
        self.terminal.print()

    def ask(self, requests: int | None) -> Ending:
        """Send requests until the count is kept, or so many were answered; :class:`Interrupted` if asked to stop."""
        from folio.finetuning.synthesis.run import Synthesis
        from folio.training.stopping import StopRequest

        self.folder.begin()
        wanted = self.spec.amount.count if requests is None else self.folder.kept + requests
        # signals are heard here alone: at a question Ctrl-C leaves at once
        with StopRequest.listening() as stop, self.terminal.progress("examples", wanted, "example") as bar:
            listener = Listener(self.folder, bar, self.terminal)
            synthesis = Synthesis(self.spec, self.folder, self.endpoint, listener, lambda: stop.made)

            async def sitting() -> Ending:
                async with self.endpoint:
                    return await synthesis.run(requests)

            ending = asyncio.run(sitting())
        if ending == "stopped":
            raise Interrupted(f"stopped, and what was on its way has come in\n{self.how_to_go_on}")
        return ending

    def save(self) -> list[Path]:
        """Bring what describes the folder up to date."""
        return self.folder.finish() if self.folder.attempts else []

    def done(self, ending: Ending) -> Outcome:
        """Counts by reason, and where everything is."""
        folder, terminal = self.folder, self.terminal
        wrote = self.save()
        summary = folder.summary()
        terminal.print(f"{folder.kept:,} of {self.spec.amount.count:,} examples, {folder.attempts:,} requests, "
                       f"spent {folder.budget.words(folder.budget.spent)}")  # fmt: skip
        for title, counts in (("filtered", folder.filtered), ("failed", folder.failures)):
            if counts:
                terminal.print(f"{title:<10} " + ", ".join(f"{name} {count:,}" for name, count in counts.most_common()))
        if ending in ENDINGS:
            terminal.print(ENDINGS[ending])
        complete = not self.missing
        data = {"out": folder.path, "ending": "count" if complete else ending, "complete": complete, **summary}
        examples = shlex.quote(str(folder.path / "examples.jsonl"))
        following = [f"folio corpus explore {examples}", f"folio finetune MODEL --data {examples}"]
        if not complete:
            following = [f"{self.command} --yes"]
        return Outcome(data, wrote=tuple(wrote), next=tuple(following))


class Listener:
    """Shows on the bar how many examples are kept, what was spent, and what went wrong last."""

    def __init__(self, folder: SynthesisFolder, bar: Progress, terminal: Terminal) -> None:
        self.folder, self.bar, self.terminal = folder, bar, terminal
        self.told: set[str] = set()
        bar.update(folder.kept)

    def answered(self, record: dict[str, Any]) -> None:
        folder = self.folder
        self.bar.update(
            folder.kept, filtered=f"{folder.filtered.total():,}", spent=folder.budget.words(folder.budget.spent)
        )

    def failed(self, told: str, retry_in_s: float | None) -> None:
        """Each kind of failure is told once; all are counted."""
        kind = told.partition(":")[0][:40]
        if kind not in self.told:
            self.told.add(kind)
            after = "given up for now" if retry_in_s is None else f"again in {retry_in_s:.1f} s"
            self.terminal.print(f"request failed, {after}: {told}", style="dim")
