from tests.sandbox.guarantees import PAGE, between, rows, told


def test_the_manual_has_a_row_for_each_attack_and_none_else() -> None:
    assert told() == rows(), "write them with python -m tests.sandbox.guarantees"


def test_the_manual_hides_nothing_that_is_open() -> None:
    assert "**open**" not in between(PAGE.read_text())
    assert between(PAGE.read_text()).count("held") > 2 * len(rows())
