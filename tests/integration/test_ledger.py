"""Credits by history: whatever order the events of a payment come in, and however often, the ledger
ends as a sequential reference, written here once more, says it should."""
import math
import os
import random
import time
from decimal import Decimal

import pytest

from ledger import put_in_again, put_jobs

TENANT = 1
HISTORIES = 10_000 if os.environ.get("WHOPLINE_TEST_LONG") else 400
DAY_MS = 86_400_000


class History:
    """What truly happened to one payment, in its own order; and all the events that tell of it."""

    def __init__(self, rng, number, users, plans):
        self.payment = f"pay_{number}"
        self.user = rng.choice(users)
        self.plan, self.credits = rng.choice(plans)
        self.total = Decimal(rng.randint(1, 200_00)) / 100
        self.start = int(time.time() * 1000) - 30 * DAY_MS + rng.randint(0, DAY_MS)
        self.clock, self.serial = self.start, 0
        self.events, self.refunds, self.disputes = [], {}, {}
        self.paid = rng.random() < 0.93
        self.tell(rng, "payment_seen", "payment.created", status="open", substatus="incomplete")
        while rng.random() < 0.2:
            self.tell(rng, "payment_failed", "payment.failed", status="open", substatus="failed")
        if self.paid:
            self.tell(rng, "payment_succeeded", "payment.succeeded", status="paid", substatus="succeeded")
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
            self.refund(rng)
        for _ in range(rng.choice((0, 0, 0, 1, 2))):
            self.dispute(rng)
        if rng.random() < 0.3:
            self.reconcile(rng)
        for event in list(self.events):
            while rng.random() < 0.25:
                self.events.append(event)

    def refunded(self):
        return sum((amount for amount, status in self.refunds.values() if status == "succeeded"), Decimal(0))

    def refund(self, rng):
        left = self.total - sum((a for a, s in self.refunds.values() if s != "failed"), Decimal(0))
        if left <= 0:
            return
        refund = f"rf_{self.payment}_{len(self.refunds)}"
        amount = left if rng.random() < 0.4 else Decimal(rng.randint(1, int(left * 100))) / 100
        for status in rng.choice((("pending", "succeeded"),) * 5 + (("pending", "failed"), ("pending", "succeeded", "failed"))):
            self.refunds[refund] = (amount, status)
            self.tell(rng, "refund", "refund.updated", refund=refund, amount=str(amount), status=status)
            if self.paid and rng.random() < 0.3:
                back = self.refunded()
                self.clock += 1
                self.tell(rng, "payment_seen", "payment.refunded", status="paid", refunded=str(back),
                          substatus="partially_refunded" if back else "succeeded")

    def dispute(self, rng):
        dispute = f"dspt_{self.payment}_{len(self.disputes)}"
        ends = rng.choice(("won", "lost", "closed", "under_review", "warning_closed"))
        for status in ("warning_needs_response", "needs_response", "under_review", ends):
            if rng.random() < 0.75:
                self.disputes[dispute] = status
                self.tell(rng, "dispute", "dispute.updated", dispute=dispute, amount=str(self.total), status=status)

    def reconcile(self, rng):
        """The payment is read again, as it is now."""
        self.clock += 1
        back = self.refunded()
        state = {"status": "paid", "substatus": "partially_refunded" if back else "succeeded"} if self.paid else {
            "status": "open", "substatus": "incomplete"}
        self.tell(rng, "payment_seen", "payment.pending", refunded=str(back), **state)

    def tell(self, rng, kind, event, **more):
        self.clock += rng.choice((0, 0, 1, 3_600_000))  # events of the same moment, too
        self.serial += 1
        if kind in ("refund", "dispute"):  # its own news never tie with each other but by being the same
            self.clock += 1
        fields = {"id": f"default/{self.payment}-{self.serial}", "endpoint": "default", "kind": event, "type_raw": event,
                  "generation": "v1", "company": "biz_1", "received_ms": self.clock, "occurred_ms": self.clock,
                  "occurred_known": True, "payment": self.payment, "amount": str(self.total), "currency": "usd", **more}
        if rng.random() < 0.9 or event == "payment.succeeded":
            fields.update(user=self.user, plan=self.plan)
        self.events.append((f"credits.{kind}", fields))

    def expected(self):
        """{category: credits} of this payment, by the rules alone."""
        if not self.paid:
            return {}
        taken = math.floor(self.credits * min(self.refunded(), self.total) / self.total)
        phases = {{"won": "won", "closed": "won", "lost": "lost", "warning_needs_response": "warning",
                   "warning_closed": "warning"}.get(s, "open") for s in self.disputes.values()}
        left = self.credits - taken
        lost = left if "lost" in phases else 0
        held = left if "open" in phases and not lost else 0
        found = {"topup": self.credits, "refund": -taken, "held": -held, "lost": -lost}
        return {name: credits for name, credits in found.items() if credits}


CATEGORY = {"topup": "topup", "refund": "refund", "refund_reversal": "refund", "dispute_hold": "held",
            "dispute_release": "held", "dispute_loss": "lost"}


def replay(stack, rng, share):
    """While the rest is being worked on."""
    done = [row[0] for row in stack.sql("SELECT id::text FROM jobs WHERE state IN ('done', 'skipped')")]
    return put_in_again(stack, "id = ANY (%s::uuid[])", (rng.sample(done, int(len(done) * share)),))


def is_done(stack):
    return stack.sql("SELECT count(*) FROM jobs WHERE state = 'queued'") == [(0,)]


def make_tenant(stack, plans, **settings):
    stack.sql("INSERT INTO tenants (slug, whop_company_id) VALUES ('one', 'biz_1') ON CONFLICT DO NOTHING")
    for plan, credits in plans:
        stack.sql("INSERT INTO whop_plans (tenant_id, whop_plan_id, plan_name, credits_amount) VALUES (%s, %s, %s, %s)",
                  (TENANT, plan, plan, credits))
    for name, value in settings.items():
        stack.sql(f"INSERT INTO credit_settings (tenant_id, {name}) VALUES (%s, %s)", (TENANT, value))


def assert_nothing_failed(stack):
    assert stack.sql("SELECT state, reason, error, count(*) FROM jobs WHERE state IN ('dead', 'parked') GROUP BY 1, 2, 3") == []
    assert stack.sql("SELECT max(attempts) FROM jobs") == [(0,)]
    assert stack.sql("SELECT * FROM credit_mismatches") == []
    assert not any("put off" in proc.log() for proc in stack.procs)  # no deadlock, either


@pytest.mark.limit(60 + HISTORIES / 10)
def test_any_order_and_any_repetition_ends_in_the_same_ledger(stack):
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1_000_000)))
    print("SEED", seed)
    rng = random.Random(seed)
    plans = [(f"plan_{n}", n) for n in (1, 3, 7, 99, 5_000, 25_000, 100_000)]
    users = [f"user_{n}" for n in range(7)]
    clamp = rng.random() < 0.5
    make_tenant(stack, plans, negative_policy="clamp" if clamp else "allow_negative")
    histories = [History(rng, n, users, plans) for n in range(HISTORIES)]
    events = [event for history in histories for event in history.events]
    rng.shuffle(events)
    put_jobs(stack, events, TENANT)
    for _ in range(2):
        stack.start("credits", env={"SLOTS": 8, "DATABASE_LOCK_TIMEOUT_MS": 60000})  # waiting is no deadlock
    stack.start("scheduler")
    stack.eventually(lambda: stack.sql("SELECT count(*) > %s FROM jobs WHERE state <> 'queued'", (len(events) / 3,))[0][0],
                     timeout=60 + HISTORIES / 20)
    assert replay(stack, rng, 0.2) > 0
    stack.eventually(lambda: is_done(stack), timeout=60 + HISTORIES / 20)
    assert replay(stack, rng, 0.1) > 0
    stack.eventually(lambda: is_done(stack), timeout=60 + HISTORIES / 20)
    assert_nothing_failed(stack)
    found = {}
    for payment, kind, credits in stack.sql(
            "SELECT whop_payment_id, kind, sum(credits)::bigint FROM credit_transactions GROUP BY 1, 2"):
        sums = found.setdefault(payment, {})
        sums[CATEGORY[kind]] = sums.get(CATEGORY[kind], 0) + credits
    wrong = {}
    for history in histories:
        sums = {name: credits for name, credits in found.get(history.payment, {}).items() if credits}
        if sums != history.expected():
            wrong[history.payment] = (sums, history.expected())
    assert not wrong, f"{len(wrong)} of {len(histories)}, e.g. {next(iter(wrong.items()))}"
    for user in users:
        worth = sum(sum(h.expected().values()) for h in histories if h.user == user)
        assert stack.sql("SELECT credits_balance - debt, credits_balance < 0 FROM credit_accounts WHERE owner_id = %s",
                         (user,)) in ([(worth, worth < 0 and not clamp)], [])


def test_a_hot_account_ends_no_job_by_a_deadlock(stack):
    """Two workers with 16 slots each, payments, refunds, disputes and failures of two users' same few
    orders, beside two applications that spend."""
    rng, plans, users = random.Random(1), [("plan_7", 7)], ["user_hot", "user_warm"]
    make_tenant(stack, plans)
    histories = [History(rng, n, users, plans) for n in range(150)]
    orders = [row[0] for row in stack.sql("""
        INSERT INTO credit_orders (tenant_id, account_id, plan_name, credits_amount, price, currency, payment_method,
                                   state, requested_by)
        SELECT %s, credits_open_account(%s, (%s)[1 + n %% 2]), 'P', 7, 0, 'usd', 'whop', 'checkout_open', 'test'
        FROM generate_series(1, 12) AS n RETURNING id::text""", (TENANT, TENANT, users))]
    events = [(kind, {**fields, "order_id": orders[int(fields["payment"][4:]) % 12]} if rng.random() < 0.7 else fields)
              for history in histories for kind, fields in history.events]
    rng.shuffle(events)
    put_jobs(stack, events, TENANT)
    for _ in range(2):
        stack.start("credits", env={"SLOTS": 16, "DATABASE_LOCK_TIMEOUT_MS": 60000})  # waiting is no deadlock
    stack.start("scheduler")
    company, = stack.sql("SELECT whop_company_id FROM tenants WHERE id = %s", (TENANT,))[0]
    spent = 0
    while not is_done(stack):
        spent += 1
        for user in users:
            stack.sql("SELECT credits_spend(%s, %s, 1, %s, 'work')", (company, user, f"{user}-{spent}"))
    assert spent > 0
    assert_nothing_failed(stack)
