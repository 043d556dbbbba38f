"""Schedules, timers and retention: each nominal slot once, whoever dies; both changes of the clock;
what an operator does by hand; what is deleted, and what never."""
import datetime
import http.client
import os
import random
import re
import signal
import time
import uuid
import zoneinfo

import pytest

import harness
import wire

UTC = datetime.timezone.utc
LONG = bool(os.environ.get("WHOPLINE_TEST_LONG"))


def add(stack, name, cron=None, every=None, **columns):
    """A schedule of probe.effect."""
    row = {"name": name, "cron": cron, "interval_ms": every, "queue": "probe", "kind": "probe.effect",
           "payload": wire.pack({"label": name}), "version": 1, **columns}
    names = ", ".join(row)
    stack.sql(f"INSERT INTO schedules ({names}) VALUES ({', '.join(['%s'] * len(row))})", list(row.values()))


def moved(stack, offset, **env):
    """Settings of a process whose clock is so far ahead."""
    return {"DATABASE_URL": f"{stack.env['DATABASE_URL']} options='-c whopline.clock_offset={offset}'", **env}


def firings(stack, name):
    return stack.sql("""SELECT slot, how FROM schedule_firings f JOIN schedules s ON s.id = f.schedule_id
                        WHERE s.name = %s ORDER BY slot""", (name,))


# ---- slots

def slots(stack, cron, zone, start, count):
    """What `schedules next` says, as UTC times."""
    rows = stack.cli_json("schedules", "next", cron, "--zone", zone, "--from", start, "--count", count)
    return [datetime.datetime.fromisoformat(row["slot"]).replace(tzinfo=UTC) for row in rows]


def test_the_days_the_clock_changes(stack):
    """Literally: the slots from just before each change on, in UTC."""
    berlin, york, howe = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
    for cron, zone, start, wanted in [
            # 02:00 to 03:00 does not exist on 29 March (01:00 UTC); it is twice on 25 October.
            ("30 2 * * *", berlin, "2026-03-28T12:00", ["29 01:30", "30 00:30"]),
            ("30 2 * * *", berlin, "2026-10-24T12:00", ["25 00:30", "26 01:30"]),
            ("0 * * * *", berlin, "2026-03-28T22:30", ["28 23:00", "29 00:00", "29 01:00", "29 02:00"]),
            ("0 * * * *", berlin, "2026-10-24T22:30", ["24 23:00", "25 00:00", "25 01:00", "25 02:00"]),
            ("*/30 * * * *", berlin, "2026-03-29T00:15", ["29 00:30", "29 01:00", "29 01:30", "29 02:00"]),
            ("*/30 * * * *", berlin, "2026-10-25T00:15", ["25 00:30", "25 01:00", "25 01:30", "25 02:00"]),
            ("15,45 2-3 * * *", berlin, "2026-03-29T00:00", ["29 01:15", "29 01:45", "30 00:15"]),
            ("0 */2 * * *", berlin, "2026-03-28T22:30", ["28 23:00", "29 01:00", "29 02:00", "29 04:00"]),
            ("0 */2 * * *", berlin, "2026-10-24T21:30", ["24 22:00", "25 00:00", "25 03:00", "25 05:00"]),
            ("0 0 * * *", berlin, "2026-03-28T12:00", ["28 23:00", "29 22:00"]),
            # 8 March at 07:00 UTC, 1 November at 06:00 UTC.
            ("30 2 * * *", york, "2026-03-07T12:00", ["08 07:30", "09 06:30"]),
            ("30 1 * * *", york, "2026-10-31T12:00", ["01 05:30", "02 06:30"]),
            ("0 * * * *", york, "2026-03-08T05:30", ["08 06:00", "08 07:00", "08 08:00"]),
            ("0 * * * *", york, "2026-11-01T04:30", ["01 05:00", "01 06:00", "01 07:00"]),
            # Half an hour: 02:00 to 02:30 is missing on 4 October (3rd, 15:30 UTC), and 01:30 to 02:00 is
            # twice on 5 April (4th, 15:00 UTC).
            ("15 2 * * *", howe, "2026-10-02T20:00", ["03 15:45", "04 15:15"]),
            ("45 1 * * *", howe, "2026-04-03T20:00", ["04 14:45", "05 15:15"]),
            ("*/30 * * * *", howe, "2026-10-03T14:45", ["03 15:00", "03 15:30", "03 16:00", "03 16:30"]),
            ("*/30 * * * *", howe, "2026-04-04T14:15", ["04 14:30", "04 15:00", "04 15:30", "04 16:00"]),
            ("0 * * * *", howe, "2026-10-03T14:00", ["03 14:30", "03 15:30", "03 16:00", "03 17:00"]),
            ("0 * * * *", howe, "2026-04-04T13:30", ["04 14:00", "04 15:30", "04 16:30"])]:
        found = [f"{at:%d %H:%M}" for at in slots(stack, cron, zone, start, len(wanted))]
        assert found == wanted, (cron, zone, start)


def model(cron_minutes, each_time, zone, start):
    """By Python's time zones, local minute by local minute: the moments of a day and a bit."""
    zone, found = zoneinfo.ZoneInfo(zone), set()
    first = datetime.datetime.fromisoformat(start).replace(tzinfo=UTC)
    local = (first.astimezone(zone) - datetime.timedelta(hours=6)).replace(tzinfo=None, second=0)
    for n in range(45 * 60):
        wall = local + datetime.timedelta(minutes=n)
        if not cron_minutes(wall):
            continue
        early = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
        late = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
        found.add(early)
        # of one that is missing, fold=1 is by the clock of after the change
        if each_time and late.astimezone(zone).replace(tzinfo=None) == wall:
            found.add(late)
    return sorted(at for at in found if first < at <= first + datetime.timedelta(hours=30))


@pytest.mark.parametrize("zone, starts", [
    ("Europe/Berlin", ["2026-03-28T12:00", "2026-10-24T12:00"]),
    ("America/New_York", ["2026-03-07T20:00", "2026-10-31T20:00"]),
    ("Australia/Lord_Howe", ["2026-10-03T02:00", "2026-04-04T02:00"]),
    ("America/Santiago", ["2026-09-05T15:00", "2026-04-04T15:00"]),
    ("Antarctica/Troll", ["2026-03-28T12:00", "2026-10-24T12:00"]),
    ("UTC", ["2026-02-28T12:00"])])
def test_both_changes_against_another_implementation(stack, zone, starts):
    for start in starts:
        for cron, matches, each in [
                ("*/10 * * * *", lambda t: t.minute % 10 == 0, True),
                ("7 * * * *", lambda t: t.minute == 7, True),
                ("*/20 0-4 * * *", lambda t: t.minute % 20 == 0 and t.hour < 5, False),
                ("30 2 * * *", lambda t: (t.hour, t.minute) == (2, 30), False),
                ("0 */3 * * *", lambda t: t.minute == 0 and t.hour % 3 == 0, False)]:
            wanted = model(matches, each, zone, start)
            found = slots(stack, cron, zone, start, len(wanted) + 1)
            assert found[:-1] == wanted and found[-1] > wanted[-1], (cron, zone, start)


def test_minutes_neither_skip_nor_double(stack):
    for start in ("2026-03-28T23:30", "2026-10-24T23:30"):
        found = slots(stack, "* * * * *", "Europe/Berlin", start, 300)
        assert {b - a for a, b in zip(found, found[1:])} == {datetime.timedelta(minutes=1)}


# ---- each slot once

class Crew:
    """Four schedulers that die, at the fault points around a firing's COMMIT or killed at any moment, and are
    replaced."""

    ENV = {"SCHEDULE_GRACE_MS": 100, "WORKER_LISTEN": "", "RETENTION_EVERY_MS": 200}

    def __init__(self, stack):
        self.stack, self.procs, self.deaths = stack, [], 0
        self.mend()

    def one(self):
        point = random.choice(["before_firing_commit", "after_firing_commit", "before_pg_commit", None])
        fault = f"{point}:kill@{random.randint(1, 300 if LONG else 40)}" if point else None
        return self.stack.start("scheduler", env=self.ENV, fault=fault, ready=False)

    def mend(self):
        if self.procs and random.random() < 0.3:
            victim = random.choice(self.procs)
            if victim.running():
                victim.kill9()
        living = [proc for proc in self.procs if proc.running()]
        self.deaths += len(self.procs) - len(living)
        self.procs = living + [self.one() for _ in range(4 - len(living))]

    def end(self):
        for proc in self.procs:
            self.stack.eventually(lambda proc=proc: not proc.running() or self.stack.is_ready("scheduler", proc))
            proc.allowed.add(-signal.SIGKILL)
            proc.send(signal.SIGTERM, 0)
        for proc in self.procs:
            proc.wait_exit()
        assert self.deaths > 0


@pytest.mark.limit(900 if LONG else 90)
def test_four_schedulers_that_die_fire_each_slot_once(stack):
    """An outage is made up for, slot by slot (policy all), while schedulers die."""
    schedules, per = (100, 100) if LONG else (20, 20)
    begins = datetime.datetime(2026, 6, 1, tzinfo=UTC)
    for n in range(schedules):
        if n % 2:
            add(stack, f"s{n}", every=1000 * (n + 1), missed="all", missed_max=per, next_slot=begins)
        else:
            add(stack, f"s{n}", cron=f"*/{n % 7 + 1} * * * *", zone="Europe/Berlin", missed="all",
                missed_max=per, next_slot=begins)
    crew, wanted = Crew(stack), schedules * per

    def all_made_up():
        crew.mend()
        return stack.sql("""SELECT count(*) FROM schedule_firings WHERE how = 'missed'
                            AND slot < '2026-06-10'""")[0][0] >= wanted

    began = time.monotonic()
    stack.eventually(all_made_up, 800 if LONG else 60, every=0.1)
    took = time.monotonic() - began
    stack.sql("UPDATE schedules SET enabled = false")
    for n in range(schedules):
        # From the first slot on, without a gap: what the policy promises to make up for. (A little later
        # there may be another outage, when all schedulers are dead.)
        made_up = [slot for slot, how in firings(stack, f"s{n}") if how == "missed" and slot.month == 6]
        step = datetime.timedelta(seconds=n + 1) if n % 2 else None
        assert len(made_up) == per and made_up[0] == begins
        for one, other in zip(made_up, made_up[1:]):
            if step:
                assert other.timestamp() * 1000 // (1000 * (n + 1)) == one.timestamp() * 1000 // (1000 * (n + 1)) + 1
            else:
                every = n % 7 + 1
                assert (other.minute - one.minute) % 60 == (every if other.minute else 60 - one.minute)
    crew.end()
    check_jobs(stack)
    print(f"{wanted} firings, {crew.deaths} deaths, {took:.1f} s")


@pytest.mark.limit(300 if LONG else 90)
def test_short_intervals_live_through_deaths(stack):
    """By the running clock: every slot from the first to the last, once each."""
    schedules, wanted = (50, 10000) if LONG else (10, 400)
    for n in range(schedules):
        add(stack, f"s{n}", every=200 + 10 * n, missed="all", missed_max=1000000)
    crew = Crew(stack)

    def enough():
        crew.mend()
        return stack.sql("SELECT count(*) FROM schedule_firings")[0][0] >= wanted

    stack.eventually(enough, 250 if LONG else 60, every=0.25)
    crew.end()
    for n in range(schedules):
        every = 200 + 10 * n
        numbers = [round(slot.timestamp() * 1000) for slot, _ in firings(stack, f"s{n}")]
        assert numbers == list(range(numbers[0], numbers[-1] + 1, every)) and numbers[0] % every == 0
        assert len(numbers) > 5
    check_jobs(stack)
    how = dict(stack.sql("SELECT how, count(*) FROM schedule_firings GROUP BY 1"))
    assert set(how) <= {"due", "missed"}
    print(f"{sum(how.values())} firings ({how}), {crew.deaths} deaths")


def check_jobs(stack):
    """Each firing has its one job, and no job of a schedule is without its firing."""
    assert stack.sql("""SELECT count(*) FROM schedule_firings f LEFT JOIN jobs j ON j.id = f.job_id
                        WHERE f.how <> 'skipped' AND (j.id IS NULL OR j.occurred_at <> f.slot)""") == [(0,)]
    # In one look: schedulers may be firing on.
    assert stack.sql("""SELECT (SELECT (count(*), count(DISTINCT job_id)) FROM schedule_firings WHERE how <> 'skipped')
                             = (SELECT (count(*), count(DISTINCT id)) FROM jobs WHERE key LIKE 'schedule/%')""") == [(True,)]


@pytest.mark.parametrize("point", ["before_firing_commit", "after_firing_commit", "before_pg_commit",
                                   "pg_commit_reply_lost", "after_pg_commit"])
def test_a_death_around_commit(stack, point):
    add(stack, "one", cron="0 3 * * *", next_slot=datetime.datetime.now(UTC) - datetime.timedelta(seconds=1))
    stack.start("scheduler", fault=f"{point}:kill", ready=False).wait_exit()
    stack.start("scheduler")
    stack.eventually(lambda: len(firings(stack, "one")) == 1)
    stack.eventually(lambda: stack.sql("SELECT next_slot > now() FROM schedules WHERE name = 'one'") == [(True,)])
    check_jobs(stack)
    assert stack.sql("SELECT count(*) FROM jobs WHERE key = 'schedule/one'") == [(1,)]


def test_a_job_of_the_installation_runs(stack):
    """It belongs to no tenant, and is shown all the same."""
    stack.start("probe")
    stack.start("scheduler")
    add(stack, "quick", every=500)
    stack.eventually(lambda: stack.sql("SELECT count(*) >= 3 FROM jobs WHERE state = 'done'")[0][0])
    job = stack.sql("SELECT id::text FROM jobs WHERE state = 'done' AND tenant_id IS NULL LIMIT 1")[0][0]
    assert stack.cli_json("jobs", "show", job)["job"]["key"] == "schedule/quick"
    assert stack.cli_json("jobs", "ls", "--state", "done")


# ---- outages

def outage(stack, policy, **columns):
    """A schedule each ten minutes that nobody looked at for three hours; what was fired, and the next slot's
    distance from now."""
    now = stack.sql("SELECT date_trunc('hour', now()) - interval '3 hours'")[0][0]
    add(stack, "late", cron="*/10 * * * *", missed=policy, next_slot=now, **columns)
    scheduler = stack.start("scheduler")
    stack.eventually(lambda: stack.sql("SELECT next_slot > now() FROM schedules WHERE name = 'late'") == [(True,)])
    check_jobs(stack)
    scheduler.sigterm()
    return now, firings(stack, "late")


def whole(slots_found, now):
    """Without those that came due by themselves just now."""
    return [(int((slot - now).total_seconds() / 600), how) for slot, how in slots_found if how != "due"]


def test_missed_slots_are_skipped(stack):
    now, found = outage(stack, "skip")
    assert whole(found, now) == [(0, "skipped")]


def test_missed_slots_are_made_up_for_once(stack):
    now, found = outage(stack, "once")
    assert whole(found, now) == [(0, "missed")]


def test_missed_slots_are_made_up_for_up_to_a_number(stack):
    now, found = outage(stack, "all", missed_max=5)
    assert whole(found, now) == [(n, "missed") for n in range(5)] + [(5, "skipped")]


def test_all_missed_slots(stack):
    now, found = outage(stack, "all", missed_max=1000)
    made_up = [n for n, _ in whole(found, now)]
    assert made_up == list(range(len(made_up))) and len(made_up) >= 18


def test_an_outage_by_the_moved_clock(stack):
    """A scheduler that comes back two days later, by the database's clock."""
    add(stack, "daily", cron="0 3 * * *", zone="America/New_York", missed="all")
    scheduler = stack.start("scheduler")
    stack.eventually(lambda: stack.sql("SELECT isfinite(next_slot) FROM schedules WHERE name = 'daily'") == [(True,)])
    scheduler.sigterm()
    planned = stack.sql("SELECT next_slot FROM schedules WHERE name = 'daily'")[0][0]
    assert firings(stack, "daily") == []
    stack.start("scheduler", env=moved(stack, "49h"))
    stack.eventually(lambda: len(firings(stack, "daily")) >= 2)
    assert firings(stack, "daily")[:2] == [(planned, "missed"), (planned + datetime.timedelta(days=1), "missed")]


def test_a_late_scheduler_within_the_grace_is_no_outage(stack):
    add(stack, "soon", cron="* * * * *", missed="skip")
    now = stack.sql("SELECT date_trunc('minute', now())")[0][0]
    stack.sql("UPDATE schedules SET next_slot = %s WHERE name = 'soon'", (now,))
    stack.start("scheduler", env={"SCHEDULE_GRACE_MS": 120000})
    stack.eventually(lambda: firings(stack, "soon")[:1] == [(now, "due")])


def test_a_tenant_who_is_not_active_is_left_alone(stack):
    add(stack, "his", every=200, tenant_id=1, missed="skip")
    stack.sql("UPDATE tenants SET status = 'paused'")
    stack.start("scheduler", env={"SCHEDULE_GRACE_MS": 100})
    add(stack, "ours", every=200)
    stack.eventually(lambda: len(firings(stack, "ours")) > 3)
    assert firings(stack, "his") == []
    stack.sql("UPDATE tenants SET status = 'active'")
    stack.eventually(lambda: "due" in [how for _, how in firings(stack, "his")])
    assert stack.sql("SELECT DISTINCT tenant_id FROM jobs WHERE key = 'schedule/his'") == [(1,)]


def test_a_schedule_that_cannot_be_worked_out_rests(stack):
    stack.expect_errors("a schedule rests")
    add(stack, "mars", cron="0 3 * * *", zone="Mars/Olympus")
    add(stack, "never", cron="0 3 * *")
    add(stack, "good", every=200)
    stack.start("scheduler")
    stack.eventually(lambda: len(firings(stack, "good")) > 2)
    errors = dict(stack.sql("SELECT name, error FROM schedules WHERE error IS NOT NULL"))
    assert "Mars/Olympus" in errors["mars"] and "five fields" in errors["never"] and len(errors) == 2
    status = stack.cli("status", check=False)
    assert status.returncode == 1 and "mars" in status.stdout
    stack.cli("schedules", "set", "mars", "--zone", "Europe/Berlin")
    assert stack.sql("SELECT error, next_slot > now() FROM schedules WHERE name = 'mars'") == [(None, True)]


# ---- built-in ones, and by hand

def test_what_an_operator_has_changed_survives(stack):
    scheduler = stack.start("scheduler")
    mine = "FROM schedules WHERE name = 'probe.nightly'"
    before = stack.eventually(lambda: stack.sql(f"SELECT cron, zone, enabled {mine}"))
    scheduler.sigterm()
    assert before == [("30 2 * * *", "Europe/Berlin", False)]
    stack.cli("schedules", "enable", "probe.nightly")
    stack.cli("schedules", "set", "probe.nightly", "--cron", "@hourly")
    # as if the next release had another idea
    stack.sql("""UPDATE schedules SET default_cron = '1 1 * * *', default_zone = 'Asia/Tokyo', zone = 'Asia/Tokyo'
                 WHERE name = 'probe.nightly'""")
    stack.start("scheduler")
    stack.eventually(lambda: stack.sql(f"SELECT default_cron {mine}") == [("30 2 * * *",)])
    assert stack.sql(f"SELECT cron, zone, enabled {mine}") == [("@hourly", "Europe/Berlin", True)]


def test_by_hand(stack):
    stack.start("scheduler")
    stack.start("probe")
    name = "probe.nightly"
    shown = {row["name"]: row for row in stack.cli_json("schedules", "ls")}
    assert shown[name]["state"] == "disabled" and shown[name]["next_slot"] is None
    job = stack.cli_json("schedules", "fire", name, "--actor", "ann", "--reason", "a try")["job"]
    stack.eventually(lambda: stack.sql("SELECT state FROM jobs WHERE id = %s", (job,)) == [("done",)])
    assert [how for _, how in firings(stack, name)] == ["manual"]

    assert "it has no next slot" in stack.cli("schedules", "skip", name, check=False).stderr
    stack.cli("schedules", "enable", name, "--actor", "ann")
    row, = stack.eventually(lambda: [r for r in stack.cli_json("schedules") if r["name"] == name and r["next_slot"]])
    assert row["job_state"] == "done" and row["last_how"] == "manual" and row["job_id"] == job
    skipped = stack.cli_json("schedules", "skip", name)
    assert skipped[0]["skipped"] == row["next_slot"]
    assert [how for _, how in firings(stack, name)] == ["manual", "skipped"]
    after, = [r["next_slot"] for r in stack.cli_json("schedules", "ls") if r["name"] == name]
    assert after > row["next_slot"]
    stack.cli("schedules", "disable", name)
    said = stack.cli("schedules").stdout
    assert re.search(r"probe.nightly +- +30 2 \* \* \* +Europe/Berlin +disabled", said), said
    audit = stack.sql("SELECT action, actor, target FROM audit_log ORDER BY id")
    assert [row[0] for row in audit] == [f"schedules.{v}" for v in ("fire", "enable", "skip", "disable")]
    assert audit[0][1:] == ("ann", name)


def test_a_skipped_slot_does_not_fire(stack):
    slot = stack.sql("SELECT now()")[0][0]
    add(stack, "soon", cron="0 0 1 1 *", next_slot=slot)
    stack.cli("schedules", "skip", "soon")
    # Back at that slot, as a clock that was put back would be.
    stack.sql("UPDATE schedules SET next_slot = %s WHERE name = 'soon'", (slot,))
    stack.start("scheduler")
    stack.eventually(lambda: stack.sql("SELECT next_slot > %s FROM schedules WHERE name = 'soon'", (slot,)) == [(True,)])
    assert firings(stack, "soon") == [(slot, "skipped")]
    assert stack.sql("SELECT count(*) FROM jobs WHERE key = 'schedule/soon'") == [(0,)]


@pytest.mark.parametrize("words, said", [
    (["fire", "nobody"], 'there is no schedule "nobody"'),
    (["skip", "nobody"], 'there is no schedule "nobody"'),
    (["enable", "nobody"], "see whopline schedules ls"),
    (["set", "it"], "--cron or --zone"),
    (["set", "it", "--cron", "61 * * * *"], "minute: goes from 0 to 59"),
    (["set", "it", "--zone", "Nowhere"], "no such time zone"),
    (["next", "0 0 30 2 *"], "no such day ever comes"),
    (["next", "nothing"], "nor is it a cron"),
    (["next", "@hourly", "--zone", "Nowhere"], "no such time zone"),
    (["next", "@hourly", "--count", "0"], "1 to 1000"),
    (["explode", "it"], "please"),
    (["fire"], "please")])
def test_what_is_refused(stack, words, said):
    add(stack, "it", cron="0 3 * * *", next_slot=datetime.datetime(2030, 1, 1, tzinfo=UTC))
    done = stack.cli("schedules", *words, check=False)
    assert done.returncode != 0 and said in done.stderr, done.stderr
    assert stack.sql("SELECT cron, zone, next_slot FROM schedules") == \
        [("0 3 * * *", "UTC", datetime.datetime(2030, 1, 1, tzinfo=UTC))]
    assert stack.sql("SELECT count(*) FROM audit_log") == [(0,)]


# ---- timers

def test_timers_fire_once_and_not_before(stack):
    stack.sql("""INSERT INTO timers (tenant_id, kind, entity_key, sequence, due_at, payload, version)
                 SELECT 1, 'probe.effect', '1/user' || n, 1, now() + n * interval '10 ms', %s, 1
                 FROM generate_series(1, 500) n""", (wire.pack({"label": "timer"}),))
    stack.sql("""INSERT INTO timers (tenant_id, kind, entity_key, sequence, due_at, payload, version)
                 VALUES (1, 'probe.effect', '1/later', 1, now() + interval '1 day', '', 1)""")
    stack.sql("UPDATE timers SET status = 'cancelled', ended_at = now() WHERE entity_key = '1/user3'")
    for fault in ("before_firing_commit:kill@2", "after_firing_commit:kill@2"):
        stack.start("scheduler", fault=fault, ready=False)
    stack.start("scheduler")
    stack.eventually(lambda: stack.sql("SELECT count(*) FROM timers WHERE status = 'fired'") == [(499,)], 20)
    assert stack.sql("""SELECT count(DISTINCT j.id) FROM jobs j JOIN timers t ON t.job_id = j.id
                        AND t.entity_key = j.key AND j.occurred_at = t.due_at AND j.created_at >= t.due_at""") == [(499,)]
    assert stack.sql("SELECT count(*) FROM jobs WHERE key NOT LIKE 'schedule/%'") == [(499,)]
    assert stack.sql("SELECT status FROM timers WHERE entity_key IN ('1/later', '1/user3') ORDER BY 1") == \
        [("cancelled",), ("pending",)]


def remind(stack, label, number=1):
    """A job that sets a timer, or cancels those there are; what it says it has done."""
    one = str(uuid.uuid4())
    stack.sql("""INSERT INTO jobs (id, tenant_id, queue, kind, key, payload, version, trace, occurred_at)
                 VALUES (%s, 1, 'probe', 'probe.remind', '', %s, 1, '', now())""",
              (one, wire.pack({"label": label, "number": number})))
    stack.eventually(lambda: stack.sql("SELECT state FROM jobs WHERE id = %s", (one,)) == [("done",)])
    return stack.sql("SELECT label FROM probe_effects WHERE job LIKE %s", (one + ".%",))


def test_a_timer_is_set_once_and_cancelled_with_the_work_beside_it(stack):
    stack.start("scheduler")
    stack.start("probe")
    reminded = "SELECT count(*) FROM jobs j JOIN timers t ON t.job_id = j.id WHERE j.key = %s AND j.state = 'done'"
    assert remind(stack, "ann") == [("set",)]
    stack.eventually(lambda: stack.sql(reminded, ("ann",)) == [(1,)])
    assert remind(stack, "ann") == [("known",)]  # also one that has fired
    assert remind(stack, "ann", -1) == [("cancelled 0",)]
    assert remind(stack, "roll back") == [("set",)]  # the first attempt has left nothing
    stack.eventually(lambda: stack.sql(reminded, ("roll back",)) == [(1,)])
    stack.sql("UPDATE tenants SET status = 'reauth_required'")  # his timers wait
    assert [remind(stack, "bob", number) for number in (1, 2, 2)] == [[("set",)], [("set",)], [("known",)]]
    assert remind(stack, "eve") == [("set",)]
    assert remind(stack, "bob", -1) == [("cancelled 2",)]
    stack.sql("UPDATE tenants SET status = 'active'")
    stack.eventually(lambda: stack.sql(reminded, ("eve",)) == [(1,)])
    assert remind(stack, "bob") == [("known",)]  # one that was cancelled is not set again
    assert stack.sql("SELECT count(*), count(job_id) FROM timers WHERE entity_key = 'bob'") == [(2, 0)]
    assert stack.sql("SELECT count(*) FROM probe_effects WHERE label = 'reminded'") == [(3,)]


def test_schedules_in_trouble_do_not_keep_timers_waiting(stack):
    stack.sql("""CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE EXCEPTION 'trouble' USING ERRCODE = '58000'; END $$""")
    stack.sql("CREATE TRIGGER t BEFORE INSERT ON schedule_firings FOR EACH ROW EXECUTE FUNCTION trouble()")
    add(stack, "bad", every=200)
    stack.sql("""INSERT INTO timers (tenant_id, kind, entity_key, sequence, due_at, payload, version)
                 VALUES (1, 'probe.effect', 'k', 1, now() + interval '1 second', '', 1)""")
    job(stack, "j", "8 days", "done")
    stack.start("scheduler", env={"RETENTION_EVERY_MS": 100})
    stack.eventually(lambda: stack.sql("SELECT status FROM timers") == [("fired",)])
    stack.eventually(lambda: "j" not in left(stack))
    assert firings(stack, "bad") == []


def test_a_clock_that_was_ahead_for_a_while(stack):
    add(stack, "daily", cron="0 3 * * *")
    add(stack, "left out", cron="0 3 * * *")
    ahead = "SELECT bool_and(next_slot > now() + %s::interval) FROM schedules WHERE cron = '0 3 * * *'"
    scheduler = stack.start("scheduler", env=moved(stack, "400d"))
    stack.eventually(lambda: stack.sql(ahead, ("399 days",)) == [(True,)])
    scheduler.sigterm()
    stack.sql("""INSERT INTO schedule_firings (schedule_id, slot, how) SELECT id, slot, 'skipped' FROM schedules,
                 (SELECT min(s) AS slot FROM generate_series(date_trunc('day', now() AT TIME ZONE 'UTC') + interval '3 hours',
                   now() AT TIME ZONE 'UTC' + interval '2 days', interval '1 day') s WHERE s > now() AT TIME ZONE 'UTC') x
                 WHERE name = 'left out'""")
    stack.start("scheduler")
    stack.eventually(lambda: stack.sql("SELECT next_slot < now() + interval '1 day' FROM schedules"
                                       " WHERE name = 'daily'") == [(True,)])
    assert stack.sql("SELECT next_slot > now() + interval '1 day' FROM schedules WHERE name = 'left out'") == [(True,)]


# ---- retention

def event(stack, name, age, status="routed", journalled=None):
    stack.sql("""INSERT INTO webhook_events (id, tenant_id, endpoint, kind, type_raw, generation, status, reason,
                   occurred_at, occurred_known, received_at, journalled_at, payload, payload_version, body)
                 VALUES (%s, 1, 'default', 'x', 'x', 'v1', %s, %s, now(), true, now() - %s::interval,
                   now() - %s::interval, '', 1, '')""",
              (name, status, None if status == "routed" else "why", age, journalled or age))


def job(stack, name, age, state, of=None):
    stack.sql("""INSERT INTO jobs (id, event_id, tenant_id, queue, kind, key, payload, version, state, reason, trace,
                   occurred_at, created_at, due_at, finished_at)
                 VALUES (%s, %s, 1, 'probe', 'probe.effect', %s, '', 1, %s, 'why', '', now(), now() - %s::interval,
                   now() + interval '1 year', CASE WHEN %s <> 'queued' THEN now() - %s::interval END)""",
              (str(uuid.uuid4()), of, name, state, age, state, age))


def left(stack):
    return sorted(row[0] for row in stack.sql("SELECT id FROM webhook_events UNION ALL SELECT key FROM jobs")
                  if not row[0].startswith("schedule/"))


def test_retention(stack):
    event(stack, "e late", "99 days", "ignored", "1 day")  # by a clock that was wrong, or after a long wait
    keeps = ["e late", "e young", "e of queued", "e of parked", "e of dead", "e in review", "e odd", "j young", "j queued",
             "j parked", "j dead"]
    for name, age, status in [("e old", "31 days", "routed"), ("e young", "29 days", "routed"),
                              ("e of queued", "99 days", "routed"), ("e of parked", "99 days", "routed"),
                              ("e of dead", "60 days", "routed"), ("e of done", "31 days", "routed"),
                              ("e in review", "99 days", "routed"), ("e ignored", "31 days", "ignored"),
                              ("e odd", "60 days", "quarantined"), ("e old odd", "91 days", "quarantined")]:
        event(stack, name, age, status)
    for name, age, state, of in [("j queued", "99 days", "queued", "e of queued"),
                                 ("j parked", "99 days", "parked", "e of parked"),
                                 ("j dead", "60 days", "dead", "e of dead"), ("j old dead", "91 days", "dead", None),
                                 ("j done", "8 days", "done", "e of done"), ("j skipped", "8 days", "skipped", None),
                                 ("j young", "6 days", "done", None)]:
        job(stack, name, age, state, of)
    stack.sql("""INSERT INTO credit_review (tenant_id, whop_payment_id, reason, event_id)
                 VALUES (1, 'pay_1', 'x', 'e in review')""")
    add(stack, "its", cron="@yearly")
    firings_left = "SELECT count(*) FROM schedule_firings WHERE fired_at < now() - interval '30 days'"
    stack.sql("""INSERT INTO schedule_firings (schedule_id, slot, how, fired_at)
                 SELECT id, now() - n * interval '1 day', 'skipped', now() - n * interval '1 day'
                 FROM schedules, generate_series(1, 40) n WHERE name = 'its'""")
    stack.sql("""INSERT INTO timers (tenant_id, kind, entity_key, sequence, due_at, status, payload, version, ended_at)
                 SELECT 1, 'probe.effect', 'k', n, now() - n * interval '1 day',
                   CASE WHEN n = 39 THEN 'pending' ELSE 'cancelled' END, '', 1,
                   CASE WHEN n <> 39 THEN now() - n * interval '1 day' END FROM generate_series(1, 40) n""")
    stack.sql("UPDATE tenants SET status = 'paused'")  # the pending timer stays one
    stack.start("scheduler", env={"RETENTION_BATCH_ROWS": 3, "RETENTION_EVERY_MS": 100})
    stack.eventually(lambda: left(stack) == sorted(keeps))
    stack.eventually(lambda: stack.sql(firings_left) == [(0,)])
    assert len(firings(stack, "its")) in (29, 30)
    stack.eventually(lambda: stack.sql("SELECT count(*) FROM timers WHERE due_at < now() - interval '31 days'") == [(1,)])
    assert left(stack) == sorted(keeps)


def test_retention_by_the_moved_clock(stack):
    """The same rows, as time goes by; what refers to them goes first."""
    event(stack, "e", "0 days")
    job(stack, "j", "0 days", "done", "e")
    job(stack, "p", "0 days", "parked")
    stack.sql("""INSERT INTO audit_log (actor, action, target) VALUES ('a', 'b', 'c')""")
    for offset, wanted in [("6 days", ["e", "j", "p"]), ("8 days", ["e", "p"]), ("29 days", ["e", "p"]),
                           ("31 days", ["p"]), ("400 days", ["p"])]:
        # The last that a sweep deletes: when it is gone, the sweep has seen all the rest.
        stack.sql("""INSERT INTO timers (tenant_id, kind, entity_key, sequence, due_at, status, payload, version, ended_at)
                     VALUES (1, 'probe.effect', 'canary', 1, '2020-01-01', 'cancelled', '', 1, '2020-01-01')""")
        scheduler = stack.start("scheduler", env=moved(stack, offset.replace(" ", ""), RETENTION_EVERY_MS=50))
        stack.eventually(lambda: stack.sql("SELECT count(*) FROM timers") == [(0,)])
        scheduler.sigterm()
        assert left(stack) == wanted, offset
    assert stack.sql("SELECT count(*) FROM audit_log") == [(1,)]
    assert stack.cli("fsck").returncode == 0


def call(stack, key, age, state="done", job=None, parked=None, tenant=1):
    stack.sql("""INSERT INTO outbound (tenant_id, operation, business_key, policy, state, parked, attempts, job_id, method,
                   target, request, sending_since, sending_until, created_at, updated_at, finished_at)
                 VALUES (%s, 'messages.make', %s, 'verify', %s, %s, 1, %s, 'POST', 'x', '', now() - %s::interval,
                   now() - %s::interval, now() - %s::interval, now() - %s::interval,
                   CASE WHEN %s IN ('done', 'refused') THEN now() - %s::interval END)""",
              (tenant, key, state, parked, job, age, age, age, age, state, age))


def calls_left(stack):
    return sorted(row[0] for row in stack.sql("SELECT business_key FROM outbound"))


def test_retention_of_calls(stack):
    """Longer than any job that could make one again; what is not at its end stays."""
    stack.sql("INSERT INTO tenants (slug, whop_company_id) VALUES ('other', 'biz_0ther')")
    call(stack, "done", "98 days")
    call(stack, "refused", "98 days", "refused")
    call(stack, "young", "96 days")
    for state in ("pending", "sending", "unknown"):
        call(stack, state, "999 days", state)
    call(stack, "parked", "999 days", "unknown", parked="why")
    for state in ("queued", "parked", "dead", "done"):
        job(stack, f"its {state}", "1 hour", state)
        own = stack.sql("SELECT id FROM jobs WHERE key = %s", (f"its {state}",))[0][0]
        call(stack, f"of a {state} job", "98 days", job=own, tenant=2)
    call(stack, "of another's key", "98 days", tenant=2)
    stack.sql("UPDATE jobs SET tenant_id = 2")
    job(stack, "older than that", "99 days", "parked")
    stack.sql("UPDATE jobs SET tenant_id = 2 WHERE key = 'older than that'")
    keeps = ["of a dead job", "of a done job", "of a parked job", "of a queued job", "of another's key", "parked", "pending",
             "sending", "unknown", "young"]
    scheduler = stack.start("scheduler", env={"RETENTION_EVERY_MS": 100, "RETENTION_BATCH_ROWS": 2})
    stack.eventually(lambda: calls_left(stack) == keeps)
    # Once the job of the same key is gone, so is what it could have made again; not so what has a job of its own.
    stack.sql("DELETE FROM jobs WHERE key = 'older than that'")
    keeps.remove("of another's key")
    stack.eventually(lambda: calls_left(stack) == keeps)
    scheduler.sigterm()
    longer = stack.start("scheduler", env={"RETENTION_EVERY_MS": 100, "RETENTION_DEAD_DAYS": 1, "RETENTION_JOBS_DAYS": 80,
                                           "RETENTION_OUTBOUND_MARGIN_DAYS": 10})
    keeps.remove("young")
    stack.eventually(lambda: calls_left(stack) == keeps)
    longer.sigterm()


def test_many_old_rows_go_in_portions(stack):
    stack.sql("""INSERT INTO jobs (id, tenant_id, queue, kind, key, payload, version, state, trace, occurred_at, finished_at)
                 SELECT gen_random_uuid(), 1, 'probe', 'probe.effect', 'k', '', 1, 'done', '', now(), now() - interval '9 days'
                 FROM generate_series(1, 5000)""")
    scheduler = stack.start("scheduler", env={"RETENTION_BATCH_ROWS": 500})
    stack.eventually(lambda: stack.sql("SELECT count(*) FROM jobs WHERE key = 'k'") == [(0,)])
    assert scheduler.running()


# ---- figures

def test_metrics(stack):
    port = harness.free_port()
    add(stack, "often", every=200)
    job(stack, "j", "8 days", "done")
    stack.start("scheduler", env={"WORKER_LISTEN": f"127.0.0.1:{port}"})

    def page():
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            link.request("GET", "/metrics")
            return link.getresponse().read().decode()
        finally:
            link.close()

    def figure(pattern):
        found = re.search("^" + pattern + r" (\S+)", page(), re.MULTILINE)
        return float(found.group(1)) if found else -1

    stack.eventually(lambda: figure(r'whopline_schedule_steps_total\{result="due"\}') >= 3)
    assert figure(r"whopline_schedule_late_seconds_count") >= 3
    assert figure(r"whopline_timers_fired_total") == 0
    stack.eventually(lambda: figure(r'whopline_retention_rows_total\{table="jobs"\}') == 1)
