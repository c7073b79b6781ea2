"""The table at the end of `make chaos`."""

from tests.chaos.report import ROWS, show


def pytest_terminal_summary() -> None:
    if ROWS:
        show(ROWS)
