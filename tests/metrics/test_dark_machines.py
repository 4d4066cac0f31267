"""Score tables of the Dark Machines challenge."""

import pytest

from jetsweep.errors import DataError
from jetsweep.metrics import DarkMachinesScore, read_dark_machines


def test_tables_with_and_without_a_kind_of_score(tmp_path):
    file = tmp_path / "scores.csv"
    file.write_text("glgl1400,VAE_dim10,kl, chan1,0.91,0.5,0.2,0.1\n\nstlp,Flow,chan2a,0.7,1e-1,3e-2,0\n")
    assert read_dark_machines(file) == [
        DarkMachinesScore("glgl1400", "VAE_dim10", "kl", "chan1", 0.91, (0.5, 0.2, 0.1)),
        DarkMachinesScore("stlp", "Flow", "", "chan2a", 0.7, (0.1, 0.03, 0.0)),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c,0.9,0.1,0.2\n", "csv:1: expected 7 or 8 columns .* found 6"),
        ("a,b,c,0.9,0.3,0.2,0.1\na,b,c,0.9,x,0.2,0.1\n", "csv:2: expected four numbers at the end, found 0.9, x"),
        ("a,b,c,0.9,0.1,0.2,0.3\n", "which fall, found 0.1, 0.2, 0.3"),
        ("a,b,c,nan,0.3,0.2,0.1\n", r"in \[0, 1\], found nan"),
        ("a,b,c,0.9,3,2,1\n", r"in \[0, 1\], found 0.9, 3, 2, 1"),
        ("", "found an empty file"),
    ],
)
def test_damaged_tables_are_named_by_line(tmp_path, text, message):
    file = tmp_path / "scores.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        read_dark_machines(file)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot be read as a table of scores: No such file"):
        read_dark_machines(tmp_path / "none.csv")
