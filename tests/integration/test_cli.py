"""The operator's command on real stores: what it prints, what it changes, how it ends."""
import base64
import concurrent.futures
import hashlib
import json
import os
import subprocess
import time

import psycopg2
import pytest

import harness
import whop

MIGRATIONS = sorted(path.stem for path in (harness.ROOT / "schema/sql").glob("*.sql"))
BAD_SIGNATURES = ("--wrong-signature", "--wrong-key", "--no-signature", "--tampered", "--stale", "--future")


class Empty:
    """A database without tables of ours, and the command on it."""

    def __init__(self, sockets, name):
        self.sockets, self.name = sockets, name
        self.env = {**harness.clean_environment(), "DATABASE_URL": harness.database_url(sockets, name)}
        self.link = harness.connect(sockets, name)

    def sql(self, query, args=None):
        with self.link.cursor() as cursor:
            cursor.execute(query, args)
            return cursor.fetchall() if cursor.description else []

    def cli(self, *args, env=None):
        done = subprocess.run([harness.BIN / "whopline", *args], env={**self.env, **(env or {})},
                              capture_output=True, text=True, timeout=60 * harness.SLOW, check=False)
        assert not harness.SANITIZER.search(done.stderr), done.stderr
        return done

    def applied(self):
        return [row[0] for row in self.sql("SELECT name FROM schema_migrations ORDER BY number")]


@pytest.fixture
def empty(pg_cluster):
    name = "empty_" + os.urandom(6).hex()
    with harness.connect(pg_cluster).cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        database = Empty(pg_cluster, name)
        yield database
        database.link.close()
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


# ---- migrate --------------------------------------------------------------------------------------

def test_migrating_again_changes_nothing(empty):
    assert empty.cli("migrate", "--check").returncode == 1
    first = empty.cli("migrate")
    assert first.returncode == 0, first.stderr
    rows = empty.sql("SELECT * FROM schema_migrations ORDER BY number")
    assert [row[1] for row in rows] == MIGRATIONS
    for row, name in zip(rows, MIGRATIONS):
        body = (harness.ROOT / f"schema/sql/{name}.sql").read_bytes()
        assert row[2] == hashlib.sha256(body).hexdigest()
        assert f"applied {name}" in first.stdout
    second = empty.cli("migrate")
    assert second.returncode == 0
    assert "applied" not in second.stdout and "up to date" in second.stdout
    assert empty.sql("SELECT * FROM schema_migrations ORDER BY number") == rows
    assert empty.cli("migrate", "--check").returncode == 0


def test_runners_at_once_take_turns(empty):
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        runs = list(threads.map(lambda _: empty.cli("migrate", env={"WHOP_COMPANY_ID": "biz_A"}), range(6)))
    assert [run.returncode for run in runs] == [0] * 6, [run.stderr for run in runs]
    for name in MIGRATIONS:
        assert sum(f"applied {name}" in run.stdout for run in runs) == 1
    assert empty.applied() == MIGRATIONS
    assert empty.sql("SELECT slug, whop_company_id FROM tenants") == [("biz_A", "biz_A")]
    assert sum("made biz_A a tenant" in run.stdout for run in runs) == 1


def test_a_changed_file_is_refused_by_name(empty):
    assert empty.cli("migrate").returncode == 0
    empty.sql("UPDATE schema_migrations SET sha256 = repeat('0', 64) WHERE number = 1")
    for args in (("migrate",), ("migrate", "--check"), ("events",)):
        done = empty.cli(*args)
        assert done.returncode == 1
        assert f"schema/sql/{MIGRATIONS[0]}.sql has changed" in done.stderr


def test_a_gap_is_refused(empty):
    assert empty.cli("migrate").returncode == 0
    empty.sql("DELETE FROM schema_migrations WHERE number = 1")
    done = empty.cli("migrate")
    assert done.returncode == 1
    assert MIGRATIONS[0] in done.stderr and MIGRATIONS[1] in done.stderr
    assert empty.sql("SELECT count(*) FROM schema_migrations") == [(len(MIGRATIONS) - 1,)]


def test_an_unknown_row_before_the_end_is_refused(empty):
    assert empty.cli("migrate").returncode == 0
    last = int(MIGRATIONS[-1].split("_")[0])
    empty.sql("DELETE FROM schema_migrations WHERE number = %s", (last,))
    empty.sql("INSERT INTO schema_migrations VALUES (0, '000_odd', '', now())")
    done = empty.cli("migrate")
    assert done.returncode == 1 and "000_odd" in done.stderr


def test_a_newer_database_is_left_alone_and_may_be_used(empty):
    assert empty.cli("migrate").returncode == 0
    empty.sql("INSERT INTO schema_migrations VALUES (999, '999_future', 'x', now())")
    done = empty.cli("migrate")
    assert done.returncode == 0
    assert "newer than this program" in done.stdout and "999_future" in done.stdout
    used = empty.cli("events")
    assert used.returncode == 0
    assert "level=warning" in used.stderr and "999_future" in used.stderr


def test_a_file_that_fails_leaves_nothing(empty):
    # A table in the way of the second file: the first stays, the second is as if it had not begun.
    empty.sql("CREATE TABLE credit_review (id int)")
    done = empty.cli("migrate")
    assert done.returncode == 1
    assert f"schema/sql/{MIGRATIONS[1]}.sql" in done.stderr and "credit_review" in done.stderr
    assert empty.applied() == MIGRATIONS[:1]
    assert empty.sql("SELECT to_regclass('payments')") == [(None,)]
    empty.sql("DROP TABLE credit_review")
    assert empty.cli("migrate").returncode == 0
    assert empty.applied() == MIGRATIONS


def test_other_commands_say_that_migrate_is_missing(empty):
    for args in (("events",), ("trace", "x"), ("credits", "plans"), ("credits", "show", "u")):
        done = empty.cli(*args)
        assert done.returncode == 1
        assert "whopline migrate" in done.stderr
        assert done.stdout == ""


def test_the_direct_url_is_preferred(empty):
    nowhere = {"DATABASE_URL": "host=/nowhere dbname=x", "DATABASE_DIRECT_URL": empty.env["DATABASE_URL"]}
    assert empty.cli("migrate", env=nowhere).returncode == 0
    down = empty.cli("migrate", env={"DATABASE_URL": "host=/nowhere dbname=x"})
    assert down.returncode == 1 and "cannot connect to PostgreSQL" in down.stderr


# ---- rows as the journal and the credits worker leave them ----------------------------------------

def tenant(stack):
    return stack.sql("SELECT id FROM tenants")[0][0]


def add_event(stack, name, status="routed", reason=None, kind="payment.succeeded", payment=None,
              user="user_1", body=b"{}", age="5 minutes"):
    stack.sql("""INSERT INTO webhook_events (id, tenant_id, endpoint, webhook_id, kind, type_raw, generation,
                   company_id, user_id, membership_id, payment_id, status, reason, occurred_at, occurred_known,
                   received_at, journalled_at, payload, payload_version, body)
                 VALUES ('default/' || %(name)s, %(tenant)s, 'default', %(name)s, %(kind)s, %(kind)s, 'v1',
                   %(company)s, %(user)s, 'mem_1', %(payment)s, %(status)s, %(reason)s,
                   now() - interval %(age)s - interval '3 s', true, now() - interval %(age)s - interval '2 s',
                   now() - interval %(age)s, '', 1, %(body)s)""",
              {"name": name, "tenant": tenant(stack), "kind": kind, "company": whop.COMPANY, "user": user,
               "payment": payment, "status": status, "reason": reason, "age": age, "body": psycopg2.Binary(body)})


def add_job(stack, event, state="done", reason=None, attempts=0):
    return stack.sql("""INSERT INTO jobs (id, event_id, tenant_id, queue, kind, key, payload, version, state,
                          reason, attempts, trace, occurred_at, created_at, relayed_at, finished_at)
                        VALUES (gen_random_uuid(), 'default/' || %s, %s, 'credits', 'credits.payment_succeeded',
                          'k', '', 1, %s, %s, %s, 'trace-1', now(), now() - interval '4 minutes',
                          now() - interval '3 minutes', CASE WHEN %s = 'queued' THEN NULL
                          ELSE now() - interval '2 minutes' END) RETURNING id::text""",
                     (event, tenant(stack), state, reason, attempts, state))[0][0]


def add_payment(stack, payment, event, user="user_1"):
    stack.sql("""INSERT INTO payments (tenant_id, whop_payment_id, whop_user_id, whop_plan_id, status, amount,
                   amount_text, currency, version_at, event_id, created_at)
                 VALUES (%s, %s, %s, 'plan_1', 'paid', 7.5, '7.50', 'usd', now(), 'default/' || %s,
                   now() - interval '130 s')""", (tenant(stack), payment, user, event))


def add_grant(stack, payment, event, credits=5000, user="user_1", flag=None):
    account = stack.sql("""INSERT INTO credit_accounts (tenant_id, owner_id, credits_balance) VALUES (%s, %s, %s)
                           RETURNING id""", (tenant(stack), user, credits))[0][0]
    stack.sql("""INSERT INTO credit_transactions (tenant_id, account_id, kind, credits, amount, balance_after, source_type,
                   source_id, whop_payment_id, actor, reason, flag, event_id, created_at)
                 VALUES (%s, %s, 'topup', %s, %s, %s, 'payment', %s, %s, 'whopline-credits', 'payment.succeeded', %s,
                   'default/' || %s, now() - interval '125 s')""",
              (tenant(stack), account, credits, credits, credits, payment, payment, flag, event))


def add_review(stack, payment, event, reason="unknown_plan"):
    stack.sql("""INSERT INTO credit_review (tenant_id, whop_payment_id, reason, event_id)
                 VALUES (%s, %s, %s, 'default/' || %s)""", (tenant(stack), payment, reason, event))


@pytest.fixture
def history(stack):
    """One of each fate."""
    add_event(stack, "msg_paid", payment="pay_1", body=b'{"secret":"of a customer"}')
    stack.job = add_job(stack, "msg_paid")
    add_payment(stack, "pay_1", "msg_paid")
    add_grant(stack, "pay_1", "msg_paid")
    add_event(stack, "msg_again", payment="pay_1", age="4 minutes")
    add_job(stack, "msg_again", "skipped", "already_granted")
    add_event(stack, "msg_odd", payment="pay_2", user="user_2", age="3 minutes")
    add_job(stack, "msg_odd", "done", "in review: unknown_plan")
    add_payment(stack, "pay_2", "msg_odd", "user_2")
    add_review(stack, "pay_2", "msg_odd")
    add_event(stack, "msg_other", "quarantined", "other_company", user="user_3", age="2 minutes")
    add_event(stack, "msg_test", "ignored", "test", user=None, age="1 minutes")
    add_event(stack, "msg_plain", "ignored", "nothing_to_do", "membership.activated", user="user_4", age="50 seconds")
    add_event(stack, "msg_free", payment="pay_4", user="user_4", age="45 seconds")
    add_job(stack, "msg_free", "skipped", "free_payment")
    add_event(stack, "msg_dead", payment="pay_5", user="user_5", age="40 seconds")
    add_job(stack, "msg_dead", "dead", "exhausted", attempts=12)
    add_event(stack, "msg_busy", payment="pay_6", user="user_6", age="10 seconds")
    add_job(stack, "msg_busy", "queued")
    return stack


OUTCOMES = {
    "default/msg_paid": "granted 5,000 credits to user_1",
    "default/msg_again": "duplicate: already granted",
    "default/msg_odd": "in review: unknown_plan",
    "default/msg_other": "quarantined: other_company",
    "default/msg_test": "ignored: test",
    "default/msg_plain": "kept, nothing to do",
    "default/msg_free": "nothing to do: free_payment",
    "default/msg_dead": "dead: exhausted",
    "default/msg_busy": "running",
}


# ---- events ---------------------------------------------------------------------------------------

def test_events_say_what_became_of_them(history):
    found = history.cli_json("events")
    assert {event["id"]: event["outcome"] for event in found} == OUTCOMES
    assert [event["id"] for event in found] == list(reversed(OUTCOMES)), "newest first"
    people = history.cli("events", "list").stdout
    for name, outcome in OUTCOMES.items():
        assert any(name in line and outcome in line for line in people.splitlines()), people
    assert "secret" not in people
    assert "\033" not in people


FILTERS = (
    (["--kind", "membership.activated"], ["msg_plain"]),
    (["--status", "quarantined"], ["msg_other"]),
    (["--status", "ignored"], ["msg_plain", "msg_test"]),
    (["--status", "dead"], ["msg_dead"]),
    (["--status", "parked"], []),
    (["--status", "done"], ["msg_free", "msg_odd", "msg_again", "msg_paid"]),
    (["--status", "running"], ["msg_busy"]),
    (["--user", "user_1"], ["msg_again", "msg_paid"]),
    (["--payment", "pay_1"], ["msg_again", "msg_paid"]),
    (["--tenant", whop.COMPANY, "--limit", "1"], ["msg_busy"]),
    (["--tenant", "biz_nobody"], []),
)


def test_events_are_filtered(history):
    for args, names in FILTERS:
        assert [event["id"] for event in history.cli_json("events", *args)] == ["default/" + n for n in names], args


def test_events_show(history):
    for name in ("msg_paid", "default/msg_paid"):
        shown = history.cli("events", "show", name).stdout
        assert "granted 5,000 credits to user_1" in shown
        assert history.job in shown and "credits.payment_succeeded" in shown
        assert "of a customer" not in shown
    assert '{"secret":"of a customer"}' in history.cli("events", "show", "msg_paid", "--body").stdout
    shown = history.cli_json("events", "show", "msg_paid", "--body")
    assert base64.b64decode(shown["body_base64"]) == b'{"secret":"of a customer"}'
    assert [job["state"] for job in shown["event"]["jobs"]] == ["done"]
    assert "body_base64" not in history.cli_json("events", "show", "msg_paid")
    assert "it caused no jobs" in history.cli("events", "show", "msg_plain").stdout
    missing = history.cli("events", "show", "msg_nobody", check=False)
    assert missing.returncode == 1 and "msg_nobody" in missing.stderr


MAC = "146338dddc6e75051e6e5fc86adf62adbb09eeadffd2f75b6a08c8f94bac1c10"


def test_long_ids_are_cut_where_people_read_and_understood_so(stack):
    add_event(stack, "mac:" + MAC, payment="pay_1")
    add_job(stack, "mac:" + MAC)
    short = "default/mac:" + MAC[:12]
    for args in (("events",), ("trace", "pay_1"), ("trace", short)):
        people = stack.cli(*args).stdout
        assert short in people and short + MAC[12] not in people, args
    assert stack.cli_json("events")[0]["id"] == "default/mac:" + MAC
    for name in (short, short + MAC[12:20], "mac:" + MAC[:12], "default/mac:" + MAC):
        assert stack.cli_json("events", "show", name)["event"]["id"] == "default/mac:" + MAC
        assert stack.cli_json("trace", name), name
    assert "default/mac:" + MAC in stack.cli("events", "show", short).stdout

    add_event(stack, "mac:" + MAC[:20] + "0" * 44)
    for verb in (("events", "show"), ("trace",)):
        several = stack.cli(*verb, short, check=False)
        assert several.returncode == 2 and "several events begin with" in several.stderr
        assert stack.cli(*verb, "mac:" + MAC[:21]).returncode == 0
        assert stack.cli(*verb, "mac:0123", check=False).returncode == 1


def test_tenants_are_named_where_there_are_several(history):
    assert "TENANT" not in history.cli("events").stdout
    history.sql("INSERT INTO tenants (slug, whop_company_id) VALUES ('second', 'biz_second')")
    people = history.cli("events").stdout
    assert "TENANT" in people and whop.COMPANY in people


def test_control_characters_never_reach_the_terminal(stack):
    add_event(stack, "msg_evil", kind="\033]0;owned\a\u009b31m")
    for args in (("events",), ("events", "show", "msg_evil"), ("trace", "msg_evil")):
        shown = stack.cli(*args).stdout
        assert "owned" in shown
        assert not any(ord(c) < 32 and c != "\n" or 127 <= ord(c) < 160 for c in shown)


def test_words_are_parameters_never_sql(history):
    evil = "x' OR '1'='1"
    assert history.cli_json("events", "--user", evil) == []
    assert history.cli("trace", evil, check=False).returncode == 1


# ---- trace ----------------------------------------------------------------------------------------

STORY = [
    ("event", "happened at Whop: payment.succeeded"),
    ("event", "received by endpoint default, generation v1"),
    ("event", "journalled: routed"),
    ("job", "credits.payment_succeeded created for default/msg_paid"),
    ("job", "given to Redis, queue credits"),
    ("payment", "paid, 7.50 usd, plan plan_1, user user_1"),
    ("ledger", "+5,000 credits (topup) for user_1, balance 5,000, by payment pay_1"),
    ("job", "done"),
]


def test_trace_tells_the_story_in_order(history):
    for what in ("default/msg_paid", "msg_paid", "pay_1", "mem_1", "user_1", history.job):
        steps = history.cli_json("trace", what)
        times = [step["at"] for step in steps]
        assert times == sorted(times), what
        mine = ("default/msg_paid", history.job, "pay_1")
        told = [(step["what"], step["text"]) for step in steps if step["id"] in mine or step["what"] == "ledger"]
        assert told == STORY, what
        people = history.cli("trace", what).stdout
        assert all(text in people for _, text in STORY), what


def test_trace_of_a_membership_in_every_shape(stack):
    stack.up("ingest", "journal")
    for shape in whop.SHAPES:
        for event in ("membership.activated", "membership.deactivated"):
            body = whop.membership(shape, id=f"mem_{shape}", user="user_of_all", event=event)
            assert whop.send(stack, body) == 200, (shape, event)
    stack.eventually(lambda: len(stack.cli_json("events", "--user", "user_of_all")) == 2 * len(whop.SHAPES))
    found = stack.cli_json("events", "--user", "user_of_all")
    assert "journalled" in stack.cli("trace", "mem_v2").stdout
    assert sorted((event["membership_id"], event["kind"]) for event in found) == sorted(
        (f"mem_{shape}", kind) for shape in whop.SHAPES for kind in ("membership.activated", "membership.deactivated"))


def test_trace_of_what_went_otherwise(history):
    assert "in review: unknown_plan" in history.cli("trace", "pay_2").stdout
    assert "journalled: quarantined, other_company" in history.cli("trace", "msg_other").stdout
    assert "dead: exhausted, failed attempts before: 12" in history.cli("trace", "user_5").stdout
    assert "still queued" in history.cli("trace", "pay_6").stdout
    nothing = history.cli("trace", "pay_nobody", check=False)
    assert nothing.returncode == 1 and "nothing is known about pay_nobody" in nothing.stderr
    assert history.cli_json("trace", "pay_nobody") == []


# ---- status ---------------------------------------------------------------------------------------

def status(stack, code, **how):
    done = stack.cli("status", "--json", check=False, **how)
    assert done.returncode == code, done
    assert stack.cli("status", check=False, **how).returncode == code
    return json.loads(done.stdout)


def test_status_fine(stack):
    add_event(stack, "msg_plain", kind="membership.activated")
    found = status(stack, 0)
    assert found["status"] == "fine"
    assert found["postgresql"]["tenants"][0]["last_event_kind"] == "membership.activated"
    assert 300 <= found["postgresql"]["tenants"][0]["last_event_age_s"] < 400


def test_status_attention(history):
    found = status(history, 1)
    assert found["postgresql"]["jobs"] == {"queued": 1, "unrelayed": 0, "parked": 0, "dead": 1}
    assert {(row["what"], row["reason"], row["count"]) for row in found["postgresql"]["attention"]} == {
        ("job dead", "exhausted", 1), ("event quarantined", "other_company", 1),
        ("payment in review", "unknown_plan", 1)}
    assert found["postgresql"]["held"] == []
    add_event(history, "msg_other_too", "quarantined", "other_company")
    people = history.cli("status", check=False).stdout
    for line in ("2 events quarantined (other_company): whopline events --status quarantined",
                 "1 job dead (exhausted): whopline jobs ls --state dead",
                 "1 payment in review (unknown_plan): whopline credits review list",
                 "0 unrelayed (not yet in Redis)"):
        assert line in people


def test_status_counts_the_queues(stack):
    redis = stack.redis.client()
    stream = "wl:{0}:q:credits"
    for number in range(3):
        redis.xadd(stream, {"id": number})
    redis.xgroup_create(stream, "g", 0)
    redis.xreadgroup("g", "me", {stream: ">"}, count=1)
    redis.zadd(stream + ":z", {"a": 1, "b": 2})
    credits = [queue for queue in status(stack, 0)["redis"]["queues"] if queue["queue"] == "credits"][0]
    assert (credits["waiting"], credits["running"], credits["delayed"]) == (2, 1, 2)
    assert 0 <= credits["oldest_s"] < 60


def test_status_says_who_may_not_be_running(stack):
    redis = stack.redis.client()
    redis.xadd("wl:{0}:events", {"id": "x"}, id=f"{(int(time.time()) - 300) * 1000}-0")
    assert "queue events has been there for 5 min: is its worker running?" in stack.cli("status", check=False).stdout
    status(stack, 1)
    redis.flushall()
    status(stack, 0)
    add_event(stack, "msg_1", payment="pay_1")
    job = add_job(stack, "msg_1", "queued")
    status(stack, 0)
    stack.sql("UPDATE jobs SET relayed_at = NULL, due_at = now() - interval '5 minutes' WHERE id = %s", (job,))
    assert "whopline-scheduler" in stack.cli("status", check=False).stdout
    status(stack, 1)


def test_status_broken_shows_the_rest(history):
    history.redis.client().xadd("wl:{0}:events:dead", {"id": "x"})
    found = status(history, 2)
    assert found["redis"]["dead_events"] == 1
    history.redis.stop()
    found = status(history, 2)
    assert found["redis"]["ok"] is False and found["postgresql"]["ok"] is True
    assert "payment in review" in history.cli("status", check=False).stdout
    history.redis.start()
    found = status(history, 2, env={"DATABASE_URL": "host=/nowhere dbname=x"})
    assert found["postgresql"]["ok"] is False and found["redis"]["ok"] is True


# ---- credits --------------------------------------------------------------------------------------

def test_credits_show(history):
    shown = history.cli("credits", "show", "user_1").stdout
    assert "balance 5,000" in shown and "payment pay_1" in shown
    account, = history.cli_json("credits", "show", "user_1")
    assert account["balance"] == 5000 and [row["amount"] for row in account["ledger"]] == [5000]
    assert history.cli("credits", "show", "user_nobody", check=False).returncode == 1


def test_plans_are_added_retired_and_added_again(stack):
    add = ("credits", "plans", "add", "--plan", "plan_a", "--name", "Starter", "--credits")
    stack.cli(*add, "5000", "--price", "7.50", "--currency", "USD", "--pack-id", "pack_a")
    assert stack.sql("""SELECT credits_amount, price_cents, currency, pack_id, credits_when_free,
                          valid_from = '-infinity' FROM whop_plans""") == [(5000, 750, "usd", "pack_a", False, True)]
    again = stack.cli(*add, "6000", check=False)
    assert again.returncode == 1 and "retire it first" in again.stderr
    taken = stack.cli("credits", "plans", "add", "--plan", "plan_b", "--name", "B", "--credits", "1",
                      "--pack-id", "pack_a", check=False)
    assert taken.returncode == 1 and "plan_a" in taken.stderr
    stack.cli("credits", "plans", "retire", "--plan", "plan_a")
    assert stack.cli("credits", "plans", "retire", "--plan", "plan_a", check=False).returncode == 1
    stack.cli(*add, "6000", "--pack-id", "pack_a", "--free-too")
    rows = stack.sql("SELECT credits_amount, valid_from, valid_to, credits_when_free FROM whop_plans ORDER BY id")
    assert [row[0] for row in rows] == [5000, 6000] and rows[1][3] is True
    assert stack.sql("""SELECT a.valid_to <= b.valid_from AND b.valid_to = 'infinity'
                        FROM whop_plans a, whop_plans b WHERE a.id < b.id""") == [(True,)]
    assert [plan["credits"] for plan in stack.cli_json("credits", "plans", "list")] == [5000, 6000]


def test_wrong_plans_are_refused(stack):
    right = ["credits", "plans", "add", "--plan", "p", "--name", "n", "--credits", "1"]
    for wrong in (["--credits", "-1"], ["--credits", "x"], ["--price", "7.505", "--currency", "usd"],
                  ["--price", "1.5", "--currency", "jpy"], ["--price", "1"], ["--currency", "usd"], ["extra"]):
        assert stack.cli(*right, *wrong, check=False).returncode == 2, wrong
    assert stack.sql("SELECT count(*) FROM whop_plans") == [(0,)]


def test_review_list(history):
    review, = history.cli_json("credits", "review", "list")
    assert (review["payment_id"], review["reason"], review["user_id"]) == ("pay_2", "unknown_plan", "user_2")
    assert "unknown_plan" in history.cli("credits", "review").stdout


# ---- words ----------------------------------------------------------------------------------------

WRONG_USAGE = (
    ["stauts"], ["status", "now"], ["events", "shwo"], ["events", "--limit", "0"], ["events", "--status", "lost"], ["events", "show"],
    ["trace"], ["trace", "a", "b"], ["credits"], ["credits", "plan"], ["credits", "plans", "ad"], ["credits", "show"], ["orders", "lst"], ["orders", "show"], ["send"], ["send", "--count", "0", "x"],
    ["send", "payment.suceeded"], ["send", "payment.succeeded", "--amount", "1.2.3"], ["send", "payment.succeeded", "--set", "x"],
    ["queue", "halt"], ["queue", "pause", "credits"], ["workers", "all"], ["jobs", "lst"], ["jobs", "show"], ["jobs", "ls", "x"],
    ["jobs", "requeue"], ["jobs", "drop", "--all"], ["jobs", "ls", "--since", "noon"], ["events", "dead", "kill"],
    ["audit", "all"], ["tenants", "addd"], ["tenants", "pause", "x"], ["tenants", "resume"], ["fsck", "now"], ["fsck", "--yes"], ["rebuild", "now"],
    ["migrate", "--now"], ["sample", "--timeout", "0"], ["config"], ["config", "all"],
)


def test_wrong_usage_ends_with_2_and_one_line(stack):
    for args in WRONG_USAGE:
        done = stack.cli(*args, check=False)
        assert done.returncode == 2, args
        assert done.stdout == "" and done.stderr.count("\n") == 1 and done.stderr.startswith("whopline"), args


def test_help_and_version(stack):
    assert "did you mean \"status\"" in stack.cli("stauts", check=False).stderr
    whole = stack.cli("--help").stdout
    for name in ("status", "events", "trace", "credits", "send", "migrate", "sample", "config", "jobs", "queue", "workers",
                 "fsck", "rebuild", "audit", "tenants", "orders"):
        assert name in whole
        assert stack.cli("help", name).stdout == stack.cli(name, "--help").stdout
    assert stack.cli("--version").stdout.startswith("whopline ")


def test_secrets_are_never_shown(stack):
    for args in (["config", "check"], ["status"], ["send", "payment.succeeded"], ["help", "settings"]):
        done = stack.cli(*args, check=False)
        assert whop.SECRET not in done.stdout + done.stderr
    check = stack.cli("config", "check", check=False, env={"WHOP_WEBHOOK_SECRET": "changeme-please"})
    assert check.returncode == 1
    assert "WHOP_WEBHOOK_SECRET" in check.stdout and "please" not in check.stdout


# ---- sample -----------------------------------------------------------------------------------------

def test_sample_shows_what_became_of_each(stack):
    stack.up()
    for _ in range(2):
        shown = {row["sent"]: row["outcome"] for row in stack.cli_json("sample", "--timeout", "30", timeout=60)}
        assert shown == {
            "payment, v1": "granted 5,000 credits to user_ada",
            "payment, v1 with flat ids": "granted 25,000 credits to user_ben",
            "payment, v5": "granted 5,000 credits to user_cleo",
            "payment, v2": "granted 25,000 credits to user_dan",
            "the first payment again, new id": "duplicate: already granted",
            "membership begins": "done",
            "membership, short v2 body": "done",
            "payment by pack, short v2 body": "granted 1,000 credits to user_123456789",
            "payment for an unknown plan": "in review: unknown_plan",
            "payment without a user": "in review: unknown_user",
            "event of another company": "quarantined: other_company",
            "kind nobody knows": "kept, unknown kind",
            "test from the dashboard": "ignored: test",
        }
    assert stack.sql("SELECT count(*) FROM whop_plans") == [(3,)]
    assert stack.sql("SELECT DISTINCT flag FROM credit_transactions") == [(None,)]
    wrong = stack.sql("""SELECT p.whop_payment_id, p.amount, w.price_cents FROM payments p
                         JOIN credit_transactions c ON c.source_id = p.whop_payment_id
                         JOIN whop_plans w ON w.id = c.plan_id WHERE p.amount * 100 <> w.price_cents""")
    assert wrong == []
    status(stack, 1)


def test_sample_says_what_has_not_run_its_course(stack):
    stack.start("ingest")
    done = stack.cli("sample", "--timeout", "1", check=False)
    assert done.returncode == 1
    assert "13 of 13 events have not run their course" in done.stderr and "not in the journal yet" in done.stderr


# ---- send -----------------------------------------------------------------------------------------

def samples():
    names = (path.name[:-len(".json")] for path in sorted((harness.ROOT / "schema/samples").glob("*.json")))
    return [name.rsplit(".", 1) for name in names]


def test_send_lists_what_it_can_send(stack):
    assert [[row["kind"], row["generation"]] for row in stack.cli_json("send", "--list")] == samples()


def test_send_explains_the_generations(stack):
    for text in (stack.cli("send", "--list").stdout, stack.cli("send", "--help").stdout):
        assert "membership.went_valid (v5, v2) is" in text and "aliases" in text
        assert all(f"\n  {generation} " in text for generation in {generation for _, generation in samples()})


def test_send_prints_the_ids_that_are_in_the_body(stack):
    stack.start("ingest")
    heads, row = stack.cli("send", "membership.activated", "--membership", "mem_own").stdout.splitlines()
    assert "mem_own" in row and "MEMBERSHIP" in heads and "PAYMENT" not in heads and "pay_" not in row
    heads, row = stack.cli("send", "refund.created", "--payment", "pay_own", "--generation", "v5").stdout.splitlines()
    assert "pay_own" in row and "REFUND" in heads and "rf_" in row
    assert len(row.split()[1]) == len("default/mac:") + 12
    sent, = stack.cli_json("send", "payment.succeeded", "--set", "data.user=null")
    assert sent["payment"].startswith("pay_") and sent["user"] is None and sent["refund"] is None


def test_send_knows_the_older_names(stack):
    stack.start("ingest")
    for kind, generation, type_sent in (("membership.activated", "v5", "membership.went_valid"),
                                        ("membership.went_valid", "v1", "membership.activated"),
                                        ("membership.went_valid", "v5", "membership.went_valid")):
        # A user of its own: the same body signed in the same second would be the same event.
        sent, = stack.cli_json("send", kind, "--generation", generation, "--user", f"user_{kind[11:]}_{generation}")
        assert (sent["status"], sent["generation"]) == (200, generation)
        (_, fields), = stack.redis.client().xrevrange("wl:{0}:events", count=1)
        assert any(f'"{type_sent}"'.encode() in value for value in fields.values())


def test_send_says_what_may_have_been_meant(stack):
    done = stack.cli("send", "payment.suceeded", check=False)
    assert done.returncode == 2 and "did you mean payment.succeeded?" in done.stderr
    done = stack.cli("send", "membership.activated", "--generation", "v9", check=False)
    assert done.returncode == 2 and "v1-flat" in done.stderr and "v5" in done.stderr
    assert stack.cli("send", "nothing.like_it", check=False).returncode == 2


def test_send_goes_nowhere_else(stack):
    done = stack.cli("send", "payment.succeeded", "--url", "http://192.0.2.1:9/", check=False)
    assert done.returncode == 1 and "--allow-remote" in done.stderr
    done = stack.cli("send", "payment.succeeded", "--url", "https://127.0.0.1/", check=False)
    assert done.returncode == 2 and "TLS" in done.stderr
    done = stack.cli("send", "payment.succeeded", check=False)
    assert done.returncode == 1 and "whopline-ingest" in done.stderr


def test_every_sample_is_accepted(stack):
    stack.start("ingest")
    for kind, generation in samples():
        sent, = stack.cli_json("send", kind, "--generation", generation)
        assert sent["status"] == 200
    assert stack.redis.client().xlen("wl:{0}:events") == len(samples())


def test_every_bad_form_is_refused(stack):
    stack.start("ingest")
    for generation in ("v1", "v5"):
        for fault in BAD_SIGNATURES:
            sent, = stack.cli_json("send", "payment.succeeded", "--generation", generation, fault)
            assert sent["status"] == 401, (generation, fault)
    assert stack.redis.client().xlen("wl:{0}:events") == 0
    assert stack.cli("send", "payment.succeeded", "--stale", "--expect", "200", check=False).returncode == 1
    assert stack.cli("send", "payment.succeeded", "--expect", "401", check=False).returncode == 1


def test_one_id_many_times_at_once_is_one_event(stack):
    stack.start("ingest")
    sent = stack.cli_json("send", "payment.succeeded", "--id", "msg_ten", "--payment", "pay_ten",
                          "--count", "10", "--parallel", "10")
    assert [event["status"] for event in sent] == [200] * 10
    assert {event["event"] for event in sent} == {"default/msg_ten"}
    assert stack.redis.client().xlen("wl:{0}:events") == 1
    stack.cli("send", "payment.succeeded", "--count", "50", "--parallel", "4", "--quiet")
    assert stack.redis.client().xlen("wl:{0}:events") == 51


def test_a_body_from_a_file_keeps_its_id(stack, tmp_path):
    stack.start("ingest")
    body = tmp_path / "body.json"
    body.write_text(json.dumps(whop.payment(webhook_id="msg_from_file")), encoding="utf-8")
    sent, = stack.cli_json("send", "--from", body)
    assert (sent["status"], sent["webhook_id"]) == (200, "msg_from_file")
    (_, fields), = stack.redis.client().xrange("wl:{0}:events")
    assert body.read_bytes() in fields.values()
