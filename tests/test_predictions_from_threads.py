"""One detector, many threads: every prediction is what it is alone, whatever the others do."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from crdkit._core.shared_lock import SharedLock
from crdkit.detector import Detector
from crdkit.detector._engine import Engine
from crdkit.scoring.scorer import Maps

THREADS = 6


class StaticOutputs:
    """A capture as a CUDA graph does it: a replay reads the buffers as they are then, and overwrites its outputs."""

    def warm_up(self, run, /, *, last):
        return run()

    def __call__(self, run, /):
        result = run()

        def replay():
            time.sleep(0.002)  # time enough for another thread's copy
            with torch.inference_mode():
                fresh = run()
                result.anomaly_map.copy_(fresh.anomaly_map)
                result.pred_score.copy_(fresh.pred_score)
                for name, values in result.branches.items():
                    values.copy_(fresh.branches[name])
            return result

        return replay


@pytest.fixture(autouse=True)
def one_thread_each():
    """What a branch computes depends on its number of threads, which a new Python thread inherits at any moment."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def own(detector):
    """A detector of its own for each test, of the same parts."""
    return Detector(config=detector.config, model=detector.model, scorer=detector.scorer)


def at_once(detector, samples, *, rounds):
    """Return the predictions of ``rounds`` times all samples, from threads that begin together."""
    start = threading.Barrier(THREADS, timeout=60)

    def work(thread):
        start.wait()
        return [(place, detector.predict(samples[place])) for place in (thread % len(samples),) * rounds]

    with ThreadPoolExecutor(THREADS) as pool:
        return [found for part in pool.map(work, range(THREADS)) for found in part]


def require_equal(found, expected):
    wrong = [place for place, one in found if one.score != expected[place].score]
    assert not wrong, f"{len(wrong)} of {len(found)} scores are those of another sample"
    for place, one in found:
        np.testing.assert_array_equal(one.anomaly_map, expected[place].anomaly_map)
        for name, values in one.maps.items():
            np.testing.assert_array_equal(values, expected[place].maps[name])


def test_captured_predictions_of_threads_are_those_of_one(own, samples):
    own._predictor.engine = Engine(own.model, own.scorer, fold=True, capture=StaticOutputs())
    expected = [own.predict(sample) for sample in samples]  # captured by the third
    assert len({one.score for one in expected}) == len(samples)
    require_equal(at_once(own, samples, rounds=6), expected)


def test_predictions_of_threads_build_one_engine(own, samples, monkeypatch):
    expected = [own.predict(sample) for sample in samples]
    own.to("cpu")  # so that the next one builds it again
    built = []

    def build(*arguments, **options):
        built.append(threading.get_ident())
        time.sleep(0.05)
        return Engine(*arguments, **options)

    monkeypatch.setattr("crdkit.detector._predictor.Engine", build)
    require_equal(at_once(own, samples, rounds=2), expected)
    assert len(built) == 1


@pytest.mark.parametrize("change", ["to", "compile"])
def test_a_detector_is_not_changed_under_a_prediction(own, samples, monkeypatch, change):
    expected = own.predict(samples[0])
    engine, inside, go_on, order = own._predictor.engine, threading.Event(), threading.Event(), []
    score = engine.scorer.forward

    def slowly(*arguments, **options):
        inside.set()
        go_on.wait(60)
        maps: Maps = score(*arguments, **options)
        order.append("predicted")
        return maps

    monkeypatch.setattr(engine.scorer, "forward", slowly)
    monkeypatch.setattr(Engine, "compile", lambda self, *_kept: order.append("changed"))
    moved = own.model.to
    monkeypatch.setattr(own.model, "to", lambda device: (order.append("changed"), moved(device)))
    with ThreadPoolExecutor(2) as pool:
        prediction = pool.submit(own.predict, samples[0])
        assert inside.wait(60)
        changed = pool.submit(own.to, "cpu") if change == "to" else pool.submit(own.compile)
        time.sleep(0.05)  # what does not wait has changed it by now
        go_on.set()
        assert prediction.result(60).score == expected.score
        changed.result(60)
    assert order == ["predicted", "changed"]
    assert own.predict(samples[0]).score == expected.score


def test_a_lock_is_shared_or_held_alone():
    lock, held, together = SharedLock(), [], threading.Barrier(2, timeout=60)

    def share():
        with lock.shared():
            together.wait()  # breaks unless both are inside
            held.append("shared")

    def hold(number):
        with lock.alone():
            held.append(number)
            time.sleep(0.01)
            assert held[-1] == number

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(share), pool.submit(share), *(pool.submit(hold, number) for number in range(6))]
        for future in done:
            future.result(60)
    assert sorted(map(str, held)) == sorted([*map(str, range(6)), "shared", "shared"])


def test_a_copied_lock_is_free():
    lock = SharedLock()
    with lock.alone():
        for other in (copy.deepcopy(lock), pickle.loads(pickle.dumps(lock))):
            with other.alone():
                pass


def test_those_who_share_come_after_one_who_waits_to_be_alone():
    lock, order = SharedLock(), []
    with ThreadPoolExecutor(2) as pool:
        with lock.shared():
            alone = pool.submit(lambda: held(lock.alone(), order, "alone"))
            while not lock._waiting:
                time.sleep(0.001)
            late = pool.submit(lambda: held(lock.shared(), order, "shared"))
            time.sleep(0.02)
            assert order == []
        alone.result(60)
        late.result(60)
    assert order == ["alone", "shared"]


def held(context, order, name):
    with context:
        order.append(name)
