"""The progress bar: silent for short work, and on standard error for long work."""

import io

import rich.console

from jaxscale import _progress


def work(monkeypatch, patience):
    """What the bar prints while three of three pieces of work are done."""
    written = io.StringIO()
    console = rich.console.Console(file=written, force_terminal=True, width=100)
    monkeypatch.setattr(rich.console, "Console", lambda **_: console)
    monkeypatch.setattr(_progress, "_PATIENCE", patience)
    with _progress.progress("fitting", 3, show=True) as tick:
        tick(1)
        tick(2)
    return written.getvalue()


def test_work_within_two_seconds_prints_nothing(monkeypatch):
    assert _progress._PATIENCE == 2.0
    assert work(monkeypatch, patience=60.0) == ""


def test_longer_work_shows_count_and_rate(monkeypatch):
    shown = work(monkeypatch, patience=0.0)
    assert "fitting" in shown
    assert "3/3" in shown
    assert "/s" in shown


def test_it_stays_silent_where_nobody_looks(capsys):
    with _progress.progress("fitting", 3) as tick:
        tick(3)
    assert capsys.readouterr().err == ""
