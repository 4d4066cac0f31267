"""`jetsweep schema`: the JSON schema of experiment files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option(help="File to write; the terminal if not given.")] = None,
) -> None:
    """Write the JSON schema that lets an editor complete and check experiment files."""
    import json

    from jetsweep.experiment.json_schema import experiment_schema

    text = json.dumps(experiment_schema(), indent=1)
    if out is None:
        print(text)
    else:
        out.write_text(text + "\n", encoding="utf-8")
        print(f"wrote {out}; point your editor at it: # yaml-language-server: $schema={out}")
