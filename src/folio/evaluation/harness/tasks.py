"""Tasks of lm-evaluation-harness by name: found fast, refused in one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from folio.corpus.hub import PATIENCE_S, answers
from folio.errors import ConfigError, DataError, Unreachable, UserError, nearest, require

Tasks = dict[str, Any]
"""What ``TaskManager.load`` gives: "tasks" and "groups" by name, "group_map"."""


def load_tasks(names: Sequence[str], include_path: Path | None = None) -> Tasks:
    """The tasks of these names, their data read; a name may be a group, a tag, a pattern or a task file's path.

    Where ``include_path`` holds them all, nothing else is looked at. :class:`ConfigError` for a name that is none,
    :class:`Unreachable` for data that only the hub has while it does not answer, :class:`DataError` for a task or data
    that cannot be read.
    """
    if include_path is not None and not include_path.is_dir():
        raise ConfigError(f"there is no folder '{include_path}' with task files", "Give --include-path a folder.")
    asked = _ask_hub()
    manager = _manager(names, include_path)
    wanted: list[str] = []
    for name in names:
        matches = manager.match_tasks([name]) or [name] * Path(name).is_file()
        if not matches:
            raise _unknown(name, manager)
        wanted += [match for match in matches if match not in wanted]
    loaded: Tasks = {"tasks": {}, "groups": {}, "group_map": {}}
    with _offline_unless(asked):
        for name in wanted:
            try:
                for part, found in manager.load([name]).items():
                    loaded[part].update(found)
            except Exception as error:  # the task's own code and every reader of data may raise anything
                raise _refusal(name, error) from error
    for task in loaded["tasks"].values():
        if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
            why = "runs code that a model wrote" if getattr(task, "UNSAFE_CODE", False) else "shows images or sound"
            raise ConfigError(f"task '{task.task_name}' {why}, which Folio does not do", "Leave it out.")
    return loaded


def _manager(names: Sequence[str], include_path: Path | None) -> Any:
    """The smallest index of task files that knows every name; reading all of the harness's own takes seconds."""
    own = [] if include_path is None else [include_path]
    kinds = {require("lm_eval.tasks._index", "eval").Kind[kind] for kind in ("TASK", "PY_TASK")}
    make = require("lm_eval.tasks", "eval").TaskManager
    manager = make(include_path=own, include_defaults=False)
    missing = [name for name in names if not manager.match_tasks([name]) and not Path(name).is_file()]
    if not missing:
        return manager
    for name in missing:
        _refuse_broken(name, own)
    shipped = Path(str(require("lm_eval.tasks", "eval").__file__)).parent
    folders = {file.parent for name in missing if name.isidentifier() for file in shipped.rglob(f"{name}.yaml")}
    manager = make(include_path=[*sorted(folders), *own], include_defaults=False)
    whole = all(name in manager.task_index and manager.task_index[name].kind in kinds for name in missing)
    return manager if whole else make(include_path=own)  # a group or a tag may name tasks of any folder


def _refuse_broken(name: str, folders: Sequence[Path]) -> None:
    """:class:`ConfigError` for a file that speaks of ``name`` and cannot be read; the harness passes over such."""
    load = require("lm_eval.tasks._yaml_loader", "eval").load_yaml
    for file in (file for folder in folders for file in sorted(folder.rglob("*.yaml"))):
        if name not in file.read_text(encoding="utf-8", errors="replace"):
            continue
        try:
            load(file, resolve_func=False)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"'{file}' cannot be read as a task: {reason}", "Mend the file.") from None


def _unknown(name: str, manager: Any) -> UserError:
    guess = nearest(name, manager.all_tasks)
    return ConfigError(
        f"lm-evaluation-harness has no task '{name}'",
        f"{f'Did you mean {guess}? ' if guess else ''}lm_eval ls tasks lists them; --include-path FOLDER adds yours.",
    )


def _refusal(name: str, error: BaseException) -> UserError:
    chain = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(below)
    user = next((link for link in chain if isinstance(link, UserError)), None)
    if user is not None:
        return user
    if any(isinstance(link, ConnectionError) or type(link).__name__ == "LocalEntryNotFoundError" for link in chain):
        return Unreachable(
            f"the data of task '{name}' are not on this machine, and the hub cannot be reached: {_line(error)}",
            "Run it once with a network (and without HF_HUB_OFFLINE), or give a task file of your own that reads a "
            "local jsonl: --include-path FOLDER.",
        )
    reason = next((link for link in chain if type(link).__name__ != "DatasetGenerationError"), error)
    return DataError(f"task '{name}' cannot be loaded: {_line(reason)}", "Mend its task file or its data.")


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _ask_hub() -> Future[bool]:
    """Whether the hub answers, asked in the background while packages are being imported."""
    constants: Any = require("huggingface_hub.constants", "eval")
    asking = ThreadPoolExecutor(1)
    asked = asking.submit(lambda: not constants.HF_HUB_OFFLINE and answers(constants.ENDPOINT, PATIENCE_S))
    asking.shutdown(wait=False)
    return asked


@contextmanager
def _offline_unless(asked: Future[bool]) -> Iterator[None]:
    """What is cached is used and nothing is waited for, where the hub's own client would try again for a minute."""
    places = [("huggingface_hub.constants", "HF_HUB_OFFLINE"), ("datasets.config", "HF_HUB_OFFLINE")]
    modules: list[tuple[Any, str]] = [(require(module, "eval"), name) for module, name in places]
    before = [getattr(module, name) for module, name in modules]
    try:
        if not asked.result():
            for module, name in modules:
                setattr(module, name, True)
        yield
    finally:
        for (module, name), value in zip(modules, before, strict=True):
            setattr(module, name, value)
