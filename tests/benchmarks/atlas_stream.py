"""Does memory grow with ATLAS's open data? Convert N/10 and N jets of its layout in fresh processes.

Run ``python tests/benchmarks/atlas_stream.py [jets]``; the default of 10,000,000 needs about 9 GB below ``TMPDIR``. The
jets are those of a file of 50,000 synthetic ones, linked under as many names as it takes: every name is opened, read
and decompressed as a file of its own. Prints a markdown table; memory as in ``million_jets.py``.
"""

import os
import sys
import tempfile
from pathlib import Path

from million_jets import measured

from jetsweep.testing.atlas import write_atlas_files

FILE_JETS = 50_000


def main(jets: int) -> None:
    """Measure both sizes and print."""
    print("| jets | files | converted, jets/s | peak, MiB (after the imports) |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (first,) = write_atlas_files(folder, jets=FILE_JETS, sets=("train_nominal",))
        for count in (jets // 10 // FILE_JETS, jets // FILE_JETS):
            files = folder / str(count)
            files.mkdir()
            for i in range(count):
                os.link(first, files / first.name.replace("000", f"{i:03d}"))
            out = folder / f"{count}-shards"
            run = measured("convert-atlas", files, out)
            assert run["jets"] == count * FILE_JETS, "no jet may be lost"
            print(
                f"| {run['jets']:,} | {count} | {run['rate']:,.0f} | {run['peak']:.0f} ({run['before']:.0f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000)
