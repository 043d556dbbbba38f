"""Disputes: every sequence of statuses, several of one payment, beside refunds, late and repeated."""
import itertools
import math

import pytest

from ledger import CREDITS, TOTAL, Shop, dispute, event, failed, paid, put_jobs, refund, seen

STATUSES = ("warning_needs_response", "warning_under_review", "warning_closed", "needs_response", "under_review", "won",
            "lost", "closed", "other", "never_heard_of")
HOLDS = {"needs_response", "under_review", "other", "never_heard_of"}
OPEN, WARNING = "needs_response", "warning_needs_response"


def left_by(status):
    """(credits that are left, sum of holds, sum of losses)"""
    return (0, -CREDITS, 0) if status in HOLDS else (0, 0, -CREDITS) if status == "lost" else (CREDITS, 0, 0)


def state_of(shop, payment):
    sums = {"topup": 0, "hold": 0, "loss": 0}
    for kind, credits in shop.ledger(payment):
        sums[{"dispute_hold": "hold", "dispute_release": "hold", "dispute_loss": "loss"}.get(kind, "topup")] += credits
    return sum(sums.values()), sums["hold"], sums["loss"]


def test_every_sequence_of_three_statuses(stack):
    """1,000 disputes side by side, each step of all of them done before the next."""
    shop = Shop(stack)
    paths = {f"pay_{n}": path for n, path in enumerate(itertools.product(STATUSES, repeat=3))}
    shop.tell_at_once(*[paid(payment) for payment in paths])
    for step in range(3):
        shop.tell_at_once(*[dispute(payment, path[step]) for payment, path in paths.items()])
        wrong = {payment: path[:step + 1] for payment, path in paths.items()
                 if state_of(shop, payment) != left_by(path[step])}
        assert not wrong, f"{len(wrong)}, e.g. {next(iter(wrong.items()))}"


def test_what_is_repeated_or_older_changes_nothing(stack):
    shop = Shop(stack)
    shop.tell(paid(), dispute(), dispute(status="won"))
    before = shop.ledger()
    for status in STATUSES:
        shop.tell(dispute(status=status, at=1))
    assert shop.ledger() == before and shop.balance() == CREDITS


def test_of_the_same_moment_the_end_counts(stack):
    """As in generations whose only time is when the dispute began."""
    shop = Shop(stack)
    for n, order in enumerate(itertools.permutations([WARNING, OPEN, "won"])):
        payment = f"pay_{n}"
        shop.tell_at_once(paid(payment))
        for status in order:
            shop.tell(dispute(payment, status, at=5))
        assert state_of(shop, payment) == left_by("won"), order


@pytest.mark.parametrize("one, other", itertools.combinations_with_replacement(
    ["warning_closed", OPEN, "won", "lost"], 2))
def test_two_disputes_of_a_payment(stack, one, other):
    shop = Shop(stack)
    shop.tell(paid(), dispute(id="dspt_a"), dispute(id="dspt_b"))
    assert shop.balance() == 0 and len(shop.ledger()) == 2  # held once
    shop.tell(dispute(status=one, id="dspt_a"), dispute(status=other, id="dspt_b"))
    worst = max((one, other), key=["warning_closed", "won", OPEN, "lost"].index)
    assert state_of(shop, "pay_1") == left_by(worst)
    assert shop.notices("dispute") == [(who, it) for who in ("admin", "user") for it in ("dspt_a", "dspt_b")]


def test_a_dispute_of_a_payment_nobody_told_of(stack):
    shop = Shop(stack)
    shop.tell(dispute())
    assert shop.ledger() == [] and shop.notices("dispute") == [("admin", "dspt_pay_1"), ("user", "dspt_pay_1")]
    shop.tell(paid())
    assert shop.balance() == 0
    shop.tell(dispute(status="won"))
    assert shop.balance() == CREDITS


def test_a_warning_only_tells(stack):
    shop = Shop(stack)
    order = shop.order()
    shop.tell(paid(order_id=order), dispute(status=WARNING))
    assert shop.ledger() == [("topup", CREDITS)] and shop.order_is(order)[0] == "credited"
    assert shop.notices("dispute") == [("admin", "dspt_pay_1"), ("user", "dspt_pay_1")]


@pytest.mark.parametrize("end", ["won", "lost"])
def test_refund_then_dispute_takes_what_is_left(stack, end):
    shop = Shop(stack)
    order = shop.order()
    shop.tell(paid(order_id=order), refund(amount="3.00"), dispute())
    assert shop.ledger() == [("topup", 100), ("refund", -30), ("dispute_hold", -70)]
    shop.tell(dispute(status=end))
    assert shop.balance() == (70 if end == "won" else 0)
    assert shop.order_is(order)[0] == ("partially_refunded" if end == "won" else "reversed")


def test_a_refund_while_it_is_disputed_then_won(stack):
    shop = Shop(stack)
    shop.tell(paid(), dispute(), refund(amount="3.00"), dispute(status="won"))
    assert shop.balance() == 70


@pytest.mark.parametrize("amount, currency", [("1500", "jpy"), ("10.00", "eur"), ("2.50", "usd"), ("a lot", "usd"), (None, None)])
def test_a_dispute_in_another_currency_or_of_a_part_holds_all_of_it(stack, amount, currency):
    """What is held comes back, so that nobody has to convert: the bank may take all of it."""
    shop = Shop(stack)
    shop.tell(paid(), dispute(amount=amount, currency=currency))
    assert shop.ledger() == [("topup", CREDITS), ("dispute_hold", -CREDITS)] and shop.reviews() == []
    shop.tell(dispute(amount=amount, currency=currency, status="won"))
    assert shop.balance() == CREDITS


@pytest.mark.parametrize("end", ["won", "lost"])
@pytest.mark.parametrize("first", ["refund", "dispute"])
def test_charged_back_and_wholly_refunded_is_taken_once(stack, first, end):
    shop = Shop(stack)
    order = shop.order()
    news = [refund(), dispute()]
    shop.tell(paid(order_id=order), *(news if first == "refund" else news[::-1]), dispute(status=end))
    assert shop.balance() == 0 and shop.ledger()[0] == ("topup", CREDITS)
    assert sum(credits for kind, credits in shop.ledger() if kind == "refund") == -CREDITS
    assert shop.order_is(order)[0] == ("refunded" if end == "won" else "reversed")


def test_a_disputed_payment_that_is_assigned_by_hand(stack):
    """In review, disputed, and then somebody says whose it is: granted and held at once."""
    shop = Shop(stack)
    shop.tell(paid(user=None), dispute())
    assert shop.reviews() == ["unknown_user"] and shop.ledger() == []
    stack.cli("credits", "review", "assign", "pay_1", "--user", "user_late")
    assert shop.ledger() == [("topup", CREDITS), ("dispute_hold", -CREDITS)] and shop.balance("user_late") == 0
    shop.tell(dispute(status="won"))
    assert shop.balance("user_late") == CREDITS


@pytest.mark.parametrize("fields", [{"amount": "0"}, {"plan": "plan_none"}])
def test_a_dispute_of_a_payment_that_earned_nothing(stack, fields):
    shop = Shop(stack)
    shop.tell(paid(**fields), dispute(), dispute(status="lost"))
    assert shop.ledger() == [] and shop.notices("dispute") == [("admin", "dspt_pay_1"), ("user", "dspt_pay_1")]


def test_an_alert_before_and_after_its_dispute(stack):
    shop = Shop(stack)
    warning = {"dispute": "dspa_1", "amount": TOTAL, "status": "dispute_rdr"}
    told = event("dispute_alert", "dispute_alert.created", "pay_1", **warning)
    shop.tell(told, paid(), event("dispute_alert", "dispute_alert.created", "pay_1", **warning), dispute(), told)
    assert shop.ledger() == [("topup", CREDITS), ("dispute_hold", -CREDITS)]
    assert shop.notices("dispute_alert") == [("admin", "dspa_1")]


def test_a_loss_and_then_a_further_refund(stack):
    shop = Shop(stack)
    shop.tell(paid(), dispute(), dispute(status="lost"), refund(amount="3.00", id="rf_a"), refund(amount="7.00", id="rf_b"))
    assert shop.balance() == 0
    assert sum(credits for kind, credits in shop.ledger() if kind == "refund") == -100
    assert sum(credits for kind, credits in shop.ledger() if kind == "dispute_loss") == 0


def test_lost_and_then_won_after_all(stack):
    shop = Shop(stack)
    for _ in range(3):
        shop.tell(dispute(status="lost"), paid(), dispute(status="won"))
        assert shop.balance() == CREDITS


def test_won_and_refunded_and_reconciled_at_once(stack):
    shop = Shop(stack)
    for n in range(20):
        payment = f"pay_{n}"
        shop.tell_at_once(paid(payment), refund(payment, "5.00"), dispute(payment), dispute(payment, "won"),
                          seen(payment, refunded="5.00", substatus="dispute_won"))
    assert shop.balance() == 20 * 50


def test_failures_of_two_workers_that_share_orders_lock_them_in_one_order(stack):
    """Each worker has a batch about the same orders, the other way round."""
    shop = Shop(stack, ("scheduler",))
    orders = [shop.order(user=f"user_{n}") for n in range(24)]
    for turn in range(10):
        rows = orders if turn % 2 else orders[::-1]
        put_jobs(stack, [failed(f"pay_{turn}_{n:02}", order_id=order) for n, order in enumerate(rows)], shop.tenant)
    for _ in range(2):
        stack.start("credits", env={"SLOTS": 8})
    shop.rest()
    assert stack.sql("SELECT max(attempts) FROM jobs") == [(0,)]
    assert not any("put off" in proc.log() for proc in stack.procs)
    assert math.prod(len(shop.history(order)) for order in orders) == 1
