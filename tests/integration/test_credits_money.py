"""K13: amounts of payments and refunds are exact or refused, never rounded silently. And what
refunds take, whatever the order in which they are told."""
from decimal import Decimal

import pytest

import whop
from ledger import CREDITS, PLAN, TOTAL, USER, Shop, dispute, paid, put_jobs, refund, seen

ALL = ("ingest", "journal", "credits", "scheduler")
DIGITS_30 = "123456789012345678901234567890"
EXACT = [("\"10.43\"", "10.43", "usd"), ("10.43", "10.43", "usd"), ("1043", "1043", "usd"), ("7500", "7500", "jpy"),
         ("1.234", "1.234", "kwd"), ("0.000001", "0.000001", "usd"), ("999999999999.999999", "999999999999.999999", "usd")]
ODD = ["1e2", "\"1e2\"", "1E+2", "-10", "\"-10.43\"", DIGITS_30, f"\"{DIGITS_30}\"", "10.1234567", "\"10,43\"", "\"ten\"",
       "\"NaN\"", "\"Infinity\"", "\" 10\"", "\"+10\"", "\"0x10\"", "\".5\"", "\"5.\""]


def body(payment, shape="v1-nested", currency="usd"):
    it = whop.payment(shape, id=payment, user=USER, plan=PLAN, metadata={})
    it["data"]["currency"] = currency
    return it


@pytest.mark.parametrize("shape, member", [("v1-nested", "total"), ("v5", "final_amount")])
def test_K13_an_amount_is_kept_exactly(stack, shape, member):
    shop = Shop(stack, ALL)
    for n, (json_of, _, currency) in enumerate(EXACT):
        shop.send(body(f"pay_{n}", shape, currency), **{member: json_of})
    shop.rest()
    for n, (json_of, value, currency) in enumerate(EXACT):
        assert shop.payment("(amount, amount_text, currency)::text", f"pay_{n}") == str(
            f"({Decimal(value):.6f},{json_of.strip(chr(34))},{currency})")
    assert shop.balance() == CREDITS * len(EXACT)


def test_K13_an_odd_amount_is_for_a_person(stack):
    shop = Shop(stack, ALL)
    for n, json_of in enumerate(ODD):
        shop.send(body(f"pay_{n}"), total=json_of)
    shop.rest()
    for n, json_of in enumerate(ODD):
        assert shop.payment("amount", f"pay_{n}") is None
        assert shop.payment("amount_text", f"pay_{n}") == json_of.strip('"')
        assert shop.reviews(f"pay_{n}") == ["odd_amount"] and shop.ledger(f"pay_{n}") == []


def test_K13_nothing_is_nothing(stack):
    shop = Shop(stack, ALL)
    for n, json_of in enumerate(("0", "0.0", "\"0.00\"")):
        shop.send(body(f"pay_{n}"), total=json_of)
    shop.rest()
    assert stack.sql("SELECT decision, count(*) FROM payments GROUP BY 1") == [("free_payment", 3)]
    assert stack.sql("SELECT 1 FROM credit_review UNION ALL SELECT 1 FROM credit_transactions") == []


SHARES = [("usd", "20.86", "10.43", 50), ("usd", "10.43", "0.01", 0), ("usd", "10.43", "10.42", 99), ("jpy", "7500", "1043", 13),
          ("kwd", "1.234", "0.617", 50), ("kwd", "1.234", "1.233", 99), ("usd", "30", "10", 33), ("usd", "0.03", "0.01", 33),
          ("usd", "999999999999.999999", "999999999999.999998", 99), ("usd", "10", "20", 100)]


def test_K13_a_refund_takes_its_exact_share(stack):
    shop = Shop(stack)
    shop.tell_at_once(*[paid(f"pay_{n}", amount=share[1], currency=share[0]) for n, share in enumerate(SHARES)])
    shop.tell_at_once(*[refund(f"pay_{n}", share[2], currency=share[0]) for n, share in enumerate(SHARES)])
    for n, share in enumerate(SHARES):
        assert -sum(credits for kind, credits in shop.ledger(f"pay_{n}") if kind == "refund") == share[3], share


def test_K13_all_but_the_last_cent_never_takes_the_last_credit(stack):
    """A quotient of twelve digits would be rounded up."""
    Shop(stack, ())
    assert stack.sql("""SELECT credits_refunded(1, 999999999999.999999, 999999999999.999998),
                               credits_refunded(9007199254740993, 3, 1)""") == [(0, 3002399751580331)]


def test_K13_an_odd_refund_is_for_a_person(stack):
    """Nothing is taken, and somebody gets to know."""
    shop = Shop(stack)
    texts = {f"pay_{n}": json_of.strip('"') for n, json_of in enumerate(ODD)}
    shop.tell_at_once(*[paid(payment) for payment in texts])
    shop.tell_at_once(*[refund(payment, amount) for payment, amount in texts.items()])
    for payment, amount in texts.items():
        assert shop.ledger(payment) == [("topup", CREDITS)] and shop.reviews(payment) == ["odd_refund"], amount
    assert shop.notices("review") == [("admin", payment) for payment in sorted(texts)]


def test_K13_an_odd_refund_before_its_payment(stack):
    shop = Shop(stack)
    shop.tell(refund(amount="1e2"), paid())
    assert shop.ledger() == [("topup", CREDITS)] and shop.reviews() == ["odd_refund"]


def test_K13_an_odd_sum_of_refunds_on_the_payment(stack):
    shop = Shop(stack)
    shop.tell(paid(), seen(refunded="-5.00"))
    assert shop.ledger() == [("topup", CREDITS)] and shop.reviews() == ["odd_refund"]


def test_K13_an_odd_refund_is_listed_once(stack):
    """A person has put it aside: the same news again do not bring it back, other ones do."""
    shop = Shop(stack)
    news = refund(amount="1e2")
    shop.tell(paid(), news)
    stack.sql("UPDATE credit_review SET state = 'dismissed', handled_by = 'x', handled_at = now()")
    shop.tell(news, seen(), refund(amount="5.00", id="rf_b"))
    assert shop.reviews() == [] and shop.balance() == 50
    shop.tell(refund(amount="x", id="rf_c"))
    assert shop.reviews() == ["odd_refund"]


def test_K13_a_refund_in_another_currency(stack):
    """1,000 yen of 10 dollars are not all of it."""
    shop = Shop(stack)
    shop.tell(paid(), refund(amount="1000", currency="jpy"))
    assert shop.ledger() == [("topup", CREDITS)] and shop.reviews() == ["odd_refund"]


def test_K13_a_refund_of_a_payment_whose_amount_nobody_knows(stack):
    shop = Shop(stack)
    shop.tell(paid(amount=None), refund(amount="1.00"))
    assert shop.ledger() == [("topup", CREDITS)] and shop.reviews() == ["odd_refund"]
    shop.tell(seen(amount=TOTAL))
    assert shop.ledger() == [("topup", CREDITS), ("refund", -10)]


def test_what_was_paid_counts_not_what_was_first_asked(stack):
    """Tax is added, or a code takes off, between the first event and the payment."""
    shop = Shop(stack)
    shop.tell(seen(status="open", substatus="incomplete", amount="5.00"), paid(amount="10.00"),
              seen(status="open", substatus="incomplete", amount="5.00"), refund(amount="5.00"))
    assert shop.balance() == 50


def test_an_odd_amount_does_not_hide_a_plain_one(stack):
    shop = Shop(stack)
    shop.tell(paid(), seen(amount="1e2"), refund(amount="5.00"))
    assert shop.balance() == 50 and shop.reviews() == []


# ---- refunds in any order

@pytest.mark.parametrize("substatus", ["refunded", "auto_refunded"])
def test_refunded_by_whop_itself(stack, substatus):
    """The payment only says that all of it has gone back."""
    shop = Shop(stack)
    shop.tell(paid(), seen(substatus=substatus), seen(substatus=substatus))
    assert shop.ledger() == [("topup", CREDITS), ("refund", -CREDITS)]
    shop.tell(refund(), seen(substatus="dispute_needs_response"))
    assert shop.balance() == 0


def test_refunded_before_anything_else_is_known(stack):
    shop = Shop(stack)
    shop.tell(seen(substatus="auto_refunded"))
    assert sum(credits for _, credits in shop.ledger()) == 0


def test_a_refund_that_fails_after_all(stack):
    shop = Shop(stack)
    order = shop.order()
    shop.tell(paid(order_id=order), refund(), refund(status="failed"))
    assert shop.ledger() == [("topup", CREDITS), ("refund", -CREDITS), ("refund_reversal", CREDITS)]
    assert shop.order_is(order)[:2] == ("credited", "paid")
    shop.tell(refund(), refund(status="canceled"), refund())
    assert shop.balance() == 0


@pytest.mark.parametrize("status", ["pending", "requires_action", "failed", "canceled"])
def test_a_refund_that_has_not_happened(stack, status):
    shop = Shop(stack)
    shop.tell(paid(), refund(status=status))
    assert shop.ledger() == [("topup", CREDITS)]


def test_a_late_refund_that_is_older_than_what_is_known(stack):
    shop = Shop(stack)
    shop.tell(paid(), refund(), refund(status="pending", at=1), refund(status="failed", at=2))
    assert shop.balance() == 0


def test_more_is_refunded_than_was_paid(stack):
    shop = Shop(stack)
    shop.tell(paid(), refund(amount="7.00", id="rf_a"), refund(amount="7.00", id="rf_b"), refund(amount="7.00", id="rf_c"))
    assert shop.ledger() == [("topup", CREDITS), ("refund", -70), ("refund", -30)]


def test_refund_and_dispute_of_one_batch(stack):
    shop = Shop(stack)
    shop.tell_at_once(refund(amount="4.00"), dispute(status="lost"), paid())
    assert shop.balance() == 0 and sum(credits for _, credits in shop.ledger()) == 0


@pytest.mark.parametrize("news, reason", [(refund, "names no refund"), (dispute, "names no dispute")])
def test_without_an_id_it_is_not_mixed_up_with_another(stack, news, reason):
    shop = Shop(stack)
    shop.tell(paid())
    stack.expect_errors(reason)
    nameless = {"refund": "", "dispute": ""}
    put_jobs(stack, [(kind, {**fields, **nameless}) for kind, fields in (news("pay_1"), news("pay_2"))], shop.tenant)
    stack.eventually(stack.at_rest)
    assert stack.sql("SELECT state, reason, count(*) FROM jobs WHERE state <> 'done' GROUP BY 1, 2") == [("dead", reason, 2)]
    assert shop.balance() == CREDITS


# ---- negative policy

def test_spent_credits_are_refunded_into_the_negative(stack):
    shop = Shop(stack)
    shop.tell(paid())
    stack.sql("SELECT credits_spend(%s, %s, 70, 'r1', 'work')", (whop.COMPANY, USER))
    shop.tell(refund())
    assert shop.balance() == -70
    assert stack.sql("SELECT result FROM credits_spend(%s, %s, 1, 'r2', 'work')", (whop.COMPANY, USER)) == [("insufficient",)]
    shop.tell(paid("pay_2"))
    assert shop.balance() == 30


def test_clamp_takes_what_there_is_and_remembers_the_rest(stack):
    shop = Shop(stack, negative_policy="clamp")
    shop.tell(paid())
    stack.sql("SELECT credits_spend(%s, %s, 70, 'r1', 'work')", (whop.COMPANY, USER))
    shop.tell(refund())
    assert (shop.balance(), shop.debt()) == (0, 70)
    assert stack.sql("SELECT credits, amount, balance_after FROM credit_transactions WHERE kind = 'refund'") == [(-100, -30, 0)]
    shop.tell(paid("pay_2", plan="plan_3"))
    assert (shop.balance(), shop.debt()) == (0, 67)
    shop.tell_at_once(paid("pay_3", plan="plan_3"), paid("pay_4"), paid("pay_5", plan="plan_1"))
    assert (shop.balance(), shop.debt()) == (37, 0)


def test_clamp_and_a_dispute_that_is_won(stack):
    shop = Shop(stack, negative_policy="clamp")
    shop.tell(paid())
    stack.sql("SELECT credits_spend(%s, %s, 70, 'r1', 'work')", (whop.COMPANY, USER))
    shop.tell(dispute())
    assert (shop.balance(), shop.debt()) == (0, 70)
    shop.tell(dispute(status="won"))
    assert (shop.balance(), shop.debt()) == (30, 0)


def test_the_policy_changes_while_there_is_debt(stack):
    shop = Shop(stack, negative_policy="clamp")
    shop.tell(paid(), paid("pay_2"))
    stack.sql("SELECT credits_spend(%s, %s, 150, 'r1', 'work')", (whop.COMPANY, USER))
    shop.tell(refund())
    assert (shop.balance(), shop.debt()) == (0, 50)
    stack.sql("UPDATE credit_settings SET negative_policy = 'allow_negative'")
    shop.tell(refund("pay_2"))
    assert shop.balance() - shop.debt() == -150
    shop.tell(paid("pay_3"), paid("pay_4"))
    assert (shop.balance(), shop.debt()) == (50, 0)
