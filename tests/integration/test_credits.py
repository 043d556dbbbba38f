"""K1-K15 of the credits by name, on the real programs, as far as they are events: what a person does
by hand is in the tests of the command line; spending is in test_credits_spend.py, amounts and refunds
in test_credits_money.py, disputes in test_credits_disputes.py.
"""
import concurrent.futures
import uuid

import pytest

import whop
from ledger import CREDITS, PLAN, TOTAL, USER, Shop, dispute, failed, paid, put_in_again, put_jobs, refund, seen

ALL = ("ingest", "journal", "credits", "scheduler")
FAULTS = ("before_pg_commit:kill@1", "pg_commit_reply_lost:kill@1", "after_pg_commit:kill@1", "before_done:kill@1",
          "done_reply_lost:kill@1", "before_pg_commit:fail@1", "pg_commit_reply_lost:fail@1")


def payment_body(payment="pay_1", **how):
    return whop.payment(id=payment, **{"user": USER, "plan": PLAN, "metadata": {}, **how})


# ---- K1-K3: once

def test_K1_a_paid_pack_is_one_row_and_the_balance_its_sum(stack):
    shop = Shop(stack, ALL)
    shop.send(payment_body())
    shop.rest()
    assert shop.ledger() == [("topup", CREDITS)]
    assert shop.balance() == CREDITS


def test_K2_ten_at_once_and_reconciliation_and_replay_are_one_grant(stack):
    shop = Shop(stack, ALL)
    body = payment_body(webhook_id="msg_k2")
    with concurrent.futures.ThreadPoolExecutor(10) as threads:
        list(threads.map(lambda _: shop.send(body), range(10)))
        list(threads.map(lambda n: shop.send(payment_body(webhook_id=f"msg_k2_{n}")), range(10)))
    shop.rest()
    shop.tell_at_once(*[seen() for _ in range(5)])
    assert put_in_again(stack, "kind = 'credits.payment_succeeded'") == 11
    shop.rest()
    assert stack.sql("SELECT count(*) FROM jobs WHERE gen = 1 AND state IN ('done', 'skipped')") == [(11,)]
    assert shop.ledger() == [("topup", CREDITS)]
    assert shop.balance() == CREDITS


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("what, left", [("grant", CREDITS), ("refund", 60), ("dispute", 0)])
def test_K3_a_death_between_any_two_steps(stack, what, left, fault):
    shop = Shop(stack, ("credits", "scheduler"))
    news = {"grant": paid(), "refund": refund(amount="4.00"), "dispute": dispute()}[what]
    if what != "grant":
        shop.tell(paid())
    stack.proc("credits").sigterm()
    worker = stack.start("credits", fault=fault)
    put_jobs(stack, [news], shop.tenant)
    if ":kill" in fault:
        assert worker.wait_exit() == -9
        stack.start("credits")
    shop.rest()
    rows = {"grant": [], "refund": [("refund", -40)], "dispute": [("dispute_hold", -CREDITS)]}[what]
    assert shop.ledger() == [("topup", CREDITS), *rows]
    assert shop.balance() == left


# ---- K4-K8

def test_K4_a_failed_payment_then_a_later_one_of_the_same_order(stack):
    shop = Shop(stack)
    order = shop.order()
    shop.tell(failed("pay_1", order_id=order))
    assert shop.order_is(order) == ("failed", "failed", None)
    assert shop.balance() == 0
    assert shop.notices("payment_failed") == [("admin", "pay_1"), ("user", "pay_1")]
    shop.tell(paid("pay_2", order_id=order), failed("pay_1", order_id=order, at=1))
    assert shop.order_is(order) == ("credited", "paid", "pay_2")
    assert shop.history(order) == ["failed", "paid", "credited"]
    assert shop.ledger("pay_1") == [] and shop.balance() == CREDITS


def test_K4_the_same_payment_fails_and_then_succeeds(stack):
    shop = Shop(stack)
    order = shop.order()
    shop.tell(failed(order_id=order), failed(order_id=order), paid(order_id=order), failed(order_id=order, at=1))
    assert shop.order_is(order) == ("credited", "paid", "pay_1")
    assert shop.ledger() == [("topup", CREDITS)]


def test_K5_a_full_refund_removes_the_grant(stack):
    shop = Shop(stack)
    order = shop.order()
    shop.tell(paid(order_id=order), refund(status="pending"))
    assert shop.balance() == CREDITS
    shop.tell(refund())
    assert shop.ledger() == [("topup", CREDITS), ("refund", -CREDITS)]
    assert shop.balance() == 0
    assert shop.order_is(order) == ("refunded", "refunded", "pay_1")


def test_K5_two_partial_refunds_of_half(stack):
    shop = Shop(stack)
    order = shop.order()
    shop.tell(paid(order_id=order), refund(amount="5.00", id="rf_a"))
    assert shop.order_is(order) == ("partially_refunded", "partially_refunded", "pay_1")
    shop.tell(refund(amount="5.00", id="rf_b"), refund(amount="5.00", id="rf_a"))
    assert shop.ledger() == [("topup", CREDITS), ("refund", -50), ("refund", -50)]
    assert shop.order_is(order) == ("refunded", "refunded", "pay_1")


def test_K5_the_same_refund_twice_and_as_payment_refunded(stack):
    shop = Shop(stack)
    shop.tell(paid(), refund(amount="5.00"))
    shop.tell_at_once(*[refund(amount="5.00") for _ in range(5)],
                      seen(refunded="5.00", substatus="partially_refunded"))
    shop.tell(seen(refunded="5.00", substatus="partially_refunded"))
    assert shop.ledger() == [("topup", CREDITS), ("refund", -50)]


def test_K5_payment_refunded_first_then_the_refund_itself(stack):
    shop = Shop(stack)
    shop.tell(paid(), seen(refunded="5.00", substatus="partially_refunded"), refund(amount="5.00"))
    assert shop.ledger() == [("topup", CREDITS), ("refund", -50)]


def test_K5_by_webhook(stack):
    shop = Shop(stack, ALL)
    shop.send(payment_body())
    for generation, event in (("v1", "refund.created"), ("v1", "refund.updated"), ("v5", "refund.created")):
        body = whop.vector(generation, event)
        body["data"]["payment"]["id"] = "pay_1"
        if generation == "v1":
            body["id"] = whop.new_id("msg")
        else:
            body["data"]["payment_id"] = "pay_1"
        shop.send(body)
    shop.rest()
    # 49.99 of 49.99; v5 has it as 20 and no time of its own but the refund's creation, which is older.
    assert sum(credits for _, credits in shop.ledger()) == 0
    assert shop.balance() == 0


def test_K6_a_refund_before_its_payment(stack):
    shop = Shop(stack)
    shop.tell(refund())
    assert shop.balance() == 0 and shop.ledger() == []
    shop.tell(paid())
    assert sum(credits for _, credits in shop.ledger()) == 0
    assert shop.balance() == 0


def test_K6_a_part_of_it(stack):
    shop = Shop(stack)
    shop.tell(refund(amount="2.50"), paid())
    assert shop.balance() == 75


@pytest.mark.parametrize("end, credits, order_state", [("won", CREDITS, "credited"), ("lost", 0, "reversed")])
def test_K7_a_dispute(stack, end, credits, order_state):
    shop = Shop(stack)
    order = shop.order()
    shop.tell(paid(order_id=order), dispute())
    assert shop.ledger() == [("topup", CREDITS), ("dispute_hold", -CREDITS)]
    assert shop.order_is(order)[:2] == ("disputed", "disputed")
    shop.tell(dispute(), dispute(status="under_review"))
    assert shop.balance() == 0
    shop.tell(dispute(status=end), dispute(status=end))
    assert shop.balance() == credits
    assert shop.order_is(order)[0] == order_state
    assert {kind for kind, _ in shop.ledger()} == {"topup", "dispute_hold", "dispute_release",
                                                  *(["dispute_loss"] if end == "lost" else [])}
    assert len(shop.ledger()) == (3 if end == "won" else 4)


def test_K7_by_webhook(stack):
    shop = Shop(stack, ALL)
    shop.send(payment_body())
    for event in ("dispute.created", "dispute.updated"):
        body = whop.vector("v1", event)
        body["data"]["payment"]["id"], body["id"] = "pay_1", whop.new_id("msg")
        shop.send(body)
        shop.rest()
        if event == "dispute.created":
            assert shop.balance() == 0
    status = body["data"]["status"]
    assert shop.balance() == {"won": CREDITS, "lost": 0, "under_review": 0}[status], status


@pytest.mark.parametrize("what, reason", [
    ({"plan": "plan_unheard_of"}, "unknown_plan"), ({"plan": None}, "unknown_plan"),
    ({"user": None}, "unknown_user"), ({"user": None, "plan": None}, "unknown_plan"),
    ({"user": None, "order_id": "no-uuid"}, "unknown_user"),
    ({"user": None, "order_id": str(uuid.UUID(int=7))}, "unknown_user")])
def test_K8_what_cannot_be_attributed_is_in_review(stack, what, reason):
    shop = Shop(stack)
    shop.tell(paid(**what))
    assert shop.reviews() == [reason]
    assert shop.ledger() == [] and shop.payment("amount") is not None
    assert shop.notices("review") == [("admin", "pay_1")]
    shop.tell(paid(**what), seen(**what))
    assert len(stack.sql("SELECT 1 FROM credit_review")) == 1
    # Assigned, as an operator does; its refund is taken with it.
    shop.tell(refund(amount="5.00"))
    stack.sql("UPDATE payments SET assigned_to = 'user_2', assigned_credits = 40")
    for _ in range(2):
        stack.sql("SELECT credits_settle(ARRAY[%s]::bigint[], ARRAY['pay_1'], 'operator')", (shop.tenant,))
    shop.check()
    assert shop.ledger() == [("topup", 40), ("refund", -20)]
    assert shop.balance("user_2") == 20 and shop.reviews() == []


def test_K8_a_review_that_matches_later_is_closed(stack):
    """The plan is added after the payment; reconciliation sees the payment again."""
    shop = Shop(stack)
    shop.tell(paid(plan="plan_late"))
    shop.add_plan("plan_late", 7)
    shop.tell(seen(plan="plan_late"))
    assert shop.ledger() == [("topup", 7)]
    assert stack.sql("SELECT state FROM credit_review") == [("assigned",)]


def test_K8_assigned_while_it_matched_by_itself(stack):
    shop = Shop(stack)
    shop.tell(paid(plan="plan_late"))
    shop.add_plan("plan_late", 7)
    shop.tell(seen(plan="plan_late"))
    stack.sql("UPDATE payments SET assigned_to = 'user_2', assigned_credits = 40")
    stack.sql("SELECT credits_settle(ARRAY[%s]::bigint[], ARRAY['pay_1'], 'operator')", (shop.tenant,))
    shop.check()
    assert shop.ledger() == [("topup", 7)] and shop.balance("user_2") == 0


# ---- K10, K13, K15

@pytest.mark.parametrize("claimed", ["999999", "-1", "100.0", "1e9", "x"])
def test_K10_tampered_metadata(stack, claimed):
    shop = Shop(stack)
    shop.tell(paid(credits_claimed=claimed))
    assert shop.ledger() == [("topup", CREDITS)]
    assert stack.sql("SELECT flag FROM credit_transactions") == [("metadata_mismatch",)]


@pytest.mark.parametrize("claimed", ["", "100"])
def test_K10_metadata_that_agrees_or_says_nothing(stack, claimed):
    shop = Shop(stack)
    shop.tell(paid(credits_claimed=claimed))
    assert stack.sql("SELECT credits, flag FROM credit_transactions") == [(CREDITS, None)]


@pytest.mark.parametrize("json_of, text", [("\"999999\"", "999999"), ("999999", "999999"), ("-5", "-5"), ("1.5", "1.5"),
                                           ("\"\"", None), ("null", None), ("[1]", None)])
def test_K10_by_webhook(stack, json_of, text):
    """Numbers as texts, empty, negative, with a fraction: the plan's number it is."""
    shop = Shop(stack, ALL)
    shop.send(payment_body(), metadata=f'{{"credits": {json_of}}}')
    shop.rest()
    assert shop.ledger() == [("topup", CREDITS)]
    flag, = stack.sql("SELECT flag FROM credit_transactions")[0]
    assert (flag == "metadata_mismatch") == (text is not None), flag


def test_K10_an_order_is_not_an_open_door(stack):
    """An order at its own price (here 1,000,000 credits for 900): its id beside a payment of ten does
    not buy it."""
    shop = Shop(stack)
    order = shop.order(credits=1_000_000, price="900", own_price=True)
    shop.tell(paid(order_id=order))
    assert shop.ledger() == [] and shop.reviews() == ["other_price"]
    shop.tell(paid("pay_2", order_id=order, amount="900", currency="jpy"))
    assert shop.ledger("pay_2") == [] and shop.reviews("pay_2") == ["other_price"]
    shop.tell(paid("pay_3", order_id=order, amount="900.00"))
    assert shop.ledger("pay_3") == [("topup", 1_000_000)]
    assert shop.order_is(order) == ("credited", "paid", "pay_3")


def test_K15_each_row_says_who_and_why(stack):
    shop = Shop(stack)
    shop.tell(paid(), refund(amount="5.00"), dispute(), dispute(status="won"))
    rows = stack.sql("""SELECT kind, actor, source_type, source_id, reason, event_id, whop_payment_id
                        FROM credit_transactions ORDER BY id""")
    assert [row[0] for row in rows] == ["topup", "refund", "dispute_hold", "dispute_release"]
    assert {row[1] for row in rows} == {"whopline-credits"}
    assert [row[2:4] for row in rows] == [("payment", "pay_1"), ("refund", "rf_pay_1"), ("dispute", "dspt_pay_1"),
                                          ("dispute", "dspt_pay_1")]
    assert all(row[4] and row[5].startswith("default/e") and row[6] == "pay_1" for row in rows)


def test_K15_the_ledger_cannot_be_changed(stack):
    shop = Shop(stack)
    shop.tell(paid())
    for change in ("UPDATE credit_transactions SET amount = 1", "DELETE FROM credit_transactions",
                   "TRUNCATE credit_transactions CASCADE"):
        with pytest.raises(Exception, match="append-only"):
            stack.sql(change)


# ---- edge cases: who, what, when

def test_a_trial_and_then_the_first_paid_cycle(stack):
    shop = Shop(stack)
    shop.tell(paid("pay_trial", amount="0", billing_reason="subscription_create", membership="mem_1"))
    assert shop.balance() == 0 and shop.reviews("pay_trial") == []
    shop.tell(paid("pay_first", billing_reason="subscription_cycle", membership="mem_1"))
    assert shop.balance() == CREDITS


@pytest.mark.parametrize("when_free, credits", [(False, 0), (True, 7)])
def test_a_promo_code_of_100_percent(stack, when_free, credits):
    shop = Shop(stack)
    shop.add_plan("plan_promo", 7, credits_when_free=when_free)
    shop.tell(paid(plan="plan_promo", amount="0.00"))
    assert shop.balance() == credits and shop.reviews() == []


def test_pending_for_days_then_succeeded(stack):
    shop = Shop(stack)
    shop.tell(seen(status="pending", substatus="pending"))
    assert shop.balance() == 0 and shop.reviews() == []
    shop.tell(paid())
    assert shop.balance() == CREDITS
    shop.tell(seen(status="pending", substatus="pending", at=1))  # late, and older than what is known
    assert shop.balance() == CREDITS and shop.payment("status") == "paid"


def test_one_pays_for_another(stack):
    shop = Shop(stack)
    order = shop.order(user="user_gifted")
    shop.tell(paid(user="user_payer", order_id=order))
    assert shop.balance("user_gifted") == CREDITS and shop.balance("user_payer") == 0


def test_the_plan_changed_between_checkout_and_payment(stack):
    """The version that was valid when it was paid counts, however late we hear of it."""
    shop = Shop(stack)
    shop.add_plan("plan_v", 10, valid_to="2026-01-02T00:00Z")
    shop.add_plan("plan_v", 20, valid_from="2026-01-02T00:00Z")
    before, after = 1767311999000, 1767312000000
    shop.tell(paid("pay_before", plan="plan_v", paid_ms=before), paid("pay_after", plan="plan_v", paid_ms=after))
    assert shop.ledger("pay_before") == [("topup", 10)] and shop.ledger("pay_after") == [("topup", 20)]


def test_another_plan_than_ordered_is_flagged(stack):
    shop = Shop(stack)
    plan, = stack.sql("SELECT id FROM whop_plans WHERE whop_plan_id = 'plan_500'")[0]
    order = shop.order(plan_id=plan, credits=500)
    shop.tell(paid(order_id=order))
    assert stack.sql("SELECT credits, flag FROM credit_transactions") == [(CREDITS, "other_plan_than_ordered")]


def test_two_payments_within_a_minute_are_two_grants(stack):
    shop = Shop(stack)
    shop.tell_at_once(paid("pay_1"), paid("pay_2"))
    assert shop.balance() == 2 * CREDITS


def test_a_currency_other_than_usd(stack):
    shop = Shop(stack)
    shop.tell(paid(amount="7500", currency="jpy"), refund(amount="2500", currency="jpy"))
    assert shop.balance() == 67  # 33.3 are 33


def test_a_user_that_is_gone(stack):
    """Later news do not name him any more; the account is known from the grant."""
    shop = Shop(stack)
    shop.tell(paid(), refund(amount="5.00"), seen(user=None, refunded="7.50"), dispute(status="lost"))
    assert shop.balance() == 0


def test_paid_after_the_order_expired(stack):
    shop = Shop(stack)
    order = shop.order(state="expired", whop_checkout_id="ch_1")
    shop.tell(paid(checkout="ch_1", user=None))
    assert shop.order_is(order) == ("credited", "paid", "pay_1") and shop.balance() == CREDITS


def test_paid_after_the_order_was_cancelled(stack):
    shop = Shop(stack)
    order = shop.order(state="cancelled")
    shop.tell(paid(order_id=order))
    assert shop.reviews() == ["order_cancelled"] and shop.balance() == 0
    assert shop.order_is(order) == ("cancelled", "pending", None)


def test_an_order_is_paid_twice(stack):
    shop = Shop(stack)
    order = shop.order()
    shop.tell_at_once(paid("pay_1", order_id=order), paid("pay_2", order_id=order))
    assert shop.balance() == 2 * CREDITS
    assert shop.order_is(order)[:2] == ("credited", "paid") and shop.history(order) == ["paid", "credited"]


def test_an_order_of_another_tenant_is_none(stack):
    shop = Shop(stack)
    other, = stack.sql("INSERT INTO tenants (slug, whop_company_id) VALUES ('other', 'biz_other') RETURNING id")[0]
    account, = stack.sql("SELECT credits_open_account(%s, 'user_other')", (other,))[0]
    order = shop.order(tenant_id=other, account_id=account)
    shop.tell(paid(order_id=order))
    assert shop.balance() == CREDITS
    assert shop.order_is(order) == ("checkout_open", "pending", None)


def test_a_subscription_that_is_cancelled_keeps_its_credits(stack):
    shop = Shop(stack, ALL)
    shop.send(payment_body())
    shop.send(whop.membership(user=USER, plan=PLAN, event="membership.deactivated"))
    shop.rest()
    assert stack.sql("SELECT kind FROM webhook_events ORDER BY 1") == [("membership.deactivated",), ("payment.succeeded",)]
    assert shop.balance() == CREDITS


def test_a_thousand_renewals_leave_no_review(stack):
    shop = Shop(stack)
    shop.tell_at_once(*[paid(f"pay_{n}", user=f"user_{n % 100}", membership=f"mem_{n % 100}",
                             billing_reason="subscription_create" if n < 100 else "subscription_cycle")
                        for n in range(1000)])
    assert stack.sql("SELECT count(*) FROM credit_review") == [(0,)]
    assert stack.sql("SELECT count(*), sum(credits) FROM credit_transactions") == [(1000, 1000 * CREDITS)]


@pytest.mark.parametrize("rule, then, credits, review", [
    ("none", "plan_up", 0, []), ("full", "plan_up", 500, []), ("difference", "plan_up", 400, []),
    ("difference", "plan_down", 0, []), (None, "plan_up", 0, ["proration"])])
def test_a_change_of_plan_in_mid_period(stack, rule, then, credits, review):
    shop = Shop(stack)
    shop.add_plan("plan_up", 500, proration_rule=rule)
    shop.add_plan("plan_down", 50, proration_rule=rule)
    shop.tell_at_once(paid("pay_1", membership="mem_1", billing_reason="subscription_create"),
                      paid("pay_2", plan=then, membership="mem_1", billing_reason="subscription_update", amount="3.21"))
    assert shop.reviews("pay_2") == review
    assert shop.balance() == CREDITS + credits


@pytest.mark.parametrize("hits, enabled, owner", [(1, True, "user_mail"), (2, True, None), (1, False, None)])
def test_by_mail_only_if_wanted_and_only_one(stack, hits, enabled, owner):
    shop = Shop(stack, email_match=enabled)
    for n in range(hits):
        stack.sql("INSERT INTO credit_accounts (tenant_id, owner_id, email_norm) VALUES (%s, %s, 'a@example.com')",
                  (shop.tenant, f"user_mail{n or ''}"))
    shop.tell(paid(user=None, email="A@Example.com"))
    assert shop.reviews() == ([] if owner else ["unknown_user"])
    assert shop.balance("user_mail") == (CREDITS if owner else 0)


def test_credits_are_off(stack):
    shop = Shop(stack, credits_enabled=False)
    shop.tell(paid())
    assert shop.payment("decision") == "credits_off" and shop.reviews() == [] and shop.balance() == 0


def test_a_plan_that_sells_no_credits(stack):
    shop = Shop(stack)
    shop.tell(paid(plan="plan_none"), refund(), dispute())
    assert shop.reviews() == [] and shop.ledger() == []


def test_said_to_have_succeeded_but_not_paid(stack):
    shop = Shop(stack)
    shop.tell(paid(status="open", substatus="pending"))
    assert shop.reviews() == ["not_paid"] and shop.balance() == 0
    shop.tell(paid())
    assert shop.reviews() == [] and shop.balance() == CREDITS


def test_more_credits_than_an_integer_holds(stack):
    shop = Shop(stack)
    order = shop.order(credits=5_000_000_000, price=TOTAL, own_price=True)
    shop.tell(paid(order_id=order), refund(amount="5.00"))
    assert shop.balance() == 2_500_000_000
