"""The command line: verbs are imported when they are called, so that `--help` is quick."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from jetsweep.errors import JetsweepError

VERBS = {
    "run": "Run a sweep from an experiment file.",
    "plan": "Check an experiment file, step every branch once, and cost it before spending anything.",
    "schema": "Write the JSON schema of experiment files, for editors.",
    "data": "List, make, convert, inspect and verify datasets.",
    "resume": "Go on with a sweep that was stopped or died, or with more trials.",
    "stop": "Let a running sweep save its trials and end.",
    "status": "Say where sweeps stand.",
    "compare": "Print and write the comparison table of sweeps or runs.",
    "report": "Write one HTML page about a sweep, with its figures and tables.",
    "sync": "Deliver sweeps to an MLflow store that was away or out of reach.",
    "evaluate": "Metrics and plots of a trained model on a dataset.",
    "predict": "Write the scores of a trained model beside the rows of a dataset.",
    "export": "Write a trained model as ONNX with its preprocessing, checked and timed, and its card.",
    "ui": "Look at sweeps in the browser (MLflow, Optuna's dashboard).",
}
"""Each verb is `app` in the module of its name."""


def available_verbs() -> list[str]:
    """Verbs whose module is there, without importing any."""
    return [verb for verb in VERBS if find_spec(f"jetsweep.cli.{verb}") is not None]


class LazyGroup(TyperGroup):
    """Loads a verb's module when the verb is used; the list of verbs needs none of them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return available_verbs()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in available_verbs():
            return None
        if ctx.resilient_parsing or ctx.meta.get("jetsweep.listing"):
            return TyperCommand(cmd_name, help=VERBS[cmd_name])
        app: typer.Typer = import_module(f"jetsweep.cli.{cmd_name}").app
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        ctx.meta["jetsweep.listing"] = True
        super().format_help(ctx, formatter)


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _print_version(value: bool) -> None:
    if value:
        from jetsweep import __version__

        print(f"jetsweep {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Sweeps for jet-physics machine learning: one YAML file in, tracked runs and a comparison table out."""


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    try:
        app(standalone_mode=True)
    except JetsweepError as error:
        print(f"jetsweep: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("jetsweep: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
