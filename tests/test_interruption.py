"""A training that is stopped by a signal keeps what it did, in the middle of an epoch too, and goes on bit by bit."""

from __future__ import annotations

import logging
import signal
import threading

import pytest

from crdkit._core.interruption import noted_signals
from crdkit.runs.fit import fit
from crdkit.training import loop

SAME = ("detector/model.safetensors", "scores.csv")


class Ended(SystemExit):
    """What a handler of SIGTERM may raise."""


@pytest.fixture
def sigterm_ends():
    def end(_number, _frame):
        raise Ended

    before = signal.signal(signal.SIGTERM, end)
    yield
    signal.signal(signal.SIGTERM, before)


def signal_after(monkeypatch, steps, number):
    """Send this process a signal in the middle of the given step, counted over all epochs."""
    train_step, done = loop.train_step, []

    def step(*arguments, **options):
        done.append(1)
        if len(done) == steps:
            signal.raise_signal(number)
        return train_step(*arguments, **options)

    monkeypatch.setattr(loop, "train_step", step)
    return done


@pytest.mark.usefixtures("without_reports", "sigterm_ends")
@pytest.mark.parametrize("dropout", [0, 0.3])
def test_signals_at_any_step_cost_nothing(tiny, tmp_path, monkeypatch, caplog, dropout):
    """Three epochs of steps with 4 and 2 samples, stopped five times; the bytes are those of an undisturbed run."""
    config = tiny.with_overrides("training.epochs=3", f"training.modality_dropout={dropout}")
    fit(config, tmp_path / "undisturbed")
    out, steps = tmp_path / "stopped", 0
    caplog.set_level(logging.INFO, logger="crdkit")
    for number, raised in [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Ended)] * 2:
        with monkeypatch.context() as patch:
            done = signal_after(patch, 1, number)
            with pytest.raises(raised):
                fit(config, out, resume=True)
        assert len(done) == 1  # the step during which the signal came was finished, and no other begun
        steps += len(done)
        (file,) = (out / "checkpoints").iterdir()
        assert file.name == f"epoch-{steps // 2 - (steps % 2 == 0):06d}.safetensors"
    with monkeypatch.context() as patch:
        done = signal_after(patch, 99, signal.SIGINT)
        fit(config, out, resume=True)
    assert steps + len(done) == 6
    assert "resuming after epoch 0 and 1 steps" in caplog.text
    for name in SAME:
        assert (out / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    ours, theirs = ((folder / "log.jsonl").read_text() for folder in (out, tmp_path / "undisturbed"))
    assert [line.partition(', "seconds"')[0] for line in ours.splitlines()] == [
        line.partition(', "seconds"')[0] for line in theirs.splitlines()
    ]


@pytest.mark.usefixtures("without_reports")
def test_without_a_folder_nothing_is_delayed(tiny, monkeypatch):
    done = signal_after(monkeypatch, 1, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny)
    assert len(done) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def interrupt_in_a_block(times, reached):
    with noted_signals(True):
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        reached.append(times)


def test_a_signal_waits_until_it_is_delivered_and_a_second_one_does_not():
    with noted_signals(True) as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.pending
        with pytest.raises(KeyboardInterrupt):
            interruption.deliver()
        assert not interruption.pending
    reached = []
    for times in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            interrupt_in_a_block(times, reached)
    assert reached == [1]
    with pytest.raises(KeyboardInterrupt), noted_signals(False):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_that_returns_lets_the_training_go_on():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        with noted_signals(True) as interruption:
            for _ in range(2):
                signal.raise_signal(signal.SIGTERM)
                interruption.deliver()
        assert seen == [1, 1]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_is_ignored_stays_ignored_and_other_threads_leave_signals_alone():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with noted_signals(True) as interruption:
            signal.raise_signal(signal.SIGINT)
            assert not interruption.pending
    finally:
        signal.signal(signal.SIGINT, before)
    handlers = []

    def elsewhere():
        with noted_signals(True):
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]
