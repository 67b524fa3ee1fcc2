"""Benchmarks as short descriptions: which file, which fields, and how a record becomes texts to score."""

from folio.evaluation.tasks.description import Convention
from folio.evaluation.tasks.items import Item, TaskData
from folio.evaluation.tasks.questions import Question
from folio.evaluation.tasks.task import Task, find_task, shipped_tasks

__all__ = ["Convention", "Item", "Question", "Task", "TaskData", "find_task", "shipped_tasks"]
