"""Ways in which money or credits could get lost, be given twice or be given for nothing: each was one,
or could easily become one."""
import itertools
import re
import time

import psycopg2
import pytest

import whop
from ledger import CREDITS, TOTAL, USER, Shop, paid, refund, seen

PAID_MS = 1_767_312_000_000


def refused(stack, *args):
    done = stack.cli(*args, check=False)
    assert done.returncode == 1 and done.stdout == "", (args, done)
    return done.stderr


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


# ---- the same thing written in another way

def test_currencies_are_the_same_in_any_case(stack):
    shop = Shop(stack)
    order = shop.order(credits=77, price=TOTAL, own_price=True, currency="USD")
    shop.tell(paid(order_id=order, currency="USD"), refund(amount="5.00", currency="usd"))
    shop.tell(paid("pay_2"), refund("pay_2", amount="5.00", currency="Usd"))
    assert shop.reviews() == [] and shop.balance() == 77 - 38 + 50


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
