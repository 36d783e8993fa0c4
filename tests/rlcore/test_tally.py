from __future__ import annotations

from rlcore.tally import Tally
from rlcore.types import EpisodeEnd


def test_the_window_is_the_last_hundred_episodes():
    tally = Tally()
    assert tally.mean_return is None
    tally.add_episodes(EpisodeEnd(0, float(i), 1) for i in range(150))
    assert tally.episodes == 150
    assert tally.mean_return == sum(range(50, 150)) / 100


def test_a_restored_tally_gives_the_same_record():
    one, two = Tally(), Tally()
    one.steps = 5
    one.add_episodes([EpisodeEnd(1, 3.0, 4)])
    one.add_metrics({"loss": 2.0})
    two.load_state_dict(one.state_dict())
    for tally in (one, two):
        tally.add_metrics({"loss": 4.0, "entropy": 1.0})
    record = one.take_record(1.0)
    assert record == two.take_record(1.0)
    assert record.metrics == {"loss": 3.0, "entropy": 1.0}
    assert one.recorded == 5
    assert not one.take_record(2.0).returns, "what was recorded is forgotten"
