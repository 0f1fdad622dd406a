import numpy as np

from dqm.events import EventBatch
from dqm_collectors.pace import Pacer, at_speed


def test_waits_only_for_what_is_left(fake_time) -> None:
    pacer = Pacer(fake_time.clock, fake_time.sleep)
    pacer.wait(2.0)
    assert fake_time.now == 102
    fake_time.now = 110.0
    pacer.wait(5.0)
    assert fake_time.now == 110


def test_batches_come_when_their_stretch_is_over(fake_time) -> None:
    x = np.empty((0, 1))
    batches = [EventBatch("0", ("t",), x, np.empty(0), 50.0 + k, 51.0 + k) for k in range(3)]
    seen = [fake_time.now for _ in at_speed(batches, 2.0, fake_time.clock, fake_time.sleep)]
    assert seen == [100.5, 101.0, 101.5]
    fake_time.now = 100.0
    assert len(list(at_speed(batches, None, fake_time.clock, fake_time.sleep))) == 3
    assert fake_time.now == 100
