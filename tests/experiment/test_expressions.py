"""The language of `search.require`: it agrees with Python where it has a meaning, and reaches nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetsweep.experiment.expressions import MAX_LENGTH, parse_expression

VALUES = {
    ("a",): 6,
    ("b",): 4,
    ("c", "x"): 0.5,
    ("word",): "part",
    ("flag",): True,
    ("sizes", -1): 64,
    ("sizes", 0): 32,
}
NAMES = {"a": 6, "b": 4, "c.x": 0.5, "sizes[-1]": 64, "sizes[0]": 32}


def holds(text):
    return parse_expression(text).holds(VALUES.__getitem__)


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("sizes[-1] % b == 0", True),
        ("sizes[0] / b == 7", False),
        ("a >= 2 * b", False),
        ("1 < b < a < 7", True),
        ("1 < b < a < 6", False),
        ("word == 'part' and not a == 5", True),
        ("word != 'part' or c.x < 1", True),
        ("flag", True),
        ("not flag", False),
        ("flag == true", True),
        ("flag == false or -a + +b == -2", True),
        ("(a + b) // 3 == 3", True),
        ("word < 'pfn'", True),
        ("word == 3", False),
    ],
)
def test_truth(text, truth):
    assert holds(text) is truth


def test_names_are_collected_once():
    assert set(parse_expression("a.b[0] == a.b[0] + c and d.e != 'a.x'").names) == {("a", "b", 0), ("c",), ("d", "e")}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "expected a statement such as .*, found ''"),
        ("a ==", "expected a statement such as .*, found 'a =='"),
        ("a = 1", "expected a statement such as .*, found 'a = 1'"),
        ("a == 1; b", "expected a statement such as .*"),
        ("a + b", r"expected a statement that is true or false, found 'a \+ b'"),
        ("3", "expected a statement that is true or false, found '3'"),
        ("max(a, b) > 3", r"expected keys, numbers, .*, found 'max\(a, b\)'"),
        ("a.real() > 3", r".*found 'a\.real\(\)'"),
        ("__import__('os') == 1", r".*found .__import__\('os'\)."),
        ("a ** 9 > 1", r".*found 'a \*\* 9'"),
        ("a << 3 > 1", ".*found 'a << 3'"),
        ("a in b", ".*found 'a in b'"),
        ("a is b", ".*found 'a is b'"),
        ("[1, 2] == a", r".*found '\[1, 2\]'"),
        ("(1).real == a", r".*found '1'"),
        ("'x'.upper == a", ".*found \"'x'\""),
        ("a[b] == 1", r".*found 'a\[b\]'"),
        ("a[1:2] == 1", r".*found 'a\[1:2\]'"),
        ("f'{a}' == 'x'", ".*found .*"),
        ("(a := 1) == 1", r".*found '\(a := 1\)'"),
        ("1j == a", ".*found '1j'"),
        ("None == a", ".*found 'None'"),
        ("a == " + "-" * 60 + "1", "expected a statement at most 40 levels deep"),
        ("a" + ".a" * 60 + " == 1", "expected a key at most 40 levels deep"),
        ("a == " + "1" * MAX_LENGTH, f"expected at most {MAX_LENGTH} characters, found 505"),
    ],
)
def test_what_is_no_statement(text, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        parse_expression(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a / (b - 4) > 1", "expected a statement that is true or false, found a division by zero"),
        ("a // 0 > 1 or flag", ".*division by zero"),
        ("1e300 * 1e300 / 1 + " + "9" * 400 + " / 1.5 > a", ".*a number that is too large"),
        ("word + 1 > 2", "expected word to be a number, found 'part'"),
        ("word * 1000 == word", "expected word to be a number, found 'part'"),
        ("flag + 1 > 2", "expected flag to be a number, found True"),
        ("word > 2", "expected word and 2 to be two numbers, found 'part' and 2"),
        ("a and flag", "expected a to be true or false, found 6"),
        ("not a", "expected a to be true or false, found 6"),
    ],
)
def test_what_has_no_truth(text, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        holds(text)


def test_a_whole_section_is_no_value():
    with pytest.raises(ValueError, match=r"^expected m to be a number, a word or true or false, found {'x': 1}$"):
        parse_expression("m == 1").holds({("m",): {"x": 1}}.__getitem__)


numbers = st.one_of(st.sampled_from(sorted(NAMES)), st.integers(0, 99).map(str), st.floats(0.01, 99).map(str))
sums = st.recursive(
    numbers,
    lambda part: (
        st.builds("({} {} {})".format, part, st.sampled_from(["+", "-", "*", "/", "//", "%"]), part)
        | part.map("-{}".format)
    ),
    max_leaves=6,
)
comparisons = st.builds("{} {} {}".format, sums, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), sums)
statements = st.recursive(
    comparisons,
    lambda part: (
        st.builds("({} {} {})".format, part, st.sampled_from(["and", "or"]), part) | part.map("(not {})".format)
    ),
    max_leaves=4,
)


@given(statements)
def test_agrees_with_python(text):
    if len(text) > MAX_LENGTH:
        return
    scope = {"a": 6, "b": 4, "c": type("C", (), {"x": 0.5}), "sizes": [32, 64]}
    try:
        wanted = eval(text, {"__builtins__": {}}, scope)  # generated from the grammar above
    except ZeroDivisionError:
        with pytest.raises(ValueError, match="division by zero"):
            holds(text)
    else:
        assert holds(text) is wanted


@given(st.text(max_size=60) | st.text(alphabet="ab.[]()'\"<>=!+-*/%0123456789 \n\\{}:,@~^&|", max_size=60))
def test_any_text_is_a_statement_or_one_sentence(text):
    try:
        expression = parse_expression(text)
    except ValueError as error:
        found = str(error)
    else:  # whatever it is, it is true, false, or one sentence
        try:
            found = f"expected {expression.holds(lambda path: 1)}"
        except ValueError as error:
            found = str(error)
    assert found.startswith("expected")
