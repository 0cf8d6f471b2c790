"""Tells at the end of a run which predictions are better than expected.json says."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the improvements; with several processes, they arrive with the test reports."""
    better = [
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "golden"
    ]
    if better:
        terminalreporter.section("predictions better than expected.json")
        terminalreporter.line("run: PYTHONPATH=tests .venv/bin/python -m golden.update")
        for line in better:
            terminalreporter.line(f"  {line}")
