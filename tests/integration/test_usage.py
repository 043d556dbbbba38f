"""Usage: reserved, committed, counted once, against what the tier allows."""
import random
import threading

import pytest

import harness
import whop
from test_members_access import School


class Meter:
    """A tenant's usage, as an application counts it. No program is needed for that."""

    def __init__(self, stack):
        self.stack = stack
        self.tenant, = stack.sql("SELECT id FROM tenants WHERE whop_company_id = %s", (whop.COMPANY,))[0]

    def student(self, user="user_1", tier="free", access="active"):
        self.stack.sql("""INSERT INTO students (tenant_id, whop_user_id, access, tier, tier_source, first_access_at)
                          VALUES (%s, %s, %s, %s, 'default', now())
                          ON CONFLICT (tenant_id, whop_user_id) DO UPDATE SET tier = EXCLUDED.tier""",
                       (self.tenant, user, access, tier))
        return self

    def call(self, name, *args, link=None):
        """(result, used, reserved, most, free)"""
        with (link or self.stack.db()).cursor() as cursor:
            cursor.execute(f"SELECT * FROM usage_{name}({', '.join(['%s'] * (len(args) + 1))})", (whop.COMPANY, *args))
            return cursor.fetchone()

    def reserve(self, request, amount=1, metric="videos", user="user_1", **how):
        return self.call("reserve", user, metric, amount, request, **how)

    def add(self, event, amount, metric="videos", user="user_1", **how):
        return self.call("add", user, metric, amount, event, **how)

    def show(self, metric, user="user_1"):
        return [row[1:5] for row in self.stack.sql("SELECT * FROM usage_show(%s, %s)", (whop.COMPANY, user))
                if row[0] == metric][0]

    def over(self, user="user_1"):
        return self.stack.sql("SELECT (member_access(%s, %s)).over_limit", (whop.COMPANY, user))[0][0]

    def warned(self, highest=False):
        return self.stack.sql("SELECT metric, percent FROM usage_warnings WHERE is_highest OR NOT %s ORDER BY id", (highest,))

    def sound(self):
        assert self.stack.sql("SELECT * FROM usage_mismatches") == []


@pytest.fixture
def meter(stack):
    made = Meter(stack)
    yield made.student()
    made.sound()


def test_reserved_and_committed_once(meter):
    assert meter.reserve("r1", 2) == ("reserved", 0, 2, 5, 3)
    assert meter.reserve("r1", 2) == ("repeated", 0, 2, 5, 3)
    assert meter.reserve("r1", 1)[0] == "conflict"
    assert meter.call("commit", "r1") == ("committed", 2, 0, 5, 3)
    assert meter.call("commit", "r1")[0] == "repeated" and meter.call("release", "r1")[0] == "committed"
    assert meter.reserve("r1", 2)[0] == "repeated" and meter.show("videos") == (2, 0, 5, 3)
    assert meter.reserve("r2", 3)[0] == "reserved" and meter.reserve("r3")[0] == "over_limit"
    assert meter.call("release", "r2")[0] == "released" and meter.call("release", "r2")[0] == "repeated"
    assert meter.call("commit", "r2")[0] == "released" and meter.reserve("r3")[0] == "reserved"
    assert meter.call("commit", "nobody's")[0] == "unknown"


def test_less_may_be_committed_than_was_reserved(meter):
    assert meter.reserve("r1", 1000, "storage_bytes")[0] == "reserved"
    assert meter.call("commit", "r1", 1001)[0] == "invalid" and meter.call("commit", "r1", -1)[0] == "invalid"
    assert meter.call("commit", "r1", 400)[:3] == ("committed", 400, 0)
    assert meter.call("commit", "r1", 500)[0] == "committed" and meter.show("storage_bytes")[0] == 400


@pytest.mark.parametrize("bad", [(0, "videos"), (-1, "videos"), (1, "views"), (10**16, "videos"), (1, "students"), (None, "videos")])
def test_what_makes_no_sense_is_refused(meter, bad):
    assert meter.reserve("r1", *bad)[0] == "invalid"
    assert meter.reserve("", 1)[0] == "invalid" and meter.reserve(None, 1)[0] == "invalid"


def test_fifty_reserve_the_last_one(meter):
    meter.add("e1", 4)
    links = [harness.connect(meter.stack.pg_sockets, meter.stack.database) for _ in range(50)]
    start, results = threading.Barrier(len(links)), []

    def one(number, link):
        start.wait()
        results.append(meter.reserve(f"r{number}", link=link)[0])
    threads = [threading.Thread(target=one, args=pair) for pair in enumerate(links)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    [link.close() for link in links]
    assert sorted(results) == ["over_limit"] * 49 + ["reserved"]


def test_a_downgrade_between_reserve_and_commit(meter):
    """What was promised holds; there is more than allowed then, nothing is deleted, nothing more is let in."""
    meter.student(tier="basic").add("e1", 20)
    assert meter.reserve("r1", 3)[0] == "reserved"
    meter.student(tier="free")
    assert meter.reserve("r2")[0] == "over_limit"
    assert meter.call("commit", "r1") == ("committed", 23, 0, 5, 0)
    assert meter.over() == ["videos"] and meter.reserve("r3")[0] == "over_limit"
    assert meter.reserve("r4", 1000, "storage_bytes")[0] == "reserved"
    assert meter.add("e2", -18)[:2] == ("counted", 5) and meter.over() == [] and meter.reserve("r5")[0] == "over_limit"
    meter.student(tier="pro")
    assert meter.reserve("r5")[0] == "reserved"


def test_enterprise_knows_no_limit(meter):
    meter.student(tier="enterprise")
    assert meter.reserve("r1", 10**14, "storage_bytes") == ("reserved", 0, 10**14, -1, None)
    meter.call("commit", "r1")
    assert meter.warned() == [] and meter.over() == []


def test_who_has_no_access_reserves_nothing(meter):
    meter.stack.sql("UPDATE students SET access = 'revoked', revoked_at = now()")
    assert meter.reserve("r1")[0] == "no_access" and meter.reserve("r2", user="user_2")[0] == "no_access"
    assert meter.add("e1", -1)[0] == "counted"  # his videos can be deleted all the same
    assert meter.stack.sql("SELECT count(*) FROM students") == [(1,)]


def test_a_deletion_told_before_its_upload(meter):
    assert meter.add("gone", -1000, "storage_bytes")[:2] == ("counted", -1000)
    assert meter.add("gone", -1000, "storage_bytes")[0] == "repeated" and meter.add("gone", -1, "storage_bytes")[0] == "conflict"
    assert meter.reserve("r1", (1 << 30) + 1, "storage_bytes")[0] == "over_limit"  # below nothing is no room
    assert meter.add("came", 1000, "storage_bytes")[:2] == ("counted", 0)


def test_a_reservation_that_is_forgotten_is_free_again(meter):
    assert meter.call("reserve", "user_1", "videos", 5, "r1", "1 minute")[0] == "reserved"
    meter.stack.sql("SET whopline.clock_offset = '2 minutes'")
    assert meter.show("videos") == (0, 0, 5, 5)
    assert meter.reserve("r2", 5)[0] == "reserved" and meter.call("commit", "r1")[0] == "expired"
    assert meter.call("commit", "r2")[0] == "committed"


def test_S10_one_warning_for_each_threshold(meter):
    for n in range(100):
        meter.add(f"e{n}", 1, "ai_credits")
    assert meter.warned() == [("ai_credits", percent) for percent in (80, 95, 100)] == meter.warned(highest=True)
    meter.add("more", 7, "ai_credits")
    meter.add("less", -50, "ai_credits")
    meter.add("again", 50, "ai_credits")
    assert len(meter.warned()) == 3


def test_a_leap_over_all_thresholds_is_told_of_once(meter):
    meter.add("e1", 5)
    assert len(meter.warned()) == 3 and meter.warned(highest=True) == [("videos", 100)]


def test_credits_begin_anew_each_month_in_the_tenants_zone(meter):
    stack = meter.stack
    stack.sql("INSERT INTO usage_settings (tenant_id, zone) VALUES (%s, 'Pacific/Auckland')", (meter.tenant,))
    at = lambda moment: stack.sql("SELECT set_config('whopline.clock_offset', (%s::timestamptz - now())::text, false)", (moment,))
    at("2031-03-31 23:59:00+13:00")
    assert meter.reserve("r1", 90, "ai_credits")[0] == "reserved" and meter.reserve("r2", 11, "ai_credits")[0] == "over_limit"
    at("2031-04-01 00:01:00+13:00")
    assert meter.show("ai_credits") == (0, 0, 100, 100)
    assert meter.reserve("r2", 95, "ai_credits")[0] == "reserved"
    assert meter.call("commit", "r1")[:2] == ("committed", 90)  # of the month it was promised in
    assert meter.call("commit", "r2")[:2] == ("committed", 95) and meter.show("ai_credits")[0] == 95
    assert [row[0].isoformat() for row in stack.sql("SELECT DISTINCT period FROM usage_warnings ORDER BY 1")] == ["2031-04-01"]
    meter.add("kept", 4)
    at("2031-05-02 00:00:00+12:00")
    assert meter.show("videos")[0] == 4 and meter.show("ai_credits")[0] == 0


def test_the_creators_students_are_those_of_the_register(meter):
    for n in range(2, 11):
        meter.student(f"user_{n}")
    assert meter.show("students", None) == (10, 0, 10, 0)
    assert meter.reserve("r1", 1, "students", None)[0] == "over_limit"
    meter.stack.sql("UPDATE students SET access = 'revoked', revoked_at = now() WHERE whop_user_id = 'user_2'")
    assert meter.reserve("r1", 1, "students", None) == ("reserved", 9, 1, 10, 0)
    assert meter.reserve("r2", 1, "students", None)[0] == "over_limit"
    assert meter.call("commit", "r1")[:3] == ("committed", 9, 0)


def test_a_tier_that_falls_by_an_event_refuses_the_next_upload(stack, sim):
    """Through the register: S8 and the downgrade together."""
    school = School(stack, sim)
    meter = Meter(stack)
    school.tell("membership.activated", "active", plan="plan_pro")
    meter.add("e1", 60)
    assert meter.reserve("r1")[0] == "reserved"
    school.tell("membership.metadata_updated", "active", plan="plan_basic")
    assert meter.over() == ["videos"] and meter.reserve("r2")[0] == "over_limit"
    assert meter.call("commit", "r1")[:2] == ("committed", 61)
    meter.sound()


@pytest.mark.parametrize("seed", range(4))
def test_any_interleaving_keeps_the_books(meter, seed):
    """Property: six applications at random, with repetitions. What was promised never exceeds the limit, and the figures
    are those of the calls that were answered with success, each once."""
    dice = random.Random(seed)
    amounts = {f"r{n}": dice.randint(1, 30) for n in range(60)}
    scripts = []
    for _ in range(6):
        script = []
        for request in dice.sample(sorted(amounts), 40):
            script += [("reserve", request), (dice.choice(["commit", "commit", "release", "add"]), request)]
        scripts.append(script)
    committed, added, most_seen, lock = {}, {}, [], threading.Lock()

    def run(script, link):
        for verb, request in script:
            if verb == "reserve":
                answer = meter.reserve(request, amounts[request], "ai_credits", link=link)
            elif verb == "add":
                answer = meter.add(request, -amounts[request], "ai_credits", link=link)
            else:
                answer = meter.call(verb, request, link=link)
            with lock:
                if answer[0] == "committed" and verb == "commit":
                    committed.setdefault(request, amounts[request])
                if answer[0] in ("counted", "repeated") and verb == "add":
                    added[request] = -amounts[request]
                if answer[0] == "reserved":
                    most_seen.append(max(answer[1], 0) + answer[2])
    links = [harness.connect(meter.stack.pg_sockets, meter.stack.database) for _ in scripts]
    threads = [threading.Thread(target=run, args=pair) for pair in zip(scripts, links)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    [link.close() for link in links]
    held = sum(amounts[request] for request, in meter.stack.sql("SELECT request_id FROM usage_reservations WHERE state = 'reserved'"))
    used, reserved, _, _ = meter.show("ai_credits")
    assert most_seen and max(most_seen) <= 100
    assert (used, reserved) == (sum(committed.values()) + sum(added.values()), held)
