"""Ways in which money or credits could get lost, be given twice or be given for nothing: each was one,
or could easily become one."""
import concurrent.futures
import itertools
import random
import re
import time

import psycopg2
import pytest

import harness
import whop
from ledger import CREDITS, PLAN, TOTAL, USER, Shop, dispute, paid, put_jobs, refund, seen

PAID_MS = 1_767_312_000_000


def refused(stack, *args):
    done = stack.cli(*args, check=False)
    assert done.returncode == 1 and done.stdout == "", (args, done)
    return done.stderr


def at_once(stack, statements, lock):
    """Each statement on a connection of its own; all of them wait for one lock before they begin."""
    links = [harness.connect(stack.pg_sockets, stack.database) for _ in (*statements, lock)]
    try:
        links[-1].autocommit = False
        links[-1].cursor().execute(*lock)
        with concurrent.futures.ThreadPoolExecutor(len(statements)) as threads:
            futures = [threads.submit(link.cursor().execute, *statement) for link, statement in zip(links, statements)]
            stack.eventually(lambda: stack.sql("SELECT count(*) FROM pg_locks WHERE NOT granted")[0][0] >= len(statements))
            links[-1].rollback()
            for future in futures:
                future.result()
    finally:
        for link in links:
            link.close()


# ---- refunds that do not happen after all

def test_a_refund_that_fails_after_the_payment_has_told_of_it(stack):
    """The customer has not got his money back: nor are his credits taken, whatever came first."""
    shop = Shop(stack)
    orders = dict(enumerate(itertools.permutations(range(4))))
    news = {n: [refund(f"pay_{n}", "5.00"), seen(f"pay_{n}", refunded="5.00", substatus="partially_refunded"),
                refund(f"pay_{n}", "5.00", status="failed"), paid(f"pay_{n}")] for n in orders}
    for turn in range(4):
        shop.tell_at_once(*[news[n][order[turn]] for n, order in orders.items()])
    wrong = {order: shop.ledger(f"pay_{n}") for n, order in orders.items()
             if sum(credits for _, credits in shop.ledger(f"pay_{n}")) != CREDITS}
    assert not wrong, wrong


def test_a_payment_tells_that_less_has_gone_back_than_it_said(stack):
    """Nothing else is known: neither the refund, nor that it failed."""
    shop = Shop(stack)
    now = time.time()
    part = {"substatus": "partially_refunded"}
    shop.tell(paid(at=now - 8000), seen(refunded="5.00", at=now - 7200, **part))
    assert shop.balance() == 50
    shop.tell(seen(refunded="0", at=now - 7900), seen(refunded="0", at=now - 7199))
    assert shop.balance() == 50  # older; or of a clock that is a little ahead
    shop.tell(seen(refunded="0", at=now - 3600), seen(refunded="5.00", at=now - 7100, **part))
    assert shop.ledger() == [("topup", CREDITS), ("refund", -50), ("refund_reversal", 50)]
    shop.tell(seen(refunded="2.50", at=now, **part), seen(refunded="2.50", at=now, **part), seen(refunded="2.00", at=now, **part))
    assert shop.balance() == 75


def test_a_nought_beside_a_dispute_takes_no_refund_back(stack):
    """What Whop has refunded of itself may have no amount; later states do not speak of it."""
    shop = Shop(stack)
    shop.tell(paid(), seen(substatus="auto_refunded", refunded="0"), seen(substatus="dispute_needs_response", refunded="0"))
    assert shop.balance() == 0


# ---- the review list: nothing on it that cannot be ended, nothing missing from it

def test_an_odd_refund_is_put_aside_by_an_operator(stack):
    shop = Shop(stack)
    shop.tell(paid(), refund(amount="1e2"))
    assert shop.reviews() == ["odd_refund"]
    stack.cli("credits", "review", "dismiss", "pay_1", "--reason", "settled by hand")
    assert shop.reviews() == [] and shop.payment("decision") == "granted" and shop.balance() == CREDITS
    assert "already done" in refused(stack, "credits", "review", "dismiss", "pay_1", "--reason", "again")
    stack.cli("credits", "review", "reopen", "pay_1", "--reason", "not quite")
    assert shop.reviews() == ["odd_refund"] and shop.payment("decision") == "granted"


def test_put_aside_as_not_paid_and_then_paid_for_what_nobody_knows(stack):
    """It is money now: somebody has to see it."""
    shop = Shop(stack)
    shop.tell(paid(status="open", substatus="pending", plan="plan_unheard_of"))
    stack.cli("credits", "review", "dismiss", "pay_1", "--reason", "not paid")
    assert shop.reviews() == []
    shop.tell(paid(plan="plan_unheard_of"))
    assert shop.reviews() == ["unknown_plan"]
    stack.cli("credits", "review", "dismiss", "pay_1", "--reason", "another product of ours")
    shop.tell(paid(plan="plan_unheard_of"), seen(plan="plan_unheard_of"))
    assert shop.reviews() == [] and shop.payment("decision") == "dismissed"


# ---- orders that have had their credits

def approved(shop, **more):
    order = shop.order(state="requested", method="manual", **more)
    shop.stack.cli("orders", "approve", order)
    assert shop.balance() == CREDITS
    return order


def test_an_order_credited_by_hand_is_paid_at_whop(stack):
    """The payment may be the one that was trusted to come: a person says whether it is for more."""
    shop = Shop(stack)
    order = approved(shop)
    shop.tell(paid(order_id=order))
    assert shop.reviews() == ["order_credited"] and shop.balance() == CREDITS
    shop.tell_at_once(paid(order_id=order), seen(order_id=order))
    assert shop.reviews() == ["order_credited"] and shop.balance() == CREDITS
    stack.cli("credits", "review", "dismiss", "pay_1", "--reason", "that is what the order was for")
    shop.tell(seen(order_id=order))
    assert shop.balance() == CREDITS and shop.order_is(order) == ("credited", "paid", "pay_1")
    shop.tell(paid("pay_2", order_id=order))  # asked once of an order: this one is a further purchase
    assert shop.balance() == 2 * CREDITS


def test_the_money_for_what_was_credited_by_hand_goes_back(stack):
    """Then so do the credits; and the operator may think again at any time."""
    shop = Shop(stack)
    order = approved(shop)
    shop.tell(paid(order_id=order), refund(amount="2.50"))
    assert shop.balance() == CREDITS
    stack.cli("credits", "review", "dismiss", "pay_1", "--reason", "that is what the order was for")
    assert shop.balance() == 75 and shop.order_is(order)[0] == "partially_refunded"
    for _ in range(2):
        stack.cli("credits", "review", "reopen", "pay_1", "--reason", "or was it")
        assert shop.reviews() == ["order_credited"] and shop.order_is(order)[2] is None
        stack.cli("credits", "review", "dismiss", "pay_1", "--reason", "it was")
    assert shop.balance() == 75
    shop.tell(dispute(status="lost"))
    assert shop.balance() == 0 and shop.order_is(order) == ("reversed", "disputed", "pay_1")
    shop.check()


def test_an_order_credited_by_hand_is_paid_at_whop_for_more(stack):
    shop = Shop(stack)
    order = approved(shop)
    shop.tell(paid(order_id=order))
    stack.cli("credits", "review", "assign", "pay_1", "--user", USER)
    shop.check()
    assert shop.balance() == 2 * CREDITS
    shop.tell(refund(amount="5.00"))
    assert shop.balance() == CREDITS + 50


def test_renewals_that_name_an_order_credited_elsewhere_are_granted(stack):
    """As those of a subscription whose order has been imported: no review for each month."""
    shop = Shop(stack)
    order = approved(shop)
    shop.tell_at_once(*[paid(f"pay_{n}", order_id=order, membership="mem_1", billing_reason="subscription_cycle") for n in range(3)])
    assert stack.sql("SELECT count(*) FROM credit_review") == [(0,)] and shop.balance() == 4 * CREDITS


def test_approved_by_hand_and_paid_at_whop_at_once(stack):
    """Whoever is first: the order's credits are given once without a person's word."""
    shop = Shop(stack, ())
    for n in range(6):
        user, payment = f"user_{n}", f"pay_{n}"
        order = shop.order(state="requested", method="manual", user=user)
        stack.sql("""INSERT INTO payments (tenant_id, whop_payment_id, whop_user_id, whop_plan_id, order_ref, status, was_paid, amount,
                       amount_text, currency, version_at, event_id) VALUES (%s, %s, %s, %s, %s, 'paid', true, 10, '10', 'usd', now(), 'e')""",
                  (shop.tenant, payment, user, PLAN, order))
        settle = ("SELECT credits_settle(ARRAY[%s]::bigint[], ARRAY[%s], 'whopline-credits')", (shop.tenant, payment))
        approve = ("SELECT credit_orders_approve(%s, 'ada', '')", (order,))
        at_once(stack, [settle, approve] if n % 2 else [approve, settle],
                ("SELECT 1 FROM credit_orders WHERE id = %s FOR UPDATE", (order,)))
        shop.check()
        assert shop.balance(user) == CREDITS and shop.order_is(order)[0] == "credited"


def test_the_checkout_of_a_gift_is_good_for_one(stack):
    """An order at its own price of nothing: its address gives no credits each time it is opened."""
    shop = Shop(stack)
    order = shop.order(credits=5000, price="0", own_price=True, whop_checkout_id="ch_gift")
    gift = {"plan": "plan_inline", "amount": "0", "checkout": "ch_gift"}
    shop.tell_at_once(paid("pay_1", order_id=order, **gift), paid("pay_2", order_id=order, **gift))
    shop.tell(paid("pay_3", user="user_2", **gift))
    assert stack.sql("SELECT sum(credits) FROM credit_transactions") == [(5000,)]
    assert stack.sql("SELECT reason FROM credit_review WHERE state = 'open'") == [("order_credited",)] * 2


def test_an_own_price_is_in_its_currency(stack):
    """An amount whose currency nobody has told could be of any."""
    shop = Shop(stack)
    order = shop.order(credits=1_000_000, price="900", own_price=True)
    shop.tell(paid(order_id=order, amount="900", currency=None))
    assert shop.ledger() == [] and shop.reviews() == ["other_price"]
    shop.tell(seen(order_id=order, amount="900"))
    assert shop.ledger() == [("topup", 1_000_000)]


def test_an_imported_order_that_waits_for_its_payment(stack):
    """It came with the payment's id, and follows the payment then."""
    shop = Shop(stack)
    order = shop.order(whop_payment_id="pay_1")
    shop.tell(paid(order_id=order), refund())
    assert shop.order_is(order) == ("refunded", "refunded", "pay_1") and shop.history(order) == ["paid", "credited", "refunded"]


# ---- the same thing written in another way

def test_currencies_are_the_same_in_any_case(stack):
    shop = Shop(stack)
    order = shop.order(credits=77, price=TOTAL, own_price=True, currency="USD")
    shop.tell(paid(order_id=order, currency="USD"), refund(amount="5.00", currency="usd"))
    shop.tell(paid("pay_2"), refund("pay_2", amount="5.00", currency="Usd"))
    assert shop.reviews() == [] and shop.balance() == 77 - 38 + 50


# ---- changes of plan in mid-period that are told of in any order

STEPS = (("pay_a", PLAN, "subscription_create"), ("pay_b", "plan_up", "subscription_update"),
         ("pay_c", "plan_top", "subscription_update"), ("pay_d", PLAN, "subscription_update"))


@pytest.mark.parametrize("moments", [(1, 2, 3, 4), (1, 2, 2, 2)])
def test_changes_of_plan_in_any_order_end_in_the_same_sum(stack, moments):
    """100, up to 300 (+200), to 700 (+400), and down again: 700 in all, whichever was heard of first."""
    shop = Shop(stack)
    for plan, credits in (("plan_up", 300), ("plan_top", 700)):
        shop.add_plan(plan, credits, proration_rule="difference")
    stack.sql("UPDATE whop_plans SET proration_rule = 'difference' WHERE whop_plan_id = %s", (PLAN,))
    orders = list(itertools.permutations(range(len(STEPS))))
    for turn in range(len(STEPS)):
        shop.tell_at_once(*[
            paid(f"{payment}_{n}", user=f"user_{n}", plan=plan, membership=f"mem_{n}", billing_reason=reason,
                 paid_ms=PAID_MS + moments[order[turn]]) for n, order in enumerate(orders) for payment, plan, reason in [STEPS[order[turn]]]])
    found = {n: (shop.balance(f"user_{n}"), [shop.payment("granted", f"{payment}_{n}") for payment, _, _ in STEPS])
             for n in range(len(orders))}
    wrong = {orders[n]: it for n, it in found.items() if it != (700, [100, 200, 400, 0])}
    assert not wrong, wrong
    assert stack.sql("SELECT count(*) FROM credit_review WHERE state = 'open'") == [(0,)]


def test_a_late_change_of_plan_beside_a_refund_of_the_one_after_it(stack):
    """What the refund takes is measured by what the later change is worth now."""
    shop = Shop(stack)
    for plan, credits in (("plan_up", 300), ("plan_top", 700)):
        shop.add_plan(plan, credits, proration_rule="difference")
    of = {"membership": "mem_1", "billing_reason": "subscription_update"}
    shop.tell(paid("pay_a", membership="mem_1", paid_ms=PAID_MS), paid("pay_c", plan="plan_top", paid_ms=PAID_MS + 2, **of),
              refund("pay_c", amount="5.00"))
    assert shop.ledger("pay_c") == [("topup", 600), ("refund", -300)]
    shop.tell(paid("pay_b", plan="plan_up", paid_ms=PAID_MS + 1, **of))
    assert sum(credits for _, credits in shop.ledger("pay_c")) == 200 and shop.balance() == 100 + 200 + 200
    shop.tell(seen("pay_b", plan="plan_up", paid_ms=PAID_MS + 1, **of), refund("pay_c", amount="5.00", id="rf_rest"))
    assert shop.balance() == 300


def test_a_late_change_down_gives_the_later_one_more(stack):
    shop = Shop(stack, negative_policy="clamp")
    shop.add_plan("plan_up", 300, proration_rule="difference")
    of = {"membership": "mem_1", "billing_reason": "subscription_update"}
    shop.tell(paid("pay_a", plan="plan_500", membership="mem_1", paid_ms=PAID_MS), paid("pay_c", plan="plan_up", paid_ms=PAID_MS + 2, **of))
    assert shop.balance() == 500 and shop.payment("decision", "pay_c") == "proration_none"
    shop.tell(paid("pay_b", plan=PLAN, membership="mem_1", billing_reason="subscription_cycle", paid_ms=PAID_MS + 1))
    assert shop.ledger("pay_c") == [("topup", 200)] and shop.balance() == 500 + CREDITS + 200


def test_changes_of_plan_of_many_by_two_workers(stack):
    """In no order, some of them refunded, all told twice; no deadlock, nothing is lost."""
    shop = Shop(stack, ())
    for plan, credits in (("plan_up", 300), ("plan_top", 700), (PLAN + "_down", 100)):
        shop.add_plan(plan, credits, proration_rule="difference")
    rng = random.Random(7)
    told = []
    for n in range(60):
        of = {"user": f"user_{n % 5}", "membership": f"mem_{n}"}
        for step, (payment, plan, reason) in enumerate(STEPS):
            news = paid(f"{payment}_{n}", plan=PLAN + "_down" if step == 3 else plan, billing_reason=reason, paid_ms=PAID_MS + step, **of)
            told += [news, news]
        told += [refund(f"pay_c_{n}", "5.00")] * 2 if n % 2 else []
    rng.shuffle(told)
    put_jobs(stack, told, shop.tenant)
    for _ in range(2):
        stack.start("credits", env={"SLOTS": 8, "DATABASE_LOCK_TIMEOUT_MS": 60000})
    stack.start("scheduler")
    shop.rest()
    assert stack.sql("SELECT count(*) FROM credit_review WHERE state = 'open'") == [(0,)]
    wrong = stack.sql("""SELECT whop_payment_id, granted FROM payments WHERE granted IS DISTINCT FROM (CASE left(whop_payment_id, 5)
                         WHEN 'pay_a' THEN 100 WHEN 'pay_b' THEN 200 WHEN 'pay_c' THEN 400 ELSE 0 END)""")
    assert wrong == []
    assert sum(shop.balance(f"user_{n}") for n in range(5)) == 60 * 700 - 30 * 200
    assert stack.sql("SELECT max(attempts) FROM jobs") == [(0,)]
    assert not any("put off" in proc.log() for proc in stack.procs)


# ---- by hand

@pytest.mark.parametrize("words, there", [(("adjust", USER, "5"), 105), (("spend", USER, "5"), 95), (("hold", USER, "5"), 100)])
def test_a_command_whose_outcome_is_not_known_can_be_repeated(stack, words, there):
    """Only its request's id makes that harmless, and it had been made up."""
    shop = Shop(stack, ())
    stack.sql("SELECT credits_adjust(%s, %s, 100, 'r', true, 'ada', 'to begin with')", (shop.tenant, USER))
    lost = stack.cli("credits", *words, "--reason", "r", check=False, env={"FAULT": "pg_commit_reply_lost:fail@1"})
    assert lost.returncode == 1 and "--request" in lost.stderr, lost
    request = re.search(r"--request (\S+)", lost.stderr)[1]
    assert "repeated" in stack.cli("credits", *words, "--reason", "r", "--request", request).stdout
    assert shop.balance() == there and stack.sql("SELECT count(*) FROM credit_holds") == [(int(words[0] == "hold"),)]


def test_a_refund_whose_request_may_be_lost_is_asked_for_once(stack):
    shop = Shop(stack, ())
    order = shop.order(state="credited", whop_payment_id="pay_1")
    words = ("orders", "refund", order, "--amount", "5.00", "--reason", "r", "--yes")
    lost = stack.cli(*words, check=False, env={"FAULT": "pg_commit_reply_lost:fail@1"})
    assert lost.returncode == 1 and "--request" in lost.stderr, lost
    assert "made before" in stack.cli(*words, "--request", re.search(r"--request (\S+)", lost.stderr)[1]).stdout
    assert stack.sql("SELECT count(*) FROM credit_refund_requests") == [(1,)]


@pytest.mark.parametrize("end, result", [("release", "released"), ("expire", "expired"), ("capture", "captured")])
def test_a_hold_that_has_ended_is_not_held_again(stack, end, result):
    """Who asks once more, not knowing, would work for nothing."""
    shop = Shop(stack, ())
    stack.sql("SELECT credits_adjust(%s, %s, 100, 'r', true, 'ada', 'to begin with')", (shop.tenant, USER))
    hold = ("SELECT result FROM credits_hold(%s, %s, 10, 'h', 'work')", (whop.COMPANY, USER))
    assert [stack.sql(*hold), stack.sql(*hold)] == [[("held",)], [("repeated",)]]
    if end == "expire":
        stack.sql("UPDATE credit_holds SET expires_at = '-infinity'")
        stack.sql("SELECT credits_expire_holds(10)")
    else:
        stack.sql(f"SELECT credits_{end}(%s, 'h'{', 10' if end == 'capture' else ''})", (whop.COMPANY,))
    assert stack.sql(*hold) == [(result,)]
    assert "of a hold that has" in refused(stack, "credits", "hold", USER, "10", "--reason", "work", "--request", "h")


def test_a_refund_by_the_id_of_another_is_refused(stack):
    """Else who asks would believe that it is on its way."""
    shop = Shop(stack, ())
    one, other = [shop.order(state="credited", whop_payment_id=f"pay_{n}") for n in range(2)]
    stack.cli("orders", "refund", one, "--amount", "5.00", "--request", "r1", "--reason", "r", "--yes")
    assert "made before" in stack.cli("orders", "refund", one, "--amount", "5", "--request", "r1", "--reason", "r", "--yes").stdout
    for words in ((other, "--amount", "5.00"), (one, "--amount", "6.00"), (one,)):
        assert "use another" in refused(stack, "orders", "refund", *words, "--request", "r1", "--reason", "r", "--yes")
    assert stack.sql("SELECT count(*) FROM credit_refund_requests") == [(1,)]


def test_K15_nothing_is_spent_without_a_reason(stack):
    shop = Shop(stack, ())
    stack.sql("SELECT credits_adjust(%s, %s, 100, 'r', true, 'ada', 'to begin with')", (shop.tenant, USER))
    for verb in ("spend", "hold"):
        assert stack.sql(f"SELECT result FROM credits_{verb}(%s, %s, 1, %s, '')", (whop.COMPANY, USER, verb)) == [("invalid",)]
    with pytest.raises(psycopg2.errors.CheckViolation):
        stack.sql("SELECT credits_post(1, 5, 'adjust', 'request', 'x', '', 'why')")
    shop.check()


def test_K15_nor_does_a_replica_change_the_ledger(stack):
    """Triggers are not fired there, unless they are to be always."""
    shop = Shop(stack)
    shop.tell(paid())
    for change in ("UPDATE credit_transactions SET amount = 1", "DELETE FROM credit_transactions", "TRUNCATE credit_transactions CASCADE"):
        with pytest.raises(psycopg2.Error, match="append-only"):
            stack.sql(f"SET session_replication_role = replica; {change}")
    assert shop.ledger() == [("topup", CREDITS)]


def test_only_those_who_are_allowed_call_what_moves_credits(stack):
    """Functions are everybody's by default."""
    assert stack.sql("""SELECT proname FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) a
                        WHERE pronamespace = 'public'::regnamespace AND proname ~ '^(credits?|reconcile)_' AND a.grantee = 0""") == []
    assert stack.sql("""SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef
                        AND NOT coalesce('search_path=public, pg_temp' = ANY (proconfig), false)""") == []


# ---- what another system knew

def test_an_imported_order_that_was_refunded_there(stack, tmp_path):
    """The other system has taken the credits: they are not in the balance it gave us."""
    shop = Shop(stack)
    (tmp_path / "o.csv").write_text("id,user,credits,state,price,currency,payment\n"
                                    f"o1,{USER},100,refunded,10,usd,pay_1\no2,{USER},100,reversed,10,usd,pay_2\n")
    (tmp_path / "b.csv").write_text(f"user,balance\n{USER},40\n")
    stack.cli("credits", "import", tmp_path / "o.csv", tmp_path / "b.csv", "--yes")
    shop.tell(seen(substatus="refunded", refunded=TOTAL), refund(), paid("pay_2"), refund("pay_2"))
    assert shop.balance() == 40 and shop.reviews() == []
    assert "nothing to do" in stack.cli("credits", "import", tmp_path / "o.csv", tmp_path / "b.csv", "--yes").stdout
    # With its transactions it is the same.
    (tmp_path / "t.csv").write_text("id,user,credits,kind,payment,price,currency\nt1,user_9,100,topup,pay_9,10,usd\nt2,user_9,-100,refund,pay_9,10,usd\n")
    (tmp_path / "o.csv").write_text("id,user,credits,state,price,currency,payment\no9,user_9,100,refunded,10,usd,pay_9\n")
    stack.cli("credits", "import", tmp_path / "o.csv", tmp_path / "t.csv", "--yes")
    shop.tell(refund("pay_9"), seen("pay_9", substatus="refunded", refunded=TOTAL))
    assert shop.balance("user_9") == 0


@pytest.mark.parametrize("price", ["NaN", "Infinity", "-5", "1e2", "1.1234567", "123456789012345678901234567890", "0x10", ""])
def test_K13_an_imported_price_is_exact_or_refused(stack, tmp_path, price):
    Shop(stack, ())
    for name, text in (("o", f"id,user,credits,state,price,currency,payment\no1,u,5,credited,{price},usd,pay_1\n"),
                       ("t", f"id,user,credits,payment,price,currency\nt1,u,5,pay_1,{price},usd\n")):
        (tmp_path / f"{name}.csv").write_text(text)
        said = refused(stack, "credits", "import", tmp_path / f"{name}.csv", "--yes")
        assert "price" in said, said
    assert stack.sql("SELECT count(*) FROM payments") == [(0,)]
