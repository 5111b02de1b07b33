"""batch/scheduler.py: who gets which unit, with a simulated clock."""

import heapq

import pytest
from detailers.batch.ledger import Unit
from detailers.batch.scheduler import AGAIN, ASIDE, Scheduler
from detailers.batch.settings import Limits


class Source:
    """Units that wait, in memory."""

    def __init__(self, count, key=lambda number: number):
        self.units = [
            Unit(number, key(number).to_bytes(4, "big"), f"{number}.png", b"")
            for number in range(count)
        ]

    def more(self, count):
        given, self.units = self.units[:count], self.units[count:]
        return given


def scheduler(count, *workers, **changes):
    source = Source(count, **changes)
    made = Scheduler(source.more, lambda: len(source.units), Limits())
    for name in workers:
        made.join(name, 2)
    return made


def test_a_worker_has_two_units_while_there_is_plenty():
    own = scheduler(9, "a", "b")
    assert [own.take("a").id, own.take("a").id, own.take("a")] == [0, 1, None]
    assert own.take("b").id == 2


def test_at_the_end_nobody_sits_on_a_second_unit():
    own = scheduler(3, "a", "b")
    assert own.take("a").id == 0
    assert own.take("a") is None
    assert own.take("b").id == 1
    assert own.take("c") is None


def test_twins_are_not_in_work_at_the_same_time():
    own = scheduler(4, "a", "b", key=lambda number: number // 2)
    first = own.take("a")
    assert own.take("b").id == 2
    own.done("a", first)
    assert own.take("a").id == 1


def test_a_unit_that_fails_three_times_is_set_aside():
    own = scheduler(1, "a", "b")
    verdicts = []
    for name in ("a", "b", "a"):
        verdict, unit = own.unit_failed(name, own.take(name), f"bad on {name}")
        verdicts.append(verdict)
    assert verdicts == [AGAIN, AGAIN, ASIDE]
    assert (unit.tries, unit.fault) == (3, "bad on a")
    assert own.take("a") is None


def test_a_unit_goes_to_another_worker_first():
    own = scheduler(3, "a", "b")
    own.unit_failed("a", own.take("a"), "bad")
    assert own.take("a").id == 1
    assert own.take("b").id == 0


def test_where_there_is_only_one_worker_it_gets_its_unit_again():
    own = scheduler(1, "a")
    own.unit_failed("a", own.take("a"), "bad")
    assert own.take("a").id == 0


def test_a_server_that_dies_costs_the_unit_that_it_ran_and_not_the_one_behind():
    own = scheduler(9, "a")
    run, behind = own.take("a"), own.take("a")
    assert own.server_failed("a", run, "died", True)[1].deaths == 1
    assert own.server_failed("a", behind, "died", False)[1].deaths == 0


def test_a_unit_that_brings_down_many_servers_is_set_aside():
    own = scheduler(1, "a")
    verdicts = [own.server_failed("a", own.take("a"), "died", True)[0] for _ in range(5)]
    assert verdicts == [AGAIN] * 4 + [ASIDE]


def test_what_a_worker_had_goes_back_when_it_leaves_and_its_late_answer_counts_no_more():
    own = scheduler(1, "a", "b")
    unit = own.take("a")
    own.leave("a")
    assert not own.has("a", unit)
    own.done("a", unit)
    assert own.take("b").id == 0


def simulate(own, speeds, seconds=1.0):
    """Run all units on workers of these speeds; the time on a simulated clock."""
    now, busy = 0.0, []
    waiting = {name: [] for name in speeds}

    def give(name):
        while (unit := own.take(name)) is not None:
            waiting[name].append(unit)
        if waiting[name] and not any(entry[1] == name for entry in busy):
            heapq.heappush(busy, (now + seconds / speeds[name], name, waiting[name].pop(0)))

    for name in speeds:
        own.join(name, 2)
    for name in speeds:
        give(name)
    while busy:
        now, name, unit = heapq.heappop(busy)
        own.done(name, unit, seconds)
        for other in speeds:
            give(other)
    return now


@pytest.mark.parametrize("units", [80, 400])
def test_workers_of_unlike_speed_are_kept_busy(units):
    speeds = {"a": 1, "b": 1, "c": 2, "d": 4}
    own = scheduler(units)
    taken = simulate(own, speeds)
    ideal = units / sum(speeds.values())
    assert ideal / taken >= 0.9
    done = {name: worker.done for name, worker in own.workers.items()}
    assert sum(done.values()) == units
    assert done["d"] > 3 * done["a"]
