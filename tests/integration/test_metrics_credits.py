"""What is shown of credits: workers tell what they settled, each for itself, and the scheduler how
things stand; both by the numbers that the ledger has."""
import time

import pytest

import test_metrics
from ledger import CREDITS, PLAN, TOTAL, USER, Shop, dispute, event, failed, paid, put_jobs, refund, seen
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
