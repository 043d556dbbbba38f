"""The job runtime as itself: leases, retries, dead and parked jobs, stores that go away.

Jobs are put in as rows, as an operator or another worker would; the scheduler relays them.
"""
import re
import signal
import time
import uuid

import psycopg2
import pytest

import harness
import whop
import wire

KIND = "credits.payment_succeeded"
STREAM = "wl:{0}:q:credits"
PLAN, CREDITS = "plan_runtime", 7


def put(stack, payment, kind=KIND, version=1, payload=None, plan=PLAN, age="1 hour"):
    """A queued job, old enough for the next sweep; its id."""
    if payload is None:
        payload = wire.pack({"id": f"default/{payment}", "payment": payment, "user": "user_runtime",
                          "plan": plan, "amount": "10.00", "kind": "payment.succeeded"})
    job = str(uuid.uuid4())
    stack.sql("""INSERT INTO jobs (id, event_id, tenant_id, queue, kind, key, payload, version, trace,
                                   occurred_at, created_at)
                 SELECT %s, %s, id, 'credits', %s, '1/user_runtime', %s, %s, %s, now(),
                        now() - %s::interval FROM tenants LIMIT 1""",
              (job, f"default/{payment}", kind, payload, version, payment, age))
    return job


def add_plan(stack):
    stack.sql("""INSERT INTO whop_plans (tenant_id, whop_plan_id, plan_name, credits_amount)
                 SELECT id, %s, 'Runtime', %s FROM tenants LIMIT 1""", (PLAN, CREDITS))


def state(stack, job):
    return stack.sql("SELECT state, reason, attempts FROM jobs WHERE id = %s", (job,))[0]


def count(stack, wanted):
    return stack.sql("SELECT count(*) FROM jobs WHERE state = %s", (wanted,))[0][0]


def balance(stack):
    return stack.sql("SELECT COALESCE(sum(credits_balance), 0) FROM credit_accounts")[0][0]


def is_empty(stack):
    """Nothing of the queue is left in Redis: no entry, no delayed job, no key of a job."""
    redis = stack.redis.client()
    return (redis.xlen(STREAM) == 0 and redis.zcard(STREAM + ":z") == 0
            and redis.hlen(STREAM + ":d") == 0 and not redis.keys("wl:{0}:seen:*"))


def test_a_killed_workers_jobs_run_elsewhere(stack):
    add_plan(stack)
    for number in range(40):
        put(stack, f"pay_killed_{number}")
    stack.start("scheduler")
    first = stack.start("credits", fault="before_pg_commit:kill@1")
    first.wait_exit()
    done = count(stack, "done")
    assert done < 40
    started = time.monotonic()
    stack.start("credits")
    stack.eventually(lambda: count(stack, "done") == 40, timeout=20)
    # The lease, one reclaim period, one lease without reclaiming, and what else takes its time.
    assert time.monotonic() - started < 2.5 * harness.SETTINGS["LEASE_MS"] / 1000 + 8 * harness.SLOW
    assert balance(stack) == 40 * CREDITS
    stack.eventually(lambda: is_empty(stack))


def test_sigterm_gives_back_what_has_not_begun(stack):
    add_plan(stack)
    first = stack.start("credits", env={"SLOTS": 1, "LEASE_MS": 60000})
    stack.start("scheduler")
    first.wait_log("msg=working")
    for number in range(300):
        put(stack, f"pay_term_{number}")
    stack.eventually(lambda: count(stack, "done") > 0)
    assert first.sigterm() == 0
    # Nothing is left under its name: the next one need not wait for the lease.
    pending = stack.redis.client().xpending(STREAM, "g")["pending"]
    assert pending == 0
    stack.start("credits")
    stack.eventually(lambda: count(stack, "done") == 300, timeout=20)
    assert balance(stack) == 300 * CREDITS


def test_a_second_signal_ends_at_once(stack):
    add_plan(stack)
    proc = stack.start("credits")
    proc.wait_log("msg=working")
    # A job that hangs in PostgreSQL holds the worker up.
    with psycopg2.connect(stack.env["DATABASE_URL"]) as link, link.cursor() as cursor:
        cursor.execute("LOCK TABLE payments IN ACCESS EXCLUSIVE MODE")
        stack.start("scheduler")
        put(stack, "pay_hangs")
        stack.eventually(lambda: stack.redis.client().xpending(STREAM, "g")["pending"] == 1)
        proc.sigterm(wait=False)
        proc.heard(signal.SIGTERM)
        proc.send(signal.SIGTERM, 1)
        assert proc.wait_exit() == 1
        link.rollback()
    link.close()


def test_what_does_not_end_in_time_is_given_back(stack):
    add_plan(stack)
    proc = stack.start("credits", env={"SHUTDOWN_GRACE_MS": 300, "LEASE_MS": 60000})
    proc.wait_log("msg=working")
    with psycopg2.connect(stack.env["DATABASE_URL"]) as link, link.cursor() as cursor:
        cursor.execute("LOCK TABLE payments IN ACCESS EXCLUSIVE MODE")
        stack.start("scheduler")
        put(stack, "pay_slow")
        stack.eventually(lambda: stack.redis.client().xpending(STREAM, "g")["pending"] == 1)
        assert proc.sigterm() == 0
        assert stack.redis.client().xpending(STREAM, "g")["pending"] == 0
        link.rollback()
    link.close()
    stack.start("credits")
    stack.eventually(lambda: count(stack, "done") == 1)
    assert balance(stack) == CREDITS


def test_postgresql_away_burns_no_attempt(stack):
    add_plan(stack)
    proc = stack.start("credits")
    stack.start("scheduler")
    proc.wait_log("msg=working")
    for number in range(20):
        put(stack, f"pay_away_{number}")
    stack.eventually(lambda: count(stack, "done") == 20)
    with psycopg2.connect(stack.env["DATABASE_URL"].replace(stack.database, "postgres")) as link:
        link.autocommit = True
        with link.cursor() as cursor:
            for number in range(20, 40):
                put(stack, f"pay_away_{number}")
            stack.eventually(lambda: stack.sql(
                "SELECT count(*) FROM jobs WHERE relayed_at IS NOT NULL")[0][0] > 20)
            stack.db().close()
            cursor.execute(f'ALTER DATABASE "{stack.database}" ALLOW_CONNECTIONS false')
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                           (stack.database,))
            time.sleep(2)
            assert proc.running()
            cursor.execute(f'ALTER DATABASE "{stack.database}" ALLOW_CONNECTIONS true')
    link.close()
    stack.eventually(lambda: count(stack, "done") == 40, timeout=20)
    assert stack.sql("SELECT max(attempts) FROM jobs") == [(0,)]
    assert balance(stack) == 40 * CREDITS


def test_what_cannot_be_understood_dies_with_its_bytes(stack):
    add_plan(stack)
    stack.expect_errors("msg=dead")
    stack.start("scheduler")
    stack.start("credits")
    garbage = put(stack, "pay_garbage", payload=b"\xc1\x00\xff")
    newer = put(stack, "pay_newer", version=99)
    nameless = put(stack, "pay_nameless", payload=wire.pack({"kind": "payment.succeeded"}))
    fine = put(stack, "pay_fine")
    stack.eventually(lambda: count(stack, "dead") == 3)
    stack.eventually(lambda: state(stack, fine)[0] == "done")
    assert state(stack, garbage)[1]
    assert "version" in state(stack, newer)[1]
    assert "names no payment" in state(stack, nameless)[1]
    assert bytes(stack.sql("SELECT payload FROM jobs WHERE id = %s", (garbage,))[0][0]) == b"\xc1\x00\xff"
    stack.eventually(lambda: is_empty(stack))


def test_an_entry_without_a_row_is_set_aside(stack):
    add_plan(stack)
    stack.expect_errors("msg=dead")
    redis = stack.redis.client()
    stack.start("scheduler")
    proc = stack.start("credits")
    proc.wait_log("msg=working")
    redis.xadd(STREAM, {"what": "is this"})
    redis.xadd(STREAM, {"id": "not-a-uuid.0", "job": wire.envelope(kind=KIND, payload=b"junk")})
    fine = put(stack, "pay_beside")
    stack.eventually(lambda: redis.xlen("wl:{0}:events:dead") == 2)
    stack.eventually(lambda: state(stack, fine)[0] == "done")
    entries = [fields for _, fields in redis.xrange("wl:{0}:events:dead")]
    entries.sort(key=lambda fields: b"job" in fields and b"junk" in fields[b"job"])  # two slots, any order
    assert entries[0][b"what"] == b"is this" and entries[0][b"reason"]
    assert b"junk" in entries[1][b"job"] and entries[1][b"reason"]
    assert redis.xlen(STREAM) == 0


def test_a_job_of_an_unknown_kind_waits_for_a_release_that_knows_it(stack):
    stack.start("scheduler")
    stack.start("credits")
    add_plan(stack)
    unknown = put(stack, "pay_unknown", kind="credits.of_tomorrow")
    fine = put(stack, "pay_known")
    stack.eventually(lambda: state(stack, fine)[0] == "done")
    assert state(stack, unknown) == ("queued", None, 0)


def test_counted_failures_end_in_dead(stack):
    stack.expect_errors("msg=dead")
    add_plan(stack)
    stack.sql("ALTER TABLE payments RENAME TO payments_gone")
    stack.start("scheduler")
    stack.start("credits", env={"MAX_ATTEMPTS": 3})
    job = put(stack, "pay_fails")
    stack.eventually(lambda: state(stack, job)[0] == "dead")
    _, reason, attempts = state(stack, job)
    assert reason.startswith("exhausted: ") and attempts == 3
    stack.eventually(lambda: is_empty(stack))


def test_a_failure_that_heals_is_tried_again(stack):
    add_plan(stack)
    stack.sql("ALTER TABLE payments RENAME TO payments_gone")
    stack.start("scheduler")
    proc = stack.start("credits", env={"MAX_ATTEMPTS": 100})
    job = put(stack, "pay_heals")
    proc.wait_log('msg="put off"')
    stack.sql("ALTER TABLE payments_gone RENAME TO payments")
    stack.eventually(lambda: state(stack, job)[0] == "done")
    assert state(stack, job)[2] > 0
    assert balance(stack) == CREDITS


def test_old_jobs_are_parked_not_tried_for_ever(stack):
    add_plan(stack)
    stack.sql("ALTER TABLE payments RENAME TO payments_gone")
    stack.start("scheduler")
    redis = stack.redis.client()
    job = put(stack, "pay_old")
    stack.eventually(lambda: redis.xlen(STREAM) == 1)
    # As if it had been in Redis for four days.
    (entry, fields), = redis.xrange(STREAM)
    fields[b"job"] = wire.envelope(**{**wire.read_envelope(fields[b"job"]),
                                      "enqueued_ms": int((time.time() - 4 * 86400) * 1000)})
    redis.xdel(STREAM, entry)
    redis.xadd(STREAM, fields)
    stack.start("credits")
    stack.eventually(lambda: state(stack, job)[0] == "parked")
    assert state(stack, job)[1].startswith("expired: ")


def test_poison_is_set_aside(stack):
    stack.expect_errors("msg=dead")
    add_plan(stack)
    stack.start("scheduler")
    job = put(stack, "pay_poison")
    for _ in range(3):
        proc = stack.start("credits", env={"MAX_DELIVERIES": 3, "LEASE_MS": 300}, fault="before_pg_commit:kill")
        proc.wait_exit()
    stack.start("credits", env={"MAX_DELIVERIES": 3, "LEASE_MS": 300})
    stack.eventually(lambda: state(stack, job)[0] == "dead", timeout=20)
    assert "poison" in state(stack, job)[1]
    assert balance(stack) == 0
    fine = put(stack, "pay_after_poison")
    stack.eventually(lambda: state(stack, fine)[0] == "done")


def test_poison_takes_nobody_with_it(stack):
    """Whatever ran beside the culprit is counted too, but from the third start on it runs alone."""
    stack.expect_errors("msg=dead")
    add_plan(stack)
    stack.sql("""CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   IF NEW.whop_payment_id = 'pay_poison' THEN
                     SET application_name = 'poison'; PERFORM pg_sleep(60);
                   END IF;
                   PERFORM pg_sleep(0.3); RETURN NEW; END $$;
                 CREATE TRIGGER dawdle BEFORE INSERT ON payments FOR EACH ROW EXECUTE FUNCTION dawdle()""")
    stack.start("scheduler")
    poison = put(stack, "pay_poison")
    fine = [put(stack, f"pay_innocent_{number}") for number in range(12)]

    def poison_runs():
        """Seen from PostgreSQL."""
        return stack.sql("""SELECT pid FROM pg_stat_activity WHERE datname = current_database()
                            AND application_name = 'poison'""")

    deaths = 0
    while state(stack, poison)[0] == "queued":
        worker = stack.start("credits", env={"LEASE_MS": 400, "READ_BLOCK_MS": 50})
        stack.eventually(lambda: poison_runs() or state(stack, poison)[0] == "dead", timeout=20)
        if state(stack, poison)[0] == "queued":
            worker.kill9()
            deaths += 1
            stack.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                      " WHERE datname = current_database() AND wait_event = 'PgSleep'")
            stack.eventually(lambda: not poison_runs())
    assert deaths == 5  # MAX_DELIVERIES
    stack.eventually(lambda: all(state(stack, job)[0] == "done" for job in fine), timeout=20)
    assert "poison" in state(stack, poison)[1]
    assert balance(stack) == 12 * CREDITS


def test_redis_restarts(stack):
    add_plan(stack)
    stack.start("scheduler")
    proc = stack.start("credits")
    proc.wait_log("msg=working")
    for round_number in range(3):
        stack.redis.kill9()
        put(stack, f"pay_restart_{round_number}")
        time.sleep(0.3)
        stack.redis.start()
        stack.eventually(lambda n=round_number: count(stack, "done") == n + 1, timeout=15)
    assert balance(stack) == 3 * CREDITS


def test_flushall_is_noticed_and_repaired(stack):
    add_plan(stack)
    # Never stale: only the lost epoch can bring the jobs back.
    stack.start("scheduler", env={"RELAY_STALE_MS": 3600000})
    for number in range(50):
        put(stack, f"pay_flush_{number}")
    redis = stack.redis.client()
    stack.eventually(lambda: redis.xlen(STREAM) == 50)
    redis.flushall()
    stack.start("credits")
    stack.eventually(lambda: count(stack, "done") == 50, timeout=20)
    assert balance(stack) == 50 * CREDITS
    # A worker whose group vanishes under it makes it again.
    redis.flushall()
    put(stack, "pay_flush_again")
    stack.eventually(lambda: count(stack, "done") == 51, timeout=20)


def test_a_lost_retry_is_offered_again(stack):
    """Killed before RETRY: the lease runs out; the job is not lost and not doubled."""
    add_plan(stack)
    stack.sql("ALTER TABLE payments RENAME TO payments_gone")
    stack.start("scheduler")
    proc = stack.start("credits", fault="before_retry:kill")
    job = put(stack, "pay_retry_lost")
    proc.wait_exit()
    stack.sql("ALTER TABLE payments_gone RENAME TO payments")
    stack.start("credits")
    stack.eventually(lambda: state(stack, job)[0] == "done", timeout=20)
    assert balance(stack) == CREDITS


def test_a_scheduler_dies_before_it_notes_what_it_relayed(stack):
    add_plan(stack)
    first = stack.start("scheduler", fault="after_enqueue_before_mark:kill")
    job = put(stack, "pay_unmarked")
    first.wait_exit()
    assert stack.redis.client().xlen(STREAM) == 1
    assert stack.sql("SELECT relayed_at FROM jobs") == [(None,)]
    stack.start("scheduler")
    stack.start("credits")
    stack.eventually(lambda: state(stack, job)[0] == "done")
    assert balance(stack) == CREDITS
    stack.eventually(lambda: is_empty(stack))


def test_two_workers_share_a_queue(stack):
    add_plan(stack)
    stack.start("scheduler")
    for _ in range(2):
        stack.start("credits").wait_log("msg=working")
    for number in range(400):
        put(stack, f"pay_share_{number}")
    stack.eventually(lambda: count(stack, "done") == 400, timeout=30)
    assert balance(stack) == 400 * CREDITS
    assert len(stack.sql("SELECT 1 FROM credit_transactions")) == 400
    stack.eventually(lambda: is_empty(stack))


def test_refused_at_start(stack):
    """Each refusal says what to change."""
    stack.expect_errors("cannot start")
    redis = stack.redis.client()
    for setting, wrong, right in (("appendonly", "no", "yes"), ("appendfsync", "everysec", "always"),
                                  ("no-appendfsync-on-rewrite", "yes", "no"),
                                  ("maxmemory-policy", "allkeys-lru", "noeviction")):
        redis.config_set(setting, wrong)
        proc = stack.start("credits", ready=False)
        proc.allowed.add(1)
        assert proc.wait_exit() == 1
        assert setting in proc.log()
        redis.config_set(setting, right)
    stack.sql("UPDATE schema_migrations SET sha256 = 'changed' WHERE number = 1")
    for name in ("credits", "journal", "scheduler"):
        proc = stack.start(name, ready=False)
        proc.allowed.add(1)
        assert proc.wait_exit() == 1
        assert "001_events" in proc.log()


def test_every_wrong_setting_is_named_at_once(stack):
    env = {"DATABASE_URL": "", "REDIS_URL": "", "SLOTS": "many", "LEASE_MS": "5", "LOG_LEVEL": "loud",
           "ALLOW_VOLATILE_REDIS": "perhaps", "STREAM_PREFIX": "a{b}"}
    proc = stack.start("credits", env=env, ready=False)
    proc.allowed.add(2)
    assert proc.wait_exit() == 2
    for name in env:
        assert name in proc.log(), name


# ---- What a hostile reading found -----------------------------------------------------------------

def cut_connections(stack):
    stack.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
              " WHERE datname = current_database() AND pid <> pg_backend_pid()")


def test_a_worker_started_while_redis_is_full_works(stack):
    """XGROUP CREATE is refused for want of memory, even where the group exists."""
    add_plan(stack)
    redis = stack.redis.client()
    stack.start("scheduler")
    first = stack.start("credits")
    put(stack, "pay_before")
    stack.eventually(lambda: count(stack, "done") == 1)
    first.sigterm()
    job = put(stack, "pay_full")
    stack.eventually(lambda: redis.xlen(STREAM) == 1)
    redis.config_set("maxmemory", 1)
    proc = stack.start("credits")
    proc.wait_log("cannot create the consumer group")
    # Reading and DONE need no memory: a full Redis is drained by exactly this.
    stack.eventually(lambda: state(stack, job)[0] == "done")
    redis.config_set("maxmemory", 0)


def test_a_refused_verdict_is_said_again_without_haste(stack):
    add_plan(stack)
    stack.expect_errors("Redis refused a verdict", "cannot read jobs")
    redis = stack.redis.client()
    proc = stack.start("credits")
    stack.start("scheduler")
    with psycopg2.connect(stack.env["DATABASE_URL"]) as link, link.cursor() as cursor:
        cursor.execute("LOCK TABLE payments IN ACCESS EXCLUSIVE MODE")
        put(stack, "pay_refused")
        stack.eventually(lambda: redis.xpending(STREAM, "g")["pending"] == 1)
        redis.config_set("min-replicas-to-write", 1)
        link.rollback()
    link.close()
    proc.wait_log("Redis refused a verdict")
    time.sleep(2)
    redis.config_set("min-replicas-to-write", 0)
    assert len(re.findall("Redis refused a verdict", proc.log())) < 10
    stack.eventually(lambda: is_empty(stack))


def test_a_read_only_postgresql_costs_no_event(stack):
    """A standby after a failover, or a managed server with a full disk, answers 25006."""
    add_plan(stack)
    redis = stack.redis.client()
    stack.start("ingest")
    journal = stack.start("journal", env={"MAX_ATTEMPTS": 2})
    journal.wait_log("msg=working")
    # In this order, for our own session is read-only from the first on.
    stack.sql(f'ALTER DATABASE "{stack.database}" SET default_transaction_read_only = on')
    cut_connections(stack)
    assert whop.send(stack, whop.payment(id="pay_readonly")) == 200
    journal.wait_log("read-only transaction")
    time.sleep(1)
    stack.sql("SET default_transaction_read_only = off")
    stack.sql(f'ALTER DATABASE "{stack.database}" RESET default_transaction_read_only')
    cut_connections(stack)
    stack.eventually(lambda: stack.sql("SELECT count(*) FROM webhook_events") == [(1,)])
    assert redis.xlen("wl:{0}:events:dead") == 0


def test_an_event_outlives_a_broken_schema(stack):
    """It has no row to be dead in: it is tried until it can be kept."""
    add_plan(stack)
    stack.start("ingest")
    journal = stack.start("journal", env={"MAX_ATTEMPTS": 2})
    journal.wait_log("msg=working")
    stack.sql("ALTER TABLE webhook_events RENAME TO gone")
    assert whop.send(stack, whop.payment(id="pay_patient")) == 200
    stack.eventually(lambda: len(re.findall('msg="put off"', journal.log())) >= 4)
    stack.sql("ALTER TABLE gone RENAME TO webhook_events")
    stack.eventually(lambda: stack.sql("SELECT count(*) FROM webhook_events") == [(1,)])


REFUSE = """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = {}; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION refuse()"""


def test_a_buried_event_can_be_sent_again(stack):
    add_plan(stack)
    stack.expect_errors("msg=dead")
    redis = stack.redis.client()
    stack.start("ingest")
    stack.start("journal")
    stack.sql(REFUSE.format("'not this one'", "webhook_events"))
    body = whop.payment(id="pay_buried")
    assert whop.send(stack, body) == 200
    stack.eventually(lambda: redis.xlen("wl:{0}:events:dead") == 1)
    (_, fields), = redis.xrange("wl:{0}:events:dead")
    assert fields[b"body"] and b"not this one" in fields[b"reason"]
    stack.sql("DROP TRIGGER refuse ON webhook_events")
    assert whop.send(stack, body) == 200
    stack.eventually(lambda: stack.sql("SELECT count(*) FROM webhook_events") == [(1,)])


@pytest.mark.parametrize("message", ["repeat('é', 200)", "'x' || repeat('é', 200)", "repeat('€', 200)"])
def test_a_reason_is_cut_between_characters(stack, message):
    add_plan(stack)
    stack.expect_errors("msg=dead")
    stack.sql(REFUSE.format(message, "payments"))
    stack.start("scheduler")
    stack.start("credits")
    job = put(stack, "pay_accent")
    stack.eventually(lambda: state(stack, job)[0] == "dead")
    assert state(stack, job)[1].startswith("PostgreSQL: ")


def waits_for_a_lock(stack):
    return stack.sql("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


def test_the_scheduler_ends_although_postgresql_does_not_answer(stack):
    proc = stack.start("scheduler")
    proc.wait_log("msg=working")
    with psycopg2.connect(stack.env["DATABASE_URL"]) as link, link.cursor() as cursor:
        cursor.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        stack.eventually(lambda: waits_for_a_lock(stack))
        proc.sigterm(wait=False)
        proc.heard(signal.SIGTERM)
        proc.send(signal.SIGTERM, 1)
        assert proc.wait_exit(5) == 1
        link.rollback()
    link.close()


def test_a_redis_that_hides_itself_is_refused(stack):
    redis = stack.redis.client()
    redis.execute_command("ACL", "SETUSER", "default", "-info")
    stack.expect_errors("cannot start")
    proc = stack.start("credits", ready=False)
    proc.allowed.add(1)
    assert proc.wait_exit() == 1
    redis.execute_command("ACL", "SETUSER", "default", "+info")


def test_reading_goes_on_after_each_pause(stack):
    add_plan(stack)
    stack.start("scheduler")
    stack.start("credits", env={"LEASE_MS": 60000, "SLOTS": 1})
    for number in range(6):
        cut_connections(stack)
        put(stack, f"pay_pause_{number}")
        stack.eventually(lambda n=number: count(stack, "done") == n + 1, timeout=8)


def test_attempts_and_age_outlive_redis(stack):
    add_plan(stack)
    stack.sql("ALTER TABLE payments RENAME TO payments_gone")
    redis = stack.redis.client()
    stack.start("scheduler")
    proc = stack.start("credits", env={"MAX_ATTEMPTS": 1000})
    job = put(stack, "pay_ages", age="3 hours")
    stack.eventually(lambda: state(stack, job)[2] >= 2)
    proc.sigterm()
    known = state(stack, job)[2]
    redis.flushall()
    stack.eventually(lambda: redis.xlen(STREAM) == 1)
    (_, fields), = redis.xrange(STREAM)
    envelope = wire.read_envelope(fields[b"job"])
    assert envelope["attempt"] == known
    assert time.time() - envelope["enqueued_ms"] / 1000 > 3 * 3600 - 60


def test_the_sweep_does_not_read_what_is_finished(stack):
    stack.sql("""INSERT INTO jobs (id, tenant_id, queue, kind, key, payload, version, state, trace,
                                   occurred_at, finished_at, relayed_at)
                 SELECT gen_random_uuid(), (SELECT id FROM tenants LIMIT 1), 'credits', %s, 'k', '', 1,
                        'done', 't', now(), now(), now() FROM generate_series(1, 20000)""", (KIND,))
    stack.sql("ANALYZE jobs")
    queued = "SELECT id FROM jobs WHERE state = 'queued' AND kind = ANY (ARRAY['a', 'b']) AND "
    for which in (
            "NOT bulk AND relayed_at IS NULL AND due_at <= whopline_now() ORDER BY due_at LIMIT 500",
            "relayed_at <= whopline_now() - interval '10 min' ORDER BY relayed_at LIMIT 500",
            "bulk AND relayed_at IS NULL AND tenant_id = 1 AND due_at <= whopline_now()"
            " ORDER BY due_at, id LIMIT 100",
            "bulk AND relayed_at IS NOT NULL AND tenant_id = 1"):
        plan = stack.sql("EXPLAIN " + queued + which)
        assert not [line for line, in plan if "Seq Scan" in line], which


def pending(stack, deliveries, *payments):
    """Jobs whose worker died long ago, with so many deliveries each; their ids."""
    redis = stack.redis.client()
    jobs = [put(stack, payment) for payment in payments]
    redis.xgroup_create(STREAM, "g", id="0", mkstream=True)
    for job, payment in zip(jobs, payments):
        now = int(time.time() * 1000)
        redis.xadd(STREAM, {"id": f"{job}.0", "job": wire.envelope(
            kind=KIND, occurred_ms=now, enqueued_ms=now, trace=payment,
            payload=stack.sql("SELECT payload FROM jobs WHERE id = %s", (job,))[0][0])})
    for _, entries in redis.xreadgroup("g", "dead:1:x", {STREAM: ">"}, count=len(jobs)):
        for entry, _ in entries:
            redis.execute_command("XCLAIM", STREAM, "g", "dead:1:x", 0, entry, "IDLE", 600000,
                                  "RETRYCOUNT", deliveries)
    return jobs


def test_poison_keeps_its_count_while_postgresql_cannot_take_the_verdict(stack):
    add_plan(stack)
    stack.expect_errors("msg=dead")
    job, = pending(stack, 5, "pay_poison_waits")
    worker = stack.start("credits", env={"LEASE_MS": 300})
    stack.sql(f'ALTER DATABASE "{stack.database}" SET default_transaction_read_only = on')
    cut_connections(stack)
    worker.wait_log("could not be written")
    stack.sql(f'SET default_transaction_read_only = off; ALTER DATABASE "{stack.database}"'
              ' RESET default_transaction_read_only')
    cut_connections(stack)
    stack.eventually(lambda: state(stack, job)[0] != "queued", timeout=20)
    assert state(stack, job)[0] == "dead" and balance(stack) == 0


def test_a_job_that_hangs_does_not_stop_reading_for_a_suspects_sake(stack):
    add_plan(stack)
    stack.sql("""CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   IF NEW.whop_payment_id = 'pay_hang' THEN PERFORM pg_advisory_xact_lock(7); END IF;
                   RETURN NEW; END $$;
                 CREATE TRIGGER hang BEFORE INSERT ON payments FOR EACH ROW EXECUTE FUNCTION hang()""")
    with psycopg2.connect(stack.env["DATABASE_URL"]) as link, link.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(7)")
        suspect, = pending(stack, 2, "pay_suspect")
        stack.start("scheduler")
        hanging = put(stack, "pay_hang")
        worker = stack.start("credits", env={"LEASE_MS": 500, "READ_BLOCK_MS": 50})
        worker.wait_log("run alone")
        late = put(stack, "pay_late")
        stack.eventually(lambda: state(stack, late)[0] == "done", timeout=15)
        assert state(stack, hanging)[0] == "queued"
        link.rollback()
    link.close()
    stack.eventually(lambda: {state(stack, job)[0] for job in (suspect, hanging)} == {"done"}, timeout=20)
    assert balance(stack) == 3 * CREDITS


def test_a_statement_that_is_always_cancelled_counts(stack):
    add_plan(stack)
    stack.expect_errors("msg=dead")
    stack.sql("""CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   PERFORM pg_sleep(5); RETURN NEW; END $$;
                 CREATE TRIGGER slow BEFORE INSERT ON payments FOR EACH ROW EXECUTE FUNCTION slow()""")
    stack.sql(f"""ALTER DATABASE "{stack.database}" SET statement_timeout = '100ms'""")
    stack.start("scheduler")
    stack.start("credits", env={"MAX_ATTEMPTS": 3})
    job = put(stack, "pay_slow_statement")
    stack.eventually(lambda: state(stack, job)[0] == "dead", timeout=20)
    assert state(stack, job)[1].startswith("exhausted: ")
