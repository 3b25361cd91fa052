"""The progress bar: silent for short work, and on standard error for long work."""

import io
import re

import rich.console

from jaxscale import _progress


def work(monkeypatch, patience, done=0):
    """What the bar prints while three pieces of work are done, behind those done before."""
    written = io.StringIO()
    console = rich.console.Console(file=written, force_terminal=True, width=100)
    monkeypatch.setattr(rich.console, "Console", lambda **_: console)
    monkeypatch.setattr(_progress, "_PATIENCE", patience)
    with _progress.progress("fitting", 3 + done, show=True, done=done) as tick:
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


def test_work_done_before_does_not_count_for_the_rate(monkeypatch):
    shown = work(monkeypatch, patience=0.0, done=10**12)
    assert "1000000000003/1000000000003" in shown
    rates = [float(rate.replace(",", "")) for rate in re.findall(r"([\d,]+)/s", shown)]
    assert 0 < rates[-1] < 1e9


def test_it_stays_silent_where_nobody_looks(capsys):
    with _progress.progress("fitting", 3) as tick:
        tick(3)
    assert capsys.readouterr().err == ""
