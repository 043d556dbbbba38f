"""Warnings of the card networks before a dispute: told once, to the admins, and nothing is taken."""
import json
import time

import pytest

import whop
from test_orders import CREDITS
from test_reconcile_disputes import Court


@pytest.fixture
def court(stack, sim):
    return Court(stack, sim)


def alert(id="dspa_1", payment="pay_1", **data):
    body = whop.vector("v1", "dispute_alert.created")
    body.update(id=whop.new_id("msg"), timestamp=whop.iso(int(time.time())))
    body["data"].update(id=id, **data)
    if payment is None:
        body["data"]["payment"] = None
    else:
        body["data"]["payment"]["id"] = payment
    return body


def notices(stack):
    return stack.sql("SELECT audience, about, owner_id, detail FROM credit_notices WHERE kind = 'dispute_alert' ORDER BY about")


def test_an_alert_tells_and_takes_nothing(court):
    order = court.buys()
    for _ in range(3):
        assert whop.send(court.stack, alert(alert_type="fraud", charge_for_alert=True, dispute=None)) == 200
    court.stack.eventually(lambda: court.stack.sql(
        "SELECT count(*) FROM jobs WHERE kind = 'credits.dispute_alert' AND state IN ('done', 'skipped')") == [(3,)], 20)
    assert notices(court.stack) == [("admin", "dspa_1", "user_T3stMarisol01", {
        "payment": "pay_1", "type": "fraud", "amount": "49.99", "currency": "usd"})]
    court.becomes(order, "credited", CREDITS)
    assert court.ledger() == [("topup", CREDITS)]
    assert json.loads(court.stack.cli("credits", "stats", "--json").stdout)[0]["notices"]["dispute_alert"] == 1
    assert "dispute_alert" in court.stack.cli("trace", order).stdout
    court.tell_dispute("needs_response")  # what it warned of comes
    court.becomes(order, "disputed", 0)
    assert len(notices(court.stack)) == 1


def test_alerts_of_all_spellings_and_of_nothing_known(court):
    """With no payment, with one nobody knows, before the payment, and as older generations would say it."""
    bodies = [alert("dspa_1", payment=None, dispute=None), alert("dspa_2", payment="pay_stranger")]
    data = {"id": "dspa_3", "amount": 7.5, "currency": "usd", "created_at": int(time.time()), "payment_id": "pay_late"}
    for action in ("dispute_alert.created", "dispute_alert_created"):
        bodies.append({"api_version": "v5", "action": action, "data": {**data, "payment": {"id": "pay_late", "company_id": whop.COMPANY}}})
    bodies.append({"action": "dispute_alert_created", "data": {**data, "id": "dspa_4"}})
    for body in bodies:
        assert whop.send(court.stack, body) == 200
    court.stack.eventually(lambda: [row[1] for row in notices(court.stack)] == ["dspa_1", "dspa_2", "dspa_3", "dspa_4"], 20)
    assert "payment" not in notices(court.stack)[0][3]
    assert court.stack.sql("SELECT count(*) FROM payments") == [(0,)]
    order = court.buys("pay_late")
    court.becomes(order, "credited", CREDITS)
    assert court.stack.sql("SELECT count(*) FROM jobs WHERE state IN ('dead', 'parked')") == [(0,)]
