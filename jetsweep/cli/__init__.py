"""The command `jetsweep`."""


def main() -> None:
    """Run the command line."""
    from jetsweep.cli.main import main as run

    run()
