"""Foreign exceptions at an edge: each becomes the first of ours that fits; what is not listed is a bug to be seen."""

import pickle

import pytest

from agentless_mini.errors import (
    AminiError,
    BuildFailed,
    EnvironmentFailed,
    StoreError,
    Translation,
    UsageError,
    boundary,
    counted,
    few,
    printable,
    reason,
)

TABLE: Translation = {
    FileNotFoundError: lambda error: UsageError(f"no file: {error}"),
    OSError: lambda error: EnvironmentFailed(f"disk: {error}"),
}


@pytest.mark.parametrize(
    ("foreign", "ours"), [(FileNotFoundError("x"), UsageError), (PermissionError("x"), EnvironmentFailed)]
)
def test_the_first_type_that_fits_is_raised_from_the_foreign_one(foreign: OSError, ours: type[AminiError]) -> None:
    with pytest.raises(ours) as raised, boundary(TABLE):
        raise foreign
    assert raised.value.__cause__ is foreign


def test_ours_passes_unchanged_even_where_the_table_lists_everything() -> None:
    error = StoreError("full")
    with pytest.raises(StoreError) as raised, boundary({Exception: lambda _: UsageError("wrong")}):
        raise error
    assert raised.value is error


def test_what_is_not_listed_passes() -> None:
    with pytest.raises(ZeroDivisionError), boundary(TABLE):
        raise ZeroDivisionError


def test_without_a_failure_nothing_happens() -> None:
    done = []
    with boundary(TABLE):
        done.append(1)
    assert done == [1]


def test_foreign_text_is_made_printable() -> None:
    assert printable("a\x1b[31m\nb\udcff\u00e9") == "a?[31m?b?\u00e9"


def test_a_number_has_its_noun_in_the_right_form() -> None:
    said = [counted(number, noun) for noun in ("test", "box", "valid patch") for number in (0, 1, 2)]
    assert said == [
        *("0 tests", "1 test", "2 tests"),
        *("0 boxes", "1 box", "2 boxes"),
        *("0 valid patches", "1 valid patch", "2 valid patches"),
    ]


def test_of_many_foreign_names_few_are_told() -> None:
    assert few(["a", "b\n"]) == "a, b?"
    assert few(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_why_something_failed_is_told_without_numbers_and_paths() -> None:
    assert reason(OSError(2, "No such file", "/a/b")) == "No such file"
    assert reason(ValueError("no\nnumber")) == "no?number"
    assert reason(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_an_error_travels_to_another_process_whatever_it_is_made_of() -> None:
    sent = pickle.loads(pickle.dumps(BuildFailed("No build: look elsewhere.", "its log")))  # noqa: S301 - of our own
    assert (type(sent), str(sent), sent.log) == (BuildFailed, "No build: look elsewhere.", "its log")
