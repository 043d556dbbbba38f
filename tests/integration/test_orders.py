"""Orders that are paid at Whop, on the real programs against the simulator: from the checkout to the
ledger, and back by refunds and disputes; calls whose reply is lost; and the books beside each other."""
import json
import time

import pytest

import harness
import sim as simulator
import whop

USER, PLAN, CREDITS, PRICE = "user_buyer", "plan_starter", 5000, "7.50"


class Shop:
    """An installation that sells one plan, with Whop as its simulator."""

    def __init__(self, stack, sim):
        self.stack, self.sim = stack, sim
        stack.env.update(sim.env, WHOP_API_KEY=simulator.KEY, OUTBOUND_VERIFY_MS="100",
                         OUTBOUND_GRACE_MS=str(int(500 * harness.PACE)), HTTP_TIMEOUT_MS=str(int(2000 * harness.PACE)))
        sim.put("users", {"id": USER})
        sim.put("products", {"id": "prod_1"})
        sim.put("plans", {"id": PLAN, "product": "prod_1", "initial_price": PRICE, "currency": "usd"})
        stack.sql("INSERT INTO tenants (slug, whop_company_id) VALUES ('shop', %s) ON CONFLICT DO NOTHING",
                  (whop.COMPANY,))
        self.tenant = stack.sql("SELECT id FROM tenants")[0][0]
        stack.cli("credits", "plans", "add", "--plan", PLAN, "--name", "Starter", "--credits", CREDITS, "--price", PRICE,
                  "--currency", "usd")
        stack.up("ingest", "journal", "credits", "sync", "scheduler")

    def create(self, *more, check=True):
        done = self.stack.cli("orders", "create", "--user", USER, "--plan", PLAN, "--json", *more, check=check)
        return json.loads(done.stdout) if check else done

    def order(self, order):
        return json.loads(self.stack.cli("orders", "show", order, "--json").stdout)[0]

    def state(self, order):
        return self.stack.sql("SELECT state FROM credit_orders WHERE id = %s", (order,))[0][0]

    def checkout(self, order):
        return self.stack.sql("SELECT whop_checkout_id FROM credit_orders WHERE id = %s", (order,))[0][0]

    def pay(self, order, payment="pay_1", told=True, total=PRICE, **more):
        """The buyer pays: Whop has the payment, and tells of it unless its webhooks are out of order."""
        made = {"id": payment, "user": USER, "plan": PLAN, "total": total, "subtotal": total, "currency": "usd",
                "status": "paid", "substatus": "succeeded", "refunded_amount": "0", "refundable": True,
                "updated_at": whop.iso(int(time.time())), "paid_at": whop.iso(int(time.time())),
                "checkout_configuration_id": self.checkout(order), "metadata": {"order_id": order, "credits": str(CREDITS)}, **more}
        self.sim.put("payments", made)
        if told:
            self.tell("payment.succeeded", payment, order, total=total)

    def tell(self, event, payment, order, status="paid", substatus="succeeded", total=PRICE):
        body = whop.payment("v1-nested", id=payment, user=USER, plan=PLAN, event="payment.succeeded",
                            metadata={"order_id": order})
        body["type"] = event
        body["data"].update(status=status, substatus=substatus, total=float(total), refunded_amount=0)
        assert whop.send(self.stack, body) == 200

    def tell_refund(self, refund, payment, amount, status="succeeded"):
        body = whop.vector("v1", "refund.updated")
        body["id"] = whop.new_id("msg")
        body["timestamp"] = whop.iso(int(time.time()))
        body["data"].update(id=refund, amount=amount, status=status)
        body["data"]["payment"].update(id=payment, total=float(PRICE))
        assert whop.send(self.stack, body) == 200

    def tell_dispute(self, status, payment="pay_1", dispute="dspt_1"):
        body = whop.vector("v1", "dispute.created")
        body["id"] = whop.new_id("msg")
        body["timestamp"] = whop.iso(int(time.time()))
        body["data"].update(id=dispute, status=status)
        body["data"]["payment"].update(id=payment)
        assert whop.send(self.stack, body) == 200
        time.sleep(1.1)  # the sender's clock has seconds here: the next news is newer

    def balance(self):
        found = self.stack.sql("SELECT credits_balance FROM credit_accounts WHERE owner_id = %s", (USER,))
        return found[0][0] if found else 0

    def becomes(self, order, state, balance):
        self.stack.eventually(lambda: self.state(order) == state and self.balance() == balance, 20)
        assert self.stack.sql("SELECT * FROM credit_mismatches") == []

    def posts(self, path):
        return self.sim.calls(method="POST", path=f"/api/v1/{path}")


@pytest.fixture
def shop(stack, sim):
    return Shop(stack, sim)


# ---- from the checkout to the ledger

def test_from_order_to_dispute(shop):
    """Created, paid, half of it refunded, disputed, won: and the trace tells it in order."""
    made = shop.create()
    order = made["order_id"]
    assert made["state"] == "checkout_open" and made["purchase_url"].startswith("https://")
    call = shop.posts("checkout_configurations")[0]
    assert call["idempotency_key"] and call["body"]["metadata"]["order_id"] == order
    shop.pay(order)
    shop.becomes(order, "credited", CREDITS)

    assert "--yes" in shop.stack.cli("orders", "refund", order, "--amount", "3.75", "--reason", "half").stdout
    assert shop.posts("payments/*/refund") == []
    shop.stack.cli("orders", "refund", order, "--amount", "3.75", "--reason", "half", "--yes")
    shop.stack.eventually(lambda: shop.sim.state()["refunds"])
    refund = next(iter(shop.sim.state()["refunds"].values()))
    shop.tell_refund(refund["id"], "pay_1", 3.75)
    shop.becomes(order, "partially_refunded", CREDITS // 2)

    shop.tell_dispute("needs_response")
    shop.becomes(order, "disputed", 0)
    shop.tell_dispute("won")
    shop.becomes(order, "partially_refunded", CREDITS // 2)

    told = shop.stack.cli("trace", order).stdout
    places = [told.index(word) for word in ("created", "checkout_open", "(topup)", "(refund)", "(dispute_hold)",
                                            "(dispute_release)")]
    assert places == sorted(places), told


def test_an_order_at_its_own_price(shop):
    made = shop.create("--credits", "100000", "--price", "990.00", "--currency", "usd", "--name", "Enterprise")
    body = shop.posts("checkout_configurations")[0]["body"]
    assert body["plan"]["initial_price"] in ("990", 990, "990.00") and "plan_id" not in body
    shop.pay(made["order_id"], total="990.00", plan=shop.order(made["order_id"])["plan_id"] or PLAN)
    shop.becomes(made["order_id"], "credited", 100_000)


def test_K4_a_failed_payment_and_then_a_good_one(shop):
    order = shop.create()["order_id"]
    shop.tell("payment.failed", "pay_1", order, status="open", substatus="failed")
    shop.becomes(order, "failed", 0)
    assert shop.stack.sql("SELECT audience FROM credit_notices WHERE kind = 'payment_failed' ORDER BY 1") == \
        [("admin",), ("user",)]
    shop.pay(order)
    shop.becomes(order, "credited", CREDITS)


def test_K14_the_switch(shop):
    running = shop.create()["order_id"]
    shop.stack.cli("credits", "settings", "--whop", "off")
    refused = shop.create(check=False)
    assert refused.returncode != 0 and "switched off" in refused.stderr
    shop.pay(running)
    shop.becomes(running, "credited", CREDITS)
    shop.stack.cli("credits", "settings", "--whop", "listed", "--user", USER)
    assert shop.create()["state"] == "checkout_open"


def test_a_manual_order_is_paid_at_whop_instead(shop):
    order = shop.create("--manual")["order_id"]
    shop.stack.cli("orders", "convert", order)
    assert shop.order(order)["state"] == "checkout_open"
    refused = shop.stack.cli("orders", "convert", order, check=False)
    assert refused.returncode != 0 and "checkout_open" in refused.stderr
    shop.pay(order)
    shop.becomes(order, "credited", CREDITS)


def test_expired_and_paid_all_the_same(shop):
    order = shop.create()["order_id"]
    shop.stack.sql("UPDATE credit_orders SET expires_at = now()")
    shop.stack.cli("schedules", "fire", "credits.expire", "--reason", "test")
    shop.becomes(order, "expired", 0)
    shop.pay(order)
    shop.becomes(order, "credited", CREDITS)


def test_cancelled_and_paid_goes_to_a_person(shop):
    order = shop.create()["order_id"]
    shop.stack.cli("orders", "cancel", order, "--reason", "changed his mind")
    shop.pay(order)
    shop.stack.eventually(lambda: shop.stack.sql("SELECT reason FROM credit_review") == [("order_cancelled",)])
    assert shop.balance() == 0 and shop.order(order)["state"] == "cancelled"


def test_whop_makes_no_checkout(shop):
    shop.sim.rule(operation="checkout_configurations.create", status=400,
                  body={"error": {"type": "bad_request", "message": "This plan is gone."}})
    refused = shop.create(check=False)
    assert refused.returncode != 0 and "This plan is gone" in refused.stderr
    assert shop.stack.sql("SELECT state FROM credit_orders") == [("cancelled",)]


# ---- D: replies that are lost

LOST = {
    "reply dropped": {"fault": "drop"},
    "reply cut": {"fault": "cut"},
    "closed unread": {"fault": "close"},
    "503 instead": {"status": 503},
}


@pytest.mark.parametrize("how", LOST)
def test_never_two_checkouts(shop, how):
    shop.sim.rule(operation="checkout_configurations.create", **LOST[how])
    made = shop.create("--wait", "40")
    assert made["state"] == "checkout_open"
    assert len(shop.sim.effects("checkout_configuration.created")) == 1
    shop.pay(made["order_id"])
    shop.becomes(made["order_id"], "credited", CREDITS)


@pytest.mark.parametrize("how", LOST)
@pytest.mark.parametrize("keeps", [True, False], ids=["key honoured", "key ignored"])
def test_never_two_refunds(shop, how, keeps):
    """Whether or not Whop knows the key: a refund that took effect is found before another is asked for."""
    shop.sim.settings(not_idempotent=[] if keeps else ["payments.refund"])
    order = shop.create()["order_id"]
    shop.pay(order)
    shop.becomes(order, "credited", CREDITS)
    shop.sim.rule(operation="payments.refund", **LOST[how])
    for _ in range(2):  # the operator repeats the command
        shop.stack.cli("orders", "refund", order, "--amount", "3.75", "--request", "r1", "--reason", "half", "--yes")
    shop.stack.eventually(lambda: shop.stack.sql("SELECT state FROM credit_refund_requests") == [("sent",)], 40)
    assert len(shop.sim.effects("refund.created")) == 1
    refund = next(iter(shop.sim.state()["refunds"].values()))
    shop.tell_refund(refund["id"], "pay_1", 3.75)
    shop.becomes(order, "partially_refunded", CREDITS // 2)
    shop.stack.cli("orders", "refund", order, "--request", "r2", "--reason", "the rest", "--yes")
    shop.stack.eventually(lambda: len(shop.sim.effects("refund.created")) == 2)


def test_a_refund_that_is_refused_is_told(shop):
    order = shop.create()["order_id"]
    shop.pay(order)
    shop.becomes(order, "credited", CREDITS)
    shop.stack.cli("orders", "refund", order, "--amount", "900", "--request", "r1", "--reason", "too much", "--yes")
    shop.stack.eventually(lambda: shop.stack.sql("SELECT state FROM credit_refund_requests") == [("refused",)])
    assert "more than what is left" in shop.stack.sql("SELECT answer FROM credit_refund_requests")[0][0]
    assert shop.balance() == CREDITS


@pytest.mark.parametrize("point", ["before_call", "call_first_byte", "call_reply_lost", "after_call", "before_pg_commit",
                                   "pg_commit_reply_lost", "after_pg_commit"])
@pytest.mark.parametrize("what", ["checkout", "refund"])
def test_killed_around_the_call(shop, what, point):
    order = None
    if what == "refund":
        order = shop.create()["order_id"]
        shop.pay(order)
        shop.becomes(order, "credited", CREDITS)
    shop.stack.proc("credits").sigterm()
    victim = shop.stack.start("credits", fault=f"{point}:kill@1", ready=False)
    if what == "refund":
        shop.stack.cli("orders", "refund", order, "--reason", "all", "--yes")
    else:
        order = shop.create("--wait", "0")["order_id"]
    victim.wait_exit(30)
    shop.stack.start("credits")
    if what == "refund":
        shop.stack.eventually(lambda: shop.stack.sql("SELECT state FROM credit_refund_requests") == [("sent",)], 40)
        assert len(shop.sim.effects("refund.created")) == 1
    else:
        shop.stack.eventually(lambda: shop.state(order) == "checkout_open", 40)
        assert len(shop.sim.effects("checkout_configuration.created")) == 1


# ---- the books

def fire(shop, schedule):
    shop.stack.cli("schedules", "fire", schedule, "--reason", "test")


def test_K11_what_no_event_told_of(shop):
    """An hour without webhooks: every payment is credited by the next look at Whop's books."""
    orders = [shop.create()["order_id"] for _ in range(3)]
    for n, order in enumerate(orders):
        shop.pay(order, f"pay_{n}", told=False)
    shop.sim.make("payments", 130, user=USER, plan=PLAN, total=PRICE, metadata={}, updated_at=whop.iso(int(time.time())))
    fire(shop, "credits.books")
    shop.stack.eventually(lambda: shop.balance() == 133 * CREDITS, 30)
    assert all(shop.order(order)["state"] == "credited" for order in orders)
    run = shop.stack.sql("SELECT status, fetched, unknown, credited, next_page FROM reconcile_runs")
    assert run == [("success", 133, 133, 133, 3)]
    shop.tell("payment.succeeded", "pay_0", orders[0])  # and now the event comes after all
    fire(shop, "credits.books")
    shop.stack.eventually(lambda: shop.stack.sql("SELECT count(*) FROM reconcile_runs WHERE status = 'success'") == [(2,)], 20)
    assert shop.balance() == 133 * CREDITS
    assert shop.stack.sql("SELECT count(*) FROM credit_review") == [(0,)]


def test_a_refund_no_event_told_of(shop):
    order = shop.create()["order_id"]
    shop.pay(order)
    shop.becomes(order, "credited", CREDITS)
    shop.sim.put("payments", {"id": "pay_1", "refunded_amount": "3.75", "substatus": "partially_refunded",
                               "updated_at": whop.iso(int(time.time()))})
    fire(shop, "credits.window")
    shop.becomes(order, "partially_refunded", CREDITS // 2)
    shop.tell_refund("rf_late", "pay_1", 3.75)
    shop.stack.eventually(lambda: shop.stack.sql("SELECT count(*) FROM refunds") == [(1,)])
    shop.becomes(order, "partially_refunded", CREDITS // 2)


@pytest.mark.parametrize("point", ["before_pg_commit", "pg_commit_reply_lost", "after_pg_commit"])
def test_a_page_is_taken_once(shop, point):
    shop.sim.make("payments", 130, user=USER, plan=PLAN, total=PRICE, metadata={}, updated_at=whop.iso(int(time.time())))
    shop.stack.proc("sync").sigterm()
    victim = shop.stack.start("sync", fault=f"{point}:kill@3", ready=False)
    fire(shop, "credits.books")
    victim.wait_exit(30)
    shop.stack.start("sync")
    shop.stack.eventually(lambda: shop.stack.sql("SELECT status, fetched, credited FROM reconcile_runs")
                          == [("success", 130, 130)], 40)
    assert shop.balance() == 130 * CREDITS


def test_many_tenants_have_their_turn(shop):
    """More than are looked at in one go (500): the others come first the next time."""
    shop.stack.sql("INSERT INTO tenants (slug, whop_company_id) SELECT 't' || n, 'biz_' || n FROM generate_series(1, 510) n")
    shop.stack.sql("INSERT INTO whop_plans (tenant_id, whop_plan_id, plan_name, credits_amount)"
                   " SELECT id, 'plan_x', 'x', 1 FROM tenants WHERE slug LIKE 't%%'")
    for looked_at in (500, 511):
        fire(shop, "credits.books")
        shop.stack.eventually(lambda: shop.stack.sql(
            "SELECT count(DISTINCT tenant_id) FROM reconcile_runs") == [(looked_at,)], 40)


def test_the_proof_names_what_differs(shop):
    shop.stack.expect_errors("does not equal its ledger")
    order = shop.create()["order_id"]
    shop.pay(order)
    shop.becomes(order, "credited", CREDITS)
    shop.stack.sql("UPDATE credit_accounts SET credits_balance = credits_balance + 1")
    fire(shop, "credits.proof")
    shop.stack.proc("sync").wait_log("does not equal its ledger")
    shop.stack.sql("UPDATE credit_accounts SET credits_balance = credits_balance - 1")
