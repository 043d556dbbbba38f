"""The scripts of budgets, one call after another, against a real Redis: what each answers and keeps.
Calls between which no time should pass are made in one transaction."""
import time

import pytest

import harness

KEY = "wl:{b:c1}:things.list"
INTERVAL, AHEAD, LINE = 100_000, 1_000_000, 60_000_000  # us


@pytest.fixture
def redis(tmp_path):
    it = harness.Redis(str(tmp_path))
    it.start()
    yield it.client()
    it.kill9()


def script(redis, name):
    return redis.register_script((harness.ROOT / f"schema/redis/{name}.lua").read_text())


def near(us, wanted, slack=60_000):
    return abs(us - wanted) <= slack * harness.SLOW


def steps(values):
    return {after - before for before, after in zip(values, values[1:])}


def at_once(redis, *calls):
    """[what was answered, {field: number kept}] of each. calls: (script, its numbers)"""
    pipe = redis.pipeline(transaction=True)
    for run, numbers in calls:
        run([KEY], numbers, client=pipe)
        pipe.hgetall(KEY)
    answers = iter(pipe.execute())
    return [(answer, {name.decode(): int(value) for name, value in next(answers).items()}) for answer in answers]


def asked(ahead=AHEAD, apart=0, line=LINE):
    return [INTERVAL, ahead, line, apart]


@pytest.fixture
def reserve(redis):
    run = script(redis, "reserve")
    return lambda ahead=AHEAD, apart=0, line=LINE: run([KEY], asked(ahead, apart, line))


@pytest.fixture
def reserve_many(redis):
    run = script(redis, "reserve")
    return lambda count, *how: at_once(redis, *[(run, asked(*how))] * count)


@pytest.fixture
def kept(redis):
    return lambda field: int(redis.hget(KEY, field) or 0)


def test_moments_are_an_interval_apart_and_at_most_so_far_ahead(reserve_many):
    found = reserve_many(13)
    granted, (answer, after) = [it for it in found if it[0][0]], found[11]
    assert granted == found[:11] and granted[0][0] == [1, 0] and max(wait for (_, wait), _ in granted) <= AHEAD
    assert steps([fields["t"] for _, fields in granted]) == {INTERVAL}
    assert near(answer[1], AHEAD / 2 + INTERVAL * 2 // 3, INTERVAL)
    assert answer[2] == 0 and after["t"] == granted[-1][1]["t"]  # who is sent away takes nothing


def test_an_idle_budget_saves_nothing(reserve, reserve_many):
    reserve()
    time.sleep(3 * INTERVAL / 1e6)
    (first, _), (second, _) = reserve_many(2)
    assert first == [1, 0] and near(second[1], INTERVAL)


def fill(reserve, *how):
    while reserve(*how)[0]:
        pass


def test_those_sent_away_come_back_one_by_one(redis, reserve, reserve_many, kept):
    """The first when half of what may be reserved is free, and then half as fast again as calls go."""
    fill(reserve)
    redis.hset(KEY, "t", kept("t") + 10_000_000)
    found = reserve_many(20)
    assert not any(answer[0] for answer, _ in found)
    assert steps([fields["w"] for _, fields in found]) == {INTERVAL * 2 // 3}


def test_the_line_has_an_end(reserve_many):
    waits = [answer[1] for answer, _ in reserve_many(52, AHEAD, 0, 1_000_000) if not answer[0]]
    assert len(waits) == 41
    assert max(waits) <= 1_500_000 + INTERVAL and near(waits[-1], 1_500_000, 2 * INTERVAL)


def test_bulk_has_a_share_and_a_short_reach(redis, reserve, reserve_many, kept):
    apart, reach = 200_000, 500_000
    found = reserve_many(8, reach, apart)
    granted = [it for it in found if it[0][0]]
    # It makes up for a second: so it is at the pace of all.
    assert granted == found[:6] and max(wait for (_, wait), _ in granted) <= reach
    assert steps([fields["t"] for _, fields in granted]) == {INTERVAL}
    assert reserve()[0] == 1  # an event reaches further
    assert kept("v") > 0 and kept("w") == 0  # and has a line of its own
    redis.hset(KEY, mapping={"b": kept("t"), "t": 0})  # nothing to make up for
    shares = []
    while len(shares) < 4:
        if reserve(reach, apart)[0]:
            shares.append(kept("b"))
    assert steps(shares) == {apart}
    assert kept("t") < shares[-1]  # there is room for events between


def test_a_freeze_holds_everybody_and_grows_only(redis, reserve):
    freeze, look, take = script(redis, "freeze"), script(redis, "pass"), script(redis, "reserve")
    assert look([KEY]) == [1, 0] and reserve()[0] == 1
    *left, reserved, looked = [answer for answer, _ in at_once(
        redis, (freeze, [5_000_000]), (freeze, [1_000_000]), (freeze, [7_000_000]), (take, asked()), (look, []))]
    assert all(near(us, wanted) for (us,), wanted in zip(left, (5_000_000, 5_000_000, 7_000_000)))
    given, wait, frozen = reserved
    assert (given, frozen) == (0, 1) and near(wait, 7_000_000 + INTERVAL * 2 // 3)
    granted, wait, frozen = looked
    assert (granted, frozen) == (0, 1) and near(wait, 7_000_000)
    assert redis.hget(KEY, "n") == b"1"  # only moments that were given are counted
    redis.hset(KEY, "f", 0)
    assert look([KEY]) == [1, 0] and reserve()[0] == 1 and redis.hget(KEY, "n") == b"2"


def test_bulk_moments_are_counted_too(redis, reserve):
    assert reserve()[0] == 1 and reserve(500_000, 200_000)[0] == 1
    seconds, micros = redis.time()
    assert redis.hget(KEY, "n") == b"2"
    assert near(seconds * 1_000_000 + micros - int(redis.hget(KEY, "c")), 0)


def test_the_last_look_writes_nothing(redis, reserve):
    """Each write is a sync of the disk where Redis keeps its promises."""
    look = script(redis, "pass")
    assert look([KEY]) == [1, 0] and not redis.exists(KEY)
    reserve()
    changes, kept = redis.info("persistence")["rdb_changes_since_last_save"], redis.hgetall(KEY)
    assert look([KEY]) == [1, 0]
    assert redis.info("persistence")["rdb_changes_since_last_save"] == changes and redis.hgetall(KEY) == kept


def test_keys_expire(redis, reserve):
    freeze = script(redis, "freeze")
    day = 86_400_000
    reserve()
    assert day - 5000 < redis.pttl(KEY) <= day
    freeze([KEY], [2 * day * 1000])
    assert 3 * day - 5000 < redis.pttl(KEY) <= 3 * day


YEAR = 365 * 86400 * 1_000_000


@pytest.mark.parametrize("field", ["t", "b", "f", "v", "w"])
def test_a_clock_that_was_put_back(redis, reserve, kept, field):
    """What next year's clock has left behind does not hold anybody up until then."""
    reserve(AHEAD, INTERVAL * 2)
    redis.hset(KEY, field, kept("t") + YEAR)
    assert reserve()[0] == 1 and reserve(AHEAD, INTERVAL * 2)[0] == 1
    assert script(redis, "pass")([KEY], []) == [1, 0]
    fill(reserve)
    assert reserve()[1] <= LINE + AHEAD


def test_a_freeze_of_a_clock_that_was_put_back_is_not_kept(redis, reserve, kept):
    reserve()
    redis.hset(KEY, "f", kept("t") + YEAR)
    assert near(script(redis, "freeze")([KEY], [2_000_000])[0], 2_000_000)
    assert script(redis, "pass")([KEY], [])[0] == 0 and reserve()[0] == 0
