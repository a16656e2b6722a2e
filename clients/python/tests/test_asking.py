"""What is asked for, and how it is refused: the same for both faces."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Limit

import headgate_client
import headgate_client.asyncio as with_asyncio
import headgate_client.sync as with_sync
from headgate_client import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    HeadgateError,
    HeadgateUnreachableError,
)
from headgate_client._names import holder_of, slots_of

NewLimit = Callable[..., Limit]


def by_sync(names: Any, *args: Any, **options: Any) -> with_sync.Lease:
    """Enters a block and leaves it."""
    with with_sync.concurrency(names, *args, **options) as lease:
        return lease


def by_asyncio(names: Any, *args: Any, **options: Any) -> with_asyncio.Lease:
    async def main() -> with_asyncio.Lease:
        async with with_asyncio.concurrency(names, *args, **options) as lease:
            return lease

    return asyncio.run(main())


def rate_by_sync(names: Any, *args: Any, **options: Any) -> headgate_client.Receipt:
    return with_sync.rate_limit(names, *args, **options)


def rate_by_asyncio(names: Any, *args: Any, **options: Any) -> headgate_client.Receipt:
    return asyncio.run(with_asyncio.rate_limit(names, *args, **options))


def settle(taken: Any, actual: Any) -> Any:
    """What the answer of either face settles, which one of them has to await."""
    settling = taken.settle(actual)
    return settling if isinstance(settling, dict) else asyncio.run(settling)


holding = pytest.mark.parametrize("hold", [by_sync, by_asyncio])
rating = pytest.mark.parametrize("rate", [rate_by_sync, rate_by_asyncio])


@holding
def test_slots_are_held_while_the_block_runs_and_given_back_after(hold: Any, new_limit: NewLimit) -> None:
    limit = new_limit(limit=2)
    lease = hold(limit.name, holder="nightly")
    assert lease.names == {limit.name: 1}
    assert lease.enforced
    assert lease.expires_at is not None
    assert [(status["name"], status["activeSlots"]) for status in lease.limits] == [(limit.name, 1)]
    assert limit.active == 0


def test_who_holds_is_seen_by_the_operator(new_limit: NewLimit) -> None:
    limit = new_limit()
    for holder, seen in [("nightly", "nightly"), ({"type": "flow_run", "id": 7}, "flow_run:7"), (None, None)]:
        with with_sync.concurrency(limit.name, holder=holder) as lease:
            (shown,) = limit.leases
            assert (shown["id"], shown.get("holder")) == (lease.id, seen)


@holding
@pytest.mark.parametrize(
    ("names", "occupy", "taken"),
    [
        (["a", "b", "a"], 2, {"a": 2, "b": 2}),
        (("a", "b"), {"b": 3}, {"a": 1, "b": 3}),
        ({"a": 2, "b": 1}, 1, {"a": 2, "b": 1}),
        ({"a"}, 1, {"a": 1}),
    ],
)
def test_promise_2_several_names_are_taken_together(
    hold: Any, new_limit: NewLimit, names: Any, occupy: Any, taken: dict[str, int]
) -> None:
    made = {key: new_limit(limit=3) for key in taken}
    own = {key: limit.name for key, limit in made.items()}
    renamed = (
        {own[key]: slots for key, slots in names.items()}
        if isinstance(names, dict)
        else type(names)(own[key] for key in names)
    )
    each = {own[key]: slots for key, slots in occupy.items()} if isinstance(occupy, dict) else occupy
    assert hold(renamed, each).names == {own[key]: slots for key, slots in taken.items()}
    made["a"].take(3)
    with pytest.raises(ConcurrencySlotAcquisitionError):
        hold(renamed, each, max_retries=0)
    assert [limit.active for key, limit in made.items() if key != "a"] == [0] * (len(made) - 1)


@holding
def test_a_denial_without_retries_says_why_and_leaves_no_trace(hold: Any, new_limit: NewLimit) -> None:
    limit = new_limit()
    limit.take()
    with pytest.raises(ConcurrencySlotAcquisitionError, match="429 denied") as caught:
        hold(limit.name, max_retries=0)
    assert (caught.value.code, caught.value.status) == ("denied", 429)
    assert caught.value.names == {limit.name: 1}
    assert caught.value.problem is not None
    assert caught.value.problem.get("retryAfterSeconds", 0) > 0
    assert (limit.active, limit.waiting) == (1, 0)


@holding
def test_promise_10_a_wait_that_takes_too_long_leaves_the_line(hold: Any, new_limit: NewLimit) -> None:
    limit = new_limit()
    held = limit.take()
    with pytest.raises(
        AcquireConcurrencySlotTimeoutError, match=r"within 0.5 s; the last place in line was 1"
    ) as caught:
        hold(limit.name, timeout_seconds=0.5)
    assert isinstance(caught.value, TimeoutError)
    limit.wait_for(waiting=0)
    limit.give(held)
    assert limit.active == 0


@holding
def test_no_time_asks_once(hold: Any, new_limit: NewLimit) -> None:
    limit = new_limit()
    assert hold(limit.name, timeout_seconds=0).names == {limit.name: 1}
    limit.take()
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        hold(limit.name, timeout_seconds=0)


@holding
def test_more_slots_than_the_limit_has_are_refused_at_once(hold: Any, new_limit: NewLimit) -> None:
    with pytest.raises(ConcurrencySlotAcquisitionError, match="422 exceeds_limit"):
        hold(new_limit(limit=2).name, 3)


@holding
def test_a_name_that_nobody_configured(hold: Any, new_limit: NewLimit, caplog: pytest.LogCaptureFixture) -> None:
    name = f"missing-{new_limit().name}"
    with pytest.raises(ConcurrencySlotAcquisitionError, match="404 unknown_limit"):
        hold(name, strict=True)
    assert hold(name, create_if_missing=False).names == {}
    for _ in range(2):
        lease = hold(name)
        assert lease.names == {name: 1}
        assert not lease.enforced
    told = [record.getMessage() for record in caplog.records if record.name == "headgate_client"]
    assert told == [f'nobody configured "{name}", so it holds nobody back: give it a limit, or a policy']


@holding
def test_without_names_nothing_is_asked(hold: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_URL", "http://127.0.0.1:9")
    lease = hold([])
    assert (lease.names, lease.enforced, lease.expires_at) == ({}, False, None)


@holding
@pytest.mark.parametrize("form", ["ünïcödé ☃ {}", "日本{}", "{} ?#:.,~!'\"\\", "{} 𝒳"])
def test_names_are_any_text(hold: Any, new_limit: NewLimit, form: str) -> None:
    name = form.format(new_limit().name)
    limit = new_limit(name, limit=1)
    with with_sync.concurrency(limit.name):
        assert with_sync.Headgate().inspect(name)["activeSlots"] == 1
        with pytest.raises(ConcurrencySlotAcquisitionError):
            hold(name, max_retries=0)
    assert hold(name).names == {name: 1}


@rating
def test_promise_1_slots_by_rate_are_never_too_many(rate: Any, new_limit: NewLimit) -> None:
    limit = new_limit(limit=3, slotDecayPerSecond=10)
    began = time.monotonic()
    granted = sum(rate(limit.name, 2).names[limit.name] for _ in range(6))
    # The service granted all of them within this time or less.
    assert granted == 12 <= 3 + 10 * (time.monotonic() - began)


@rating
def test_promise_8_a_retry_at_the_announced_moment_is_granted(rate: Any, new_limit: NewLimit) -> None:
    limit = new_limit(limit=2, slotDecayPerSecond=4)
    rate(limit.name, 2)
    with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
        rate(limit.name, 2, max_retries=0)
    assert caught.value.code == "denied"
    assert rate(limit.name, 2, max_retries=1).names == {limit.name: 2}


@rating
def test_a_rate_limit_has_a_time_limit_and_needs_decay(rate: Any, new_limit: NewLimit) -> None:
    slow = new_limit(limit=1, slotDecayPerSecond=0.001)
    receipt = rate(slow.name, timeout_seconds=5)
    assert receipt.enforced
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        rate(slow.name, timeout_seconds=0.3)
    slow.wait_for(waiting=0)
    with pytest.raises(ConcurrencySlotAcquisitionError, match="422 no_decay"):
        rate(new_limit().name)
    with pytest.raises(ConcurrencySlotAcquisitionError, match="404 unknown_limit"):
        rate(f"missing-{slow.name}", strict=True)
    assert rate([]).names == {}


@holding
def test_held_and_counted_in_one_request(hold: Any, new_limit: NewLimit) -> None:
    held, counted = new_limit(), new_limit(limit=5, slotDecayPerSecond=0.001)
    lease = hold(held.name, rate={counted.name: 2})
    assert (lease.names, lease.rate) == ({held.name: 1}, {counted.name: 2})
    assert (held.active, counted.active) == (0, 2)


@rating
def test_an_estimate_is_settled_with_what_it_came_to(rate: Any, new_limit: NewLimit) -> None:
    limit = new_limit(limit=10, slotDecayPerSecond=0.001)
    receipt = rate(limit.name, 8, settle_seconds=600)
    assert limit.active == 8
    settled = settle(receipt, 3)
    assert (settled["id"], settled["actual"]) == (receipt.id, {limit.name: 3})
    assert limit.active == 3
    assert settle(receipt, {limit.name: 3})["actual"] == {limit.name: 3}
    with pytest.raises(HeadgateError, match="409 already_settled"):
        settle(receipt, 4)
    with pytest.raises(HeadgateError, match="410 receipt_gone"):
        settle(rate(limit.name), 1)
    nothing = rate([])
    assert settle(nothing, 1) == {"id": nothing.id, "actual": {}, "limits": []}
    for wrong, error in ((-1, ValueError), (1.5, TypeError), ({limit.name: True}, TypeError)):
        with pytest.raises(error):
            settle(receipt, wrong)


@holding
def test_what_was_taken_by_rate_beside_a_lease_is_settled(hold: Any, new_limit: NewLimit) -> None:
    held, counted = new_limit(), new_limit(limit=10, slotDecayPerSecond=0.001)
    lease = hold(held.name, rate={counted.name: 8}, settle_seconds=600)
    assert (held.active, counted.active) == (0, 8)
    assert settle(lease, 2)["actual"] == {counted.name: 2}
    assert counted.active == 2


def test_a_release_settles_in_the_same_call(new_limit: NewLimit) -> None:
    held, counted = new_limit(), new_limit(limit=100, slotDecayPerSecond=0.001)
    gate, beside = with_sync.Headgate(), {"rate": {counted.name: 20}, "settle_seconds": 600}
    gate.concurrency(held.name, **beside).acquire().release(3)
    assert (held.active, counted.active) == (0, 3)
    lease = gate.concurrency(held.name, **beside).acquire()
    assert gate.release(lease.id, lease.names, actual={counted.name: 4}) == 1
    assert (held.active, counted.active) == (0, 7)
    lease.release()

    async def main() -> None:
        other = with_asyncio.Headgate()
        await (await other.concurrency(held.name, **beside).acquire()).release({counted.name: 5})
        lease = await other.concurrency(held.name, **beside).acquire()
        assert await other.release(lease.id, lease.names, actual={counted.name: 6}) == 1
        assert await other.settle(lease.id, {counted.name: 6})
        await lease.release()

    asyncio.run(main())
    assert (held.active, counted.active) == (0, 18)


@holding
def test_as_many_slots_as_there_could_ever_be(hold: Any, new_limit: NewLimit) -> None:
    limit = new_limit(limit=3)
    assert hold(limit.name, 5, at_most=True).names == {limit.name: 3}
    with pytest.raises(ConcurrencySlotAcquisitionError, match="exceeds_limit"):
        hold(limit.name, 5)


@holding
def test_each_lease_has_a_higher_fence(hold: Any, new_limit: NewLimit) -> None:
    limit = new_limit()
    first, second = hold(limit.name).fence, hold(limit.name).fence
    assert set(first) == {limit.name}
    assert second[limit.name] > first[limit.name]
    assert hold([]).fence == {}


def test_a_check_takes_nothing(new_limit: NewLimit) -> None:
    limit, counted = new_limit(limit=2), new_limit(limit=5, slotDecayPerSecond=1)
    for _ in range(3):
        answer = with_sync.Headgate().check(limit.name, 2, rate={counted.name: 5})
        remaining = {each["name"]: each["remaining"] for each in answer["limits"]}
        assert (answer["allowed"], remaining) == (True, {limit.name: 2, counted.name: 5})
    limit.take()
    answer = asyncio.run(with_asyncio.Headgate().check(limit.name, 2))
    assert (answer["allowed"], answer.get("code")) == (False, "denied")
    assert (limit.active, limit.waiting, limit.look()["totals"]["denied"]) == (1, 0, 0)
    assert with_sync.Headgate().check(counted.name, mode="rate_limit")["allowed"]
    with pytest.raises(HeadgateError, match="404 unknown_limit"):
        with_sync.Headgate().check(f"missing-{limit.name}", strict=True)


def test_a_pause_lets_nothing_through_until_its_end(new_limit: NewLimit) -> None:
    limit, gate = new_limit(), with_sync.Headgate()
    assert gate.pause(limit.name, 600)["name"] == limit.name
    with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
        by_sync(limit.name, max_retries=0)
    assert caught.value.problem is not None
    assert 500 < caught.value.problem.get("retryAfterSeconds", 0) <= 600
    assert "pausedUntil" in caught.value.problem.get("limits", [{}])[0]
    asyncio.run(with_asyncio.Headgate().pause(limit.name, 0))
    assert by_sync(limit.name, max_retries=0).names == {limit.name: 1}
    with pytest.raises(HeadgateError, match="422 invalid"):
        gate.pause(limit.name, 601)


def test_who_is_next_says_the_priority_and_whose_turn_it_is_the_key(new_limit: NewLimit) -> None:
    limit = new_limit()

    def line() -> list[tuple[int, str | None]]:
        return [(each["priority"], each["key"]) for each in limit.look()["waiting"]]

    async def main() -> None:
        gate, held = with_asyncio.Headgate(), limit.take()
        patient = asyncio.ensure_future(gate.concurrency(limit.name, key="tenant").acquire())
        await asyncio.to_thread(limit.wait_for, waiting=1)
        urgent = asyncio.ensure_future(gate.concurrency(limit.name, priority=5).acquire())
        await asyncio.to_thread(limit.wait_for, waiting=2)
        assert line() == [(5, None), (0, "tenant")]
        limit.give(held)
        await (await urgent).release()
        await (await patient).release()

    asyncio.run(main())
    slow = limit = new_limit(limit=1, slotDecayPerSecond=0.001)
    with_sync.rate_limit(slow.name, priority=0, key="first")
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(with_sync.rate_limit, slow.name, priority=9, key="second")
        slow.wait_for(waiting=1)
        assert line() == [(9, "second")]
        assert slow.http.patch(f"/v1/limits/{slow.name}", json={"activeSlots": 0}).is_success
        assert taken.result().names == {slow.name: 1}
    with pytest.raises(ConcurrencySlotAcquisitionError, match=r"422 invalid.*priority"):
        by_sync(slow.name, priority=10)


@holding
def test_promise_13_a_service_that_is_not_there_is_an_error(hold: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_URL", "http://127.0.0.1:9")
    with pytest.raises(HeadgateUnreachableError, match=r"Connect call failed.*Is it running") as caught:
        hold("database", max_retries=0)
    # As a program that was written for Prefect's client expects it.
    assert isinstance(caught.value, (ConcurrencySlotAcquisitionError, ConnectionError))
    assert caught.value.names == {"database": 1}
    lease = hold("database", max_retries=0, on_error="open")
    assert (lease.names, lease.enforced) == ({}, False)


@holding
def test_an_answer_of_something_else_is_named(hold: Any, headgate_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_URL", f"{headgate_server}/elsewhere")
    with pytest.raises(HeadgateError, match="404"):
        hold("database", max_retries=0)


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (None, {}),
        (7, {}),
        (["a", None], {}),
        ("a", {"occupy": 1.5}),
        ("a", {"occupy": True}),
        ("a", {"occupy": "2"}),
        ("a", {"timeout_seconds": "3"}),
        ("a", {"max_retries": "3"}),
        ("a", {"holder": 7}),
        ("a", {"key": 7}),
        ("a", {"priority": "9"}),
        ("a", {"settle_seconds": "9"}),
    ],
)
@pytest.mark.parametrize("face", [with_sync, with_asyncio])
def test_a_mistake_is_a_type_error_before_anything_is_asked(face: Any, names: Any, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        face.concurrency(names, **options)


@pytest.mark.parametrize(
    ("names", "options"),
    [
        ("a", {"occupy": 0}),
        ("a", {"occupy": {"b": 1}}),
        ("a\ud800", {}),
        ("a", {"timeout_seconds": -1}),
        ("a", {"timeout_seconds": float("nan")}),
        ("a", {"max_retries": -1}),
        ("a", {"priority": -1}),
        ("a", {"key": "a\ud800"}),
        ("a", {"on_error": "close"}),
    ],
)
@pytest.mark.parametrize("face", [with_sync, with_asyncio])
def test_a_wrong_value_is_refused_before_anything_is_asked(face: Any, names: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        face.concurrency(names, **options)


def test_slots_of_and_holder_of() -> None:
    assert slots_of({"a": 2}, {"a": 5}) == {"a": 2}
    assert slots_of(["b", "a"], 3) == {"b": 3, "a": 3}
    assert holder_of(SimpleNamespace(type="task_run", id="x")) == "task_run:x"


@pytest.mark.parametrize("url", ["", "headgate", "ftp://x", "http://", "http://u:p@x", "http://x:port", 7])
def test_a_url_that_is_none_is_told(url: Any) -> None:
    with pytest.raises(ValueError, match="Headgate"):
        with_sync.Headgate(url)


def test_a_token_is_sent_and_belongs_to_a_url(headgate_server: str) -> None:
    with pytest.raises(ValueError, match="url"):
        with_sync.Headgate(token="x")
    gate = with_sync.Headgate(f"{headgate_server}/", "any")
    assert gate.configure("token-test", 1)["limit"] == 1


def test_the_five_verbs_by_sync(new_limit: NewLimit) -> None:
    gate = with_sync.Headgate()
    name = new_limit().name
    assert gate.configure(name, 3, slot_decay_per_second=0, active=True)["limit"] == 3
    lease = gate.concurrency(name, 2).acquire()
    assert gate.inspect(name)["activeSlots"] == 2
    assert gate.renew(lease.id, lease.names, 300) > (lease.expires_at or "")
    assert gate.release(lease.id, lease.names) == 2
    assert gate.release(lease.id, lease.names) == 0
    with pytest.raises(HeadgateError, match="lease_gone"):
        gate.renew(lease.id, name)
    with pytest.raises(ValueError, match="called"):
        gate.inspect("..")
    lease.release()


def test_the_five_verbs_by_asyncio(new_limit: NewLimit) -> None:
    async def main() -> None:
        gate = with_asyncio.Headgate()
        name = new_limit().name
        assert (await gate.configure(name, 3))["limit"] == 3
        lease = await gate.concurrency(name, 2).acquire()
        assert (await gate.inspect(name))["activeSlots"] == 2
        assert await gate.renew(lease.id, lease.names, 300) > (lease.expires_at or "")
        await lease.release()
        await lease.release()
        assert await gate.release(lease.id, lease.names) == 0

    asyncio.run(main())


#: What is asked of `configure`, and what the limit then says of itself.
SETTINGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"slotDecayPerSecond": 0, "active": True, "enforce": True, "region": None}),
    ({"active": False}, {"active": False}),
    ({"enforce": False}, {"enforce": False}),
    ({"slot_decay_per_second": 0.5, "lend_seconds": 2.5}, {"slotDecayPerSecond": 0.5, "lendSeconds": 2.5}),
    (
        {"window": {"every": "month", "timeZone": "Europe/Berlin", "startsOn": 15}},
        {"window": {"every": "month", "timeZone": "Europe/Berlin", "at": "00:00", "startsOn": 15, "sliding": False}},
    ),
    (
        {"window": {"every": 90, "sliding": True}},
        {"window": {"every": 90, "timeZone": "UTC", "at": "00:00", "startsOn": None, "sliding": True}},
    ),
    (
        {"weights": {"gold": 3}, "starve_after_seconds": 0},
        {"weights": {"gold": 3}, "starveAfterSeconds": 0},
    ),
    ({"region": "weur"}, {"region": "weur"}),
]


@pytest.mark.parametrize("by", ["sync", "asyncio"])
@pytest.mark.parametrize(("asked", "shown"), SETTINGS)
def test_every_setting_of_a_limit(headgate_server: str, by: str, asked: dict[str, Any], shown: dict[str, Any]) -> None:
    name = f"t-{uuid.uuid4().hex[:12]}"

    async def main() -> Any:
        return await with_asyncio.Headgate().configure(name, 4, **asked)

    answer: Any = with_sync.Headgate().configure(name, 4, **asked) if by == "sync" else asyncio.run(main())
    looked: Any = with_sync.Headgate().inspect(name)
    for told in (answer, looked):
        assert told["limit"] == 4
        assert {key: told[key] for key in shown} == shown
    # What is left out is as by default again.
    plain: Any = with_sync.Headgate().configure(name, 4, region=asked.get("region"))
    assert {"window", "weights", "lendSeconds", "starveAfterSeconds"}.isdisjoint(
        key for key, value in plain.items() if value
    )
    assert (plain["active"], plain["enforce"], plain["slotDecayPerSecond"]) == (True, True, 0)


def test_a_window_as_it_is_answered_can_be_set_again(headgate_server: str) -> None:
    gate = with_sync.Headgate()
    first = gate.configure(f"t-{uuid.uuid4().hex[:12]}", 4, window={"every": "week", "startsOn": "sunday"})
    window = first.get("window")
    assert window is not None
    assert gate.configure(first["name"], 5, window=window).get("window") == window
    with pytest.raises(HeadgateError, match="Europe/Berlin"):
        gate.configure(first["name"], 5, window={"every": "day", "timeZone": "Europe/Berlni"})


@pytest.mark.parametrize("by", ["sync", "asyncio"])
def test_policies_are_set_listed_and_deleted(headgate_server: str, by: str) -> None:
    prefix = f"t-{uuid.uuid4().hex[:12]}:"
    pattern = f"{prefix}*"
    aside, beside = with_sync.Headgate(), with_asyncio.Headgate()

    def ask(verb: str, *args: Any, **more: Any) -> Any:
        asked = getattr(aside if by == "sync" else beside, verb)
        if by == "sync":
            return asked(*args, **more)

        async def main() -> Any:
            return await asked(*args, **more)

        return asyncio.run(main())

    made = ask("configure_policy", pattern, 3, slot_decay_per_second=0.01, idle_seconds=60, weights={"gold": 2})
    assert (made["pattern"], made["limit"], made["idleSeconds"], made["weights"]) == (pattern, 3, 60, {"gold": 2})
    assert made in ask("policies")
    assert aside.rate_limit(f"{prefix}ada", 2).limits[0]["limit"] == 3
    # What is left out is as by default again.
    assert ask("configure_policy", pattern, 4)["idleSeconds"] == 300
    assert ask("delete_policy", pattern) is True
    assert ask("delete_policy", pattern) is False
    assert pattern not in {policy["pattern"] for policy in ask("policies")}
    assert ask("delete", f"{prefix}ada") is True
    assert ask("delete", f"{prefix}ada") is False
    with pytest.raises(ValueError, match="policy cannot be called"):
        ask("delete_policy", "..")
    with pytest.raises(HeadgateError, match="invalid"):
        ask("configure_policy", "a*b*", 1)


#: `inspect.signature` of prefect.concurrency 3.8.4; `npm run test:prefect` compares with the real one.
PREFECT = {
    "concurrency": (
        "names occupy timeout_seconds max_retries lease_duration strict holder raise_on_lease_renewal_failure"
    ),
    "rate_limit": "names occupy timeout_seconds strict",
}


@pytest.mark.parametrize("face", [with_sync, with_asyncio])
@pytest.mark.parametrize("verb", list(PREFECT))
def test_the_signatures_are_those_of_prefect(face: Any, verb: str) -> None:
    parameters = inspect.signature(getattr(face, verb)).parameters.values()
    positional = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert positional == PREFECT[verb].split()


def test_warnings_go_to_one_logger() -> None:
    assert logging.getLogger("headgate_client").handlers == []
