"""What is shown of credits: workers tell what they settled, each for itself, and the scheduler how
things stand; both by the numbers that the ledger has."""
import datetime
import time

import pytest

import test_metrics
import test_orders
import whop
from ledger import CREDITS, Shop, dispute, failed, paid, put_jobs, refund, seen
from test_metrics import metrics

NAMES = ("credits_granted_total", "credit_grants_total", "credit_duplicates_total", "credits_reversed_total",
         "credits_restored_total", "credit_latency_seconds_count", "credit_latency_seconds_sum")
NOTHING = {"credits_granted_total": 0, "credit_grants_total": 0, "credit_duplicates_total": 0,
           "credits_reversed_total": {"refund": 0, "dispute_hold": 0, "dispute_loss": 0},
           "credits_restored_total": {"refund_reversal": 0, "dispute_release": 0, "dispute_loss": 0},
           "credit_latency_seconds_count": 0, "credit_latency_seconds_sum": 0}


def shown(*workers):
    """What they have counted together."""
    total = {}
    for found in map(metrics, workers):
        for name in NAMES:
            for labels, value in found[name].items():
                total[name, labels] = total.get((name, labels), 0) + value
    figures = {}
    for (name, labels), value in total.items():
        if labels:
            figures.setdefault(name, {})[labels.split('"')[1]] = value
        else:
            figures[name] = value
    return figures


def ago(seconds):
    return int((time.time() - seconds) * 1000)


def hours_ago(hours):
    return datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=hours)


def test_workers_say_what_they_settled(stack):
    shop = Shop(stack, ("credits", "scheduler"))
    workers = [stack.proc("credits"), stack.start("credits")]
    assert shown(*workers) == NOTHING
    shop.tell_at_once(*[paid(f"pay_{n}", paid_ms=ago(100)) for n in range(40)])
    shop.tell(paid("pay_untimed"))
    shop.tell_at_once(paid("pay_0"), paid("pay_1"), paid("pay_1"), paid("pay_2"), seen("pay_2"))
    shop.tell(paid("pay_who", user=None), failed("pay_failed"), seen("pay_free", amount="0"))  # nothing is granted
    shop.tell(refund("pay_0", "2.50"), refund("pay_0", "2.50"), seen("pay_0", refunded="5.00"))
    shop.tell(dispute("pay_1"), dispute("pay_1"), dispute("pay_1", "won"))
    shop.tell(dispute("pay_2"), dispute("pay_2", "lost"), dispute("pay_2", "won"))
    found = shown(*workers)
    late = found.pop("credit_latency_seconds_sum")
    assert found == {
        "credits_granted_total": 41 * CREDITS, "credit_grants_total": 41, "credit_duplicates_total": 4,
        "credits_reversed_total": {"refund": 50, "dispute_hold": 2 * CREDITS, "dispute_loss": CREDITS},
        "credits_restored_total": {"refund_reversal": 0, "dispute_release": 2 * CREDITS, "dispute_loss": CREDITS},
        "credit_latency_seconds_count": 40,
    }
    assert 40 * 100 <= late < 40 * 200
    buckets = metrics(workers[0])["credit_latency_seconds_bucket"]
    assert buckets['le="60"'] == 0 and 'le="86400"' in buckets
    # The ledger has the same.
    assert stack.sql("""SELECT sum(credits) FILTER (WHERE kind = 'topup'), -sum(credits) FILTER (WHERE kind <> 'topup')
                        FROM credit_transactions""") == [(41 * CREDITS, 50)]
    stats, = stack.cli_json("credits", "stats")
    assert stats["grants"]["automatic"] == 41 and stats["paid_to_ledger_seconds"]["payments"] == 40
    assert set(NAMES) <= test_metrics.documented() | {"credit_latency_seconds_count", "credit_latency_seconds_sum"}


def standing(scheduler):
    """How credits stand, as the scheduler shows it."""
    found = metrics(scheduler)
    assert "credit_review_open" in found
    one = {name: found[name][""] for name in ("credit_review_open", "credit_orders_requested", "credit_orders_unpaid",
                                              "negative_balances")}
    for name in ("credit_orders_day", "credit_notices_day", "reconcile_drift"):
        one[name] = {labels.split('"')[1]: value for labels, value in found.get(name, {}).items()}
    return one


def test_the_scheduler_says_how_credits_stand(stack):
    scheduler = test_metrics.start(stack)
    shop = Shop(stack, ("credits",))
    nothing = {"credit_review_open": 0, "credit_orders_requested": 0, "credit_orders_unpaid": 0, "negative_balances": 0,
               "credit_orders_day": {"opened": 0, "paid": 0}, "credit_notices_day": {},
               "reconcile_drift": {"paid_without_credit": 0}}
    stack.eventually(lambda: standing(scheduler) == nothing)
    order = shop.order(created_at="now", expires_at="tomorrow")
    shop.order(created_at=hours_ago(1.5), expires_at="tomorrow")
    shop.order(state="requested", method="manual", user="user_2")
    shop.order(created_at=hours_ago(72), state="expired")
    shop.tell(paid("pay_1", order_id=order), paid("pay_owes", user="user_3"), paid("pay_debt", user="user_4"))
    shop.tell(paid("pay_who", user=None), failed("pay_failed"))
    spend = "SELECT credits_spend(%s, %s, 60, %s, 'used')"
    for user in ("user_3", "user_4"):
        stack.sql(spend, (whop.COMPANY, user, f"r_{user}"))
    shop.tell(refund("pay_owes"))
    stack.sql("INSERT INTO credit_settings (tenant_id, negative_policy) VALUES (%s, 'clamp')", (shop.tenant,))
    shop.tell(refund("pay_debt"))
    assert (shop.balance("user_3"), shop.balance("user_4"), shop.debt("user_4")) == (-60, 0, 60)
    stands = {"credit_review_open": 1, "credit_orders_requested": 1, "credit_orders_unpaid": 1, "negative_balances": 2,
              "credit_orders_day": {"opened": 3, "paid": 1}, "credit_notices_day": {"payment_failed": 2, "review": 1},
              "reconcile_drift": {"paid_without_credit": 0}}
    stack.eventually(lambda: standing(scheduler) == stands)
    found = metrics(scheduler)
    assert 90 * 60 <= found["credit_orders_unpaid_oldest_seconds"][""] < 100 * 60
    assert 0 <= found["credit_review_oldest_seconds"][""] < 60
    stats, = stack.cli_json("credits", "stats")
    assert (stats["review_open"], stats["orders_requested"], stats["orders_unpaid"], stats["negative_balances"],
            stats["paid_without_credit"], stats["proof"]) == (1, 1, 1, 2, 0, None)
    # Whoever pays it back owes nothing any more.
    shop.tell(paid("pay_again", user="user_3"))
    stack.eventually(lambda: standing(scheduler)["negative_balances"] == 1)


def test_what_is_not_right_is_shown(stack):
    """Now what a look at few rows can tell; the rest by the nightly proof."""
    stack.expect_errors("an account does not equal its ledger")
    scheduler = test_metrics.start(stack)
    Shop(stack, ("sync",))
    stack.sql("""INSERT INTO payments (tenant_id, whop_payment_id, was_paid, granted, version_at, event_id)
                 SELECT 1, 'pay_' || n, n < 3, CASE WHEN n > 2 THEN 1 END, now(), 'e' FROM generate_series(1, 5) n""")
    stack.sql("INSERT INTO credit_accounts (tenant_id, owner_id, credits_balance) VALUES (1, 'user_1', -5), (1, 'user_2', 5)")
    stack.eventually(lambda: standing(scheduler)["reconcile_drift"] == {"paid_without_credit": 2})
    assert "credit_proof_age_seconds" not in metrics(scheduler)
    stack.cli("schedules", "fire", "credits.proof", "--reason", "test")
    drift = {"paid_without_credit": 2, "credited_without_payment": 3, "balance": 2}
    stack.eventually(lambda: standing(scheduler)["reconcile_drift"] == drift)
    assert 0 <= metrics(scheduler)["credit_proof_age_seconds"][""] < 60
    stats, = stack.cli_json("credits", "stats")
    proof = stats["proof"]
    assert proof.pop("looked_at")
    assert {"paid_without_credit": stats["paid_without_credit"], **proof} == drift
    assert "accounts unlike their ledger" in stack.cli("credits", "stats").stdout
    stack.sql("UPDATE credit_accounts SET credits_balance = 0")
    stack.sql("UPDATE payments SET granted = 0")
    stack.cli("schedules", "fire", "credits.proof", "--reason", "test")
    stack.eventually(lambda: set(standing(scheduler)["reconcile_drift"].values()) == {0})


def test_the_same_payment_twice_in_a_batch_is_one_grant_and_one_duplicate(stack):
    shop = Shop(stack, ("scheduler",))
    put_jobs(stack, [paid("pay_1") for _ in range(8)], shop.tenant)
    worker = stack.start("credits", env={"SLOTS": 1})
    shop.rest()
    found = shown(worker)
    assert (found["credit_grants_total"], found["credit_duplicates_total"]) == (1, 7)
    assert stack.sql("SELECT state, count(*) FROM jobs GROUP BY 1 ORDER BY 1") == [("done", 1), ("skipped", 7)]


def test_a_change_of_plan_that_waited_is_counted_when_it_is_decided(stack):
    """Decided along with another payment, which is the one that was told of."""
    shop = Shop(stack)
    shop.add_plan("plan_more", 300, proration_rule="difference")
    change = {"plan": "plan_more", "billing_reason": "subscription_update", "membership": "mem_1", "paid_ms": ago(10)}
    shop.tell(paid("pay_change", **change))
    worker = stack.proc("credits")
    assert shown(worker)["credit_grants_total"] == 0
    shop.tell(paid("pay_first", membership="mem_1", paid_ms=ago(20)))
    assert shop.ledger("pay_change") == [("topup", 300 - CREDITS)]
    found = shown(worker)
    assert (found["credit_grants_total"], found["credits_granted_total"]) == (2, 300)
    assert found["credit_latency_seconds_count"] == 2


@pytest.mark.parametrize("fault, counted", [("before_pg_commit:fail@1", 1), ("pg_commit_reply_lost:fail@1", 0)])
def test_what_is_not_committed_is_not_counted(stack, fault, counted):
    """Of a commit whose answer is lost nobody here knows; then one is missing, and none is counted twice."""
    shop = Shop(stack, ("scheduler",))
    worker = stack.start("credits", fault=fault)
    put_jobs(stack, [paid("pay_1")], shop.tenant)
    shop.rest()
    assert shop.ledger() == [("topup", CREDITS)]
    assert shown(worker)["credit_grants_total"] == counted


def test_what_reconciliation_credits_is_its_workers(stack, sim):
    shop = test_orders.Shop(stack, sim)
    order = shop.create()["order_id"]
    shop.pay(order, told=False, paid_at=whop.iso(int(time.time()) - 3000))
    sim.make("payments", 60, user=test_orders.USER, plan=test_orders.PLAN, total=test_orders.PRICE, metadata={},
             updated_at=whop.iso(int(time.time())))
    test_orders.fire(shop, "credits.books")
    shop.becomes(order, "credited", 61 * test_orders.CREDITS)
    sync, credits = stack.proc("sync"), stack.proc("credits")
    stack.eventually(lambda: shown(sync)["credit_grants_total"] == 61)
    assert metrics(sync)["credit_latency_seconds_bucket"]['le="1800"'] < shown(sync)["credit_latency_seconds_count"]
    shop.tell("payment.succeeded", "pay_1", order)
    stack.eventually(lambda: shown(credits)["credit_duplicates_total"] == 1)
    assert shown(credits)["credit_grants_total"] == 0 and shown(sync)["credit_duplicates_total"] == 0
