"""What is learned: one file per task."""

from jetsweep.tasks._base import TASKS, Evaluator, Phase, Stream, Task, TaskConfig, TaskEntry, build_task

__all__ = ["TASKS", "Evaluator", "Phase", "Stream", "Task", "TaskConfig", "TaskEntry", "build_task"]
