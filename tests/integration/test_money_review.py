"""Ways in which money or credits could get lost, be given twice or be given for nothing: each was one,
or could easily become one."""
import re

import pytest

from ledger import USER, Shop, refund

PAID_MS = 1_767_312_000_000


def refused(stack, *args):
    done = stack.cli(*args, check=False)
    assert done.returncode == 1 and done.stdout == "", (args, done)
    return done.stderr


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


def test_a_refund_by_the_id_of_another_is_refused(stack):
    """Else who asks would believe that it is on its way."""
    shop = Shop(stack, ())
    one, other = [shop.order(state="credited", whop_payment_id=f"pay_{n}") for n in range(2)]
    stack.cli("orders", "refund", one, "--amount", "5.00", "--request", "r1", "--reason", "r", "--yes")
    assert "made before" in stack.cli("orders", "refund", one, "--amount", "5", "--request", "r1", "--reason", "r", "--yes").stdout
    for words in ((other, "--amount", "5.00"), (one, "--amount", "6.00"), (one,)):
        assert "use another" in refused(stack, "orders", "refund", *words, "--request", "r1", "--reason", "r", "--yes")
    assert stack.sql("SELECT count(*) FROM credit_refund_requests") == [(1,)]
