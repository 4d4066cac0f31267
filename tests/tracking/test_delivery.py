"""The delivering thread: what is due is done, whatever fails in between, and asking for it never waits."""

import threading

import pytest

from jetsweep.tracking import delivery as delivery_module
from jetsweep.tracking.delivery import MAX_TRIES, Delivery


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(delivery_module, "ASK_AGAIN_S", 0.01)


class Store:
    """Takes items while it is there; counts how often it was asked and how often something was brought."""

    def __init__(self):
        self.is_up, self.taken, self.tried, self.asked = True, [], 0, 0
        self.away, self.gave_up = threading.Event(), threading.Event()
        self.refused = {}

    def deliver(self, item):
        self.tried += 1
        if not self.is_up:
            raise ConnectionError("refused")
        if self.refused.get(item, 0):
            self.refused[item] -= 1
            if not self.refused[item]:
                self.gave_up.set()
            raise ValueError(f"{item} is not liked")
        self.taken.append(item)

    def is_there(self):
        self.asked += 1
        if self.asked > 5:
            self.away.set()
        return self.is_up


def test_items_are_delivered_in_order_and_jobs_before_them():
    gate, seen = threading.Event(), []

    def deliver(item):
        assert gate.wait(60)
        seen.append(item)

    delivery = Delivery(deliver, lambda: True)
    delivery.mark("first")
    for item in ("second", "third", "second"):
        delivery.mark(item)
    delivery.do(lambda: seen.append("job"))
    assert not delivery.is_done
    gate.set()
    delivery.close(60)
    assert sorted(seen) == ["first", "job", "second", "third"]
    assert seen.index("second") < seen.index("third")
    assert seen.index("job") < seen.index("second")
    assert delivery.is_done


def test_an_item_marked_while_it_is_delivered_is_delivered_again():
    begun, gate, seen = threading.Event(), threading.Event(), []

    def deliver(item):
        begun.set()
        assert gate.wait(60)
        seen.append(item)

    delivery = Delivery(deliver, lambda: True)
    delivery.mark(0)
    assert begun.wait(60)
    delivery.mark(0)
    gate.set()
    assert delivery.wait(60)
    assert seen == [0, 0]
    delivery.close(60)


def test_while_the_store_is_away_items_collect_and_one_question_at_a_time_is_asked():
    store = Store()
    store.is_up = False
    delivery = Delivery(store.deliver, store.is_there)
    for number in [0, 1, 2] * 1000:
        delivery.mark(number)
    assert store.away.wait(60)
    assert store.tried == 1  # then only `is_there` is asked
    assert len(delivery._due) + 1 >= 3
    assert len(delivery._due) <= 3
    store.is_up = True
    delivery.close(60)
    assert sorted(store.taken) == [0, 1, 2]
    assert delivery.is_done
    assert isinstance(delivery.error, ConnectionError)


def test_the_end_does_not_wait_for_ever():
    store = Store()
    store.is_up = False
    delivery = Delivery(store.deliver, store.is_there)
    delivery.mark(0)
    delivery.close(0.05)
    assert not delivery.is_done
    delivery.close(0.05)  # twice


def test_what_waits_is_delivered_even_after_the_time_to_wait():
    store, gate = Store(), threading.Event()

    def slow(item):
        assert gate.wait(60)
        store.deliver(item)

    delivery = Delivery(slow, store.is_there)
    for number in range(5):
        delivery.mark(number)
    opener = threading.Timer(0.05, gate.set)
    opener.start()
    delivery.close(0.0)
    opener.join()
    assert store.taken == [0, 1, 2, 3, 4]


def test_an_item_that_fails_for_its_own_reason_does_not_hold_up_others_and_is_given_up():
    store = Store()
    store.refused = {"bad": 100, "late": MAX_TRIES - 1}
    delivery = Delivery(store.deliver, store.is_there)
    for item in ("bad", "late", "good"):
        delivery.mark(item)
    delivery.close(60)
    assert store.taken == ["good", "late"]
    assert not delivery.is_done
    assert str(delivery.error) == "bad is not liked"
    assert 100 - store.refused["bad"] == MAX_TRIES


def test_an_item_given_up_is_tried_again_at_the_end():
    store = Store()
    store.refused = {"bad": MAX_TRIES}
    delivery = Delivery(store.deliver, store.is_there)
    delivery.mark("bad")
    assert store.gave_up.wait(60)
    assert not delivery.wait(0.0)
    delivery.close(60)
    assert store.taken == ["bad"]
    assert delivery.is_done


def test_a_job_that_fails_is_remembered_and_stops_nothing():
    store = Store()
    delivery = Delivery(store.deliver, store.is_there)
    delivery.do(lambda: 1 / 0)
    delivery.mark(0)
    delivery.close(60)
    assert store.taken == [0]
    assert isinstance(delivery.job_error, ZeroDivisionError)
    assert delivery.error is None


def test_abandoned_it_leaves_the_rest():
    begun, gate, seen = threading.Event(), threading.Event(), []

    def deliver(item):
        begun.set()
        assert gate.wait(60)
        seen.append(item)

    delivery = Delivery(deliver, lambda: True)
    delivery.mark(0)
    assert begun.wait(60)
    delivery.mark(1)
    delivery.abandon()
    gate.set()
    delivery.close(60)
    assert seen == [0]
    assert not delivery.is_done
