"""A signed payment becomes credits: once, whatever happens on the way."""
import concurrent.futures
import json
import threading

import pytest

import whop

PLAN, PACK, CREDITS = "plan_T3stMonthly01", "pack_popular", 500
USER = "user_T3stMarisol01"
OTHER_COMPANY = "biz_T3stSomebodyElse"


# ---- What the tests look at -----------------------------------------------------------------------

def add_plan(stack, plan=PLAN, credits=CREDITS, pack=PACK):
    stack.sql("""INSERT INTO whop_plans (tenant_id, whop_plan_id, pack_id, plan_name, credits_amount)
                 SELECT id, %s, %s, 'Popular', %s FROM tenants WHERE whop_company_id = %s""",
              (plan, pack, credits, whop.COMPANY))


def grants(stack, payment):
    """The amounts that were credited for a payment: one, when all is well."""
    return [int(row[0]) for row in stack.sql(
        """SELECT amount FROM credit_transactions
           WHERE kind = 'topup' AND source_type = 'payment' AND source_id = %s""", (payment,))]


def balance(stack, user=USER):
    rows = stack.sql("SELECT credits_balance FROM credit_accounts WHERE owner_id = %s", (user,))
    return int(rows[0][0]) if rows else 0


def reviews(stack, payment):
    return [row[0] for row in stack.sql(
        "SELECT reason FROM credit_review WHERE whop_payment_id = %s AND state = 'open'", (payment,))]


def events(stack):
    return stack.sql("SELECT count(*) FROM webhook_events")[0][0]


def settle(stack, timeout=20):
    stack.eventually(stack.at_rest, timeout)


def assert_granted_once(stack, payment, timeout=20):
    stack.eventually(lambda: grants(stack, payment), timeout)
    settle(stack, timeout)
    assert grants(stack, payment) == [CREDITS]
    assert balance(stack) == CREDITS
    assert not stack.sql("SELECT 1 FROM jobs WHERE state IN ('parked', 'dead') OR state = 'queued' AND queue = 'credits'")
    assert stack.sql("SELECT count(*) FROM jobs WHERE state = 'done' AND queue = 'credits'") == [(1,)]


# ---- The plain way --------------------------------------------------------------------------------

def test_a_signed_payment_becomes_credits(stack):
    add_plan(stack)
    stack.up()
    assert whop.send(stack, whop.payment(id="pay_plain")) == 200
    assert_granted_once(stack, "pay_plain")
    status, = stack.sql("SELECT status FROM webhook_events")
    assert status == ("routed",)


def test_what_is_not_whops_is_refused(stack):
    add_plan(stack)
    stack.up()
    body = whop.payment(id="pay_forged")
    assert whop.send(stack, body, secret="ws_" + "0" * 64) == 401
    assert whop.send(stack, body, scheme="none") == 401
    assert whop.send(stack, body, timestamp=1) == 401
    assert whop.send(stack, body, path="/nowhere") == 404
    assert b" 400 " in whop.raw(stack, b"POST /webhooks/whop HTTP/1.1\nHost: x\n\n")
    settle(stack)
    assert events(stack) == 0


def test_an_unknown_kind_is_kept_and_left_alone(stack):
    stack.up()
    body = whop.payment(id="pay_kind")
    body["type"] = "kite.flown"
    assert whop.send(stack, body) == 200
    stack.eventually(lambda: events(stack) == 1)
    assert stack.sql("SELECT status, kind FROM webhook_events") == [("ignored", "kite.flown")]
    settle(stack)


def test_pack_id_finds_the_plan_when_the_plan_is_unknown(stack):
    add_plan(stack)
    stack.up()
    body = whop.payment(id="pay_pack", plan="plan_T3stUnheardOf", metadata={"packId": PACK, "credits": "999999"})
    assert whop.send(stack, body) == 200
    assert_granted_once(stack, "pay_pack")


# ---- C. The same thing again and again ------------------------------------------------------------

def test_one_event_ten_times_at_once_then_replayed(stack):
    add_plan(stack)
    stack.up()
    body = whop.payment(id="pay_ten", webhook_id="msg_ten")
    with concurrent.futures.ThreadPoolExecutor(10) as threads:
        assert set(threads.map(lambda _: whop.send(stack, body), range(10))) == {200}
    assert_granted_once(stack, "pay_ten")
    assert events(stack) == 1

    assert whop.send(stack, whop.payment(id="pay_ten", webhook_id="msg_ten_again")) == 200
    stack.eventually(lambda: events(stack) == 2)
    assert_granted_once(stack, "pay_ten")


def test_one_payment_in_four_shapes(stack):
    add_plan(stack)
    stack.up()
    for number, shape in enumerate(whop.SHAPES, 1):
        assert whop.send(stack, whop.payment(shape, id="pay_shapes")) == 200, shape
        stack.eventually(lambda: events(stack) == number)
        assert_granted_once(stack, "pay_shapes")


@pytest.mark.parametrize("shape", whop.SHAPES)
def test_each_shape_alone_is_enough(stack, shape):
    add_plan(stack)
    stack.up()
    assert whop.send(stack, whop.payment(shape, id="pay_alone")) == 200
    assert_granted_once(stack, "pay_alone")


def test_what_cannot_be_credited_is_kept_for_a_person(stack):
    add_plan(stack)
    stack.up()
    assert whop.send(stack, whop.payment(id="pay_no_plan", plan="plan_T3stUnheardOf", metadata={})) == 200
    assert whop.send(stack, whop.payment(id="pay_no_user", user=None)) == 200
    assert whop.send(stack, whop.payment(id="pay_other", company=OTHER_COMPANY)) == 200
    stack.eventually(lambda: events(stack) == 3)
    settle(stack)

    assert len(reviews(stack, "pay_no_plan")) == 1
    assert len(reviews(stack, "pay_no_user")) == 1
    assert stack.sql("SELECT count(*) FROM webhook_events WHERE status = 'quarantined'") == [(1,)]
    assert stack.sql("SELECT count(*) FROM credit_transactions") == [(0,)]
    kept = {row[0] for row in stack.sql("SELECT whop_payment_id FROM payments")}
    assert kept == {"pay_no_plan", "pay_no_user"}
    status = stack.cli("status", "--json", check=False)
    assert status.returncode == 1  # somebody should look
    attention = json.loads(status.stdout)["postgresql"]["attention"]
    assert {(item["what"], item["reason"], item["count"]) for item in attention} == {
        ("event quarantined", "other_company", 1), ("payment in review", "unknown_plan", 1),
        ("payment in review", "unknown_user", 1)}


# ---- D. Deaths at the worst moment ----------------------------------------------------------------

DEATHS = [(process, fault) for process in ("journal", "credits") for fault in (
    "before_pg_commit:kill", "pg_commit_reply_lost:kill", "after_pg_commit:kill",
    "before_done:kill", "done_reply_lost:kill@1")]
DEATHS.append(("journal", "after_enqueue_before_mark:kill"))


@pytest.mark.parametrize("process, fault", DEATHS)
def test_a_worker_dies(stack, process, fault):
    add_plan(stack)
    for name in ("ingest", "journal", "credits", "scheduler"):
        stack.start(name, fault=fault if name == process else None)
    assert whop.send(stack, whop.payment(id="pay_death")) == 200
    assert stack.proc(process).wait_exit() == -9
    stack.start(process)
    assert_granted_once(stack, "pay_death", 30)


@pytest.mark.parametrize("process", ["journal", "credits"])
@pytest.mark.parametrize("fault", ["before_pg_commit:fail@1", "pg_commit_reply_lost:fail@1",
                                   "done_reply_lost:fail@1"])
def test_a_reply_is_lost_and_the_worker_lives(stack, process, fault):
    add_plan(stack)
    for name in ("ingest", "journal", "credits", "scheduler"):
        stack.start(name, fault=fault if name == process else None)
    assert whop.send(stack, whop.payment(id="pay_reply")) == 200
    assert_granted_once(stack, "pay_reply")


def test_ingest_dies_before_it_can_answer(stack):
    add_plan(stack)
    stack.up("journal", "credits", "scheduler")
    ingest = stack.start("ingest", fault="after_accept_before_200:kill")
    body = whop.payment(id="pay_unanswered", webhook_id="msg_unanswered")
    with pytest.raises(OSError):
        whop.send(stack, body)
    assert ingest.wait_exit() == -9
    stack.start("ingest")
    assert whop.send(stack, body) == 200  # as the sender does when it got no answer
    assert_granted_once(stack, "pay_unanswered")
    assert events(stack) == 1


def test_redis_forgets_everything_after_the_commit(stack):
    add_plan(stack)
    stack.up("ingest")
    journal = stack.start("journal", fault="after_pg_commit:kill")
    assert whop.send(stack, whop.payment(id="pay_flushed")) == 200
    assert journal.wait_exit() == -9
    stack.redis.client().flushall()
    stack.up("journal", "credits", "scheduler")
    assert_granted_once(stack, "pay_flushed", 30)


@pytest.mark.limit(180)
def test_redis_is_killed_under_load(stack):
    add_plan(stack)
    stack.up()
    # Redis is away for a moment: that may be an error to those who need it.
    stack.expect_errors("edis")
    total, senders = 2000, 8
    acknowledged, lock = [], threading.Lock()

    def deliver(first):
        sender = whop.Sender(stack)
        for number in range(first, total, senders):
            payment = f"pay_load{number}"
            try:
                answered = sender.send(whop.payment(id=payment, user=f"user_load{number}"))
            except OSError:
                answered = None  # no answer is no promise
                sender.close()
            if answered == 200:
                with lock:
                    acknowledged.append(payment)

    with concurrent.futures.ThreadPoolExecutor(senders) as threads:
        running = [threads.submit(deliver, first) for first in range(senders)]
        stack.eventually(lambda: len(acknowledged) > total / 4, 60)
        stack.redis.kill9()
        stack.redis.start()
        for each in running:
            each.result()
    assert len(acknowledged) > total / 2

    def missing():
        granted = {row[0] for row in stack.sql(
            "SELECT source_id FROM credit_transactions WHERE source_type = 'payment'")}
        return set(acknowledged) - granted

    stack.eventually(lambda: not missing(), 60)
    settle(stack, 30)
    twice = stack.sql("SELECT source_id FROM credit_transactions GROUP BY source_id HAVING count(*) > 1")
    assert twice == []
    wrong = stack.sql("SELECT source_id FROM credit_transactions WHERE amount <> %s", (CREDITS,))
    assert wrong == []
