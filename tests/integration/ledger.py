"""What is told of payments, refunds and disputes, as jobs of the queue credits; and what the ledger
made of it.

    shop = Shop(stack)                         # the workers, a tenant's plans
    shop.tell(paid("pay_1"), refund("pay_1", "5.00"))
    assert shop.balance() == 50
"""
import itertools
import json
import time
import uuid

import whop
import wire

USER, PLAN, CREDITS, TOTAL = "user_1", "plan_100", 100, "10.00"
PLANS = {"plan_1": 1, "plan_3": 3, PLAN: CREDITS, "plan_500": 500, "plan_none": 0}
DAY_S = 86_400

_serials = itertools.count(1)
_start_ms = int(time.time() * 1000) - 30 * DAY_S * 1000


def event(job, kind, payment, at=None, **fields):
    """(job's kind, payload). at: seconds on the sender's clock; later than all before unless given."""
    serial = next(_serials)
    at_ms = _start_ms + (serial * 1000 if at is None else int(at * 1000))
    known = {"id": f"default/e{serial}", "endpoint": "default", "kind": kind, "type_raw": kind, "generation": "v1",
             "company": whop.COMPANY, "received_ms": at_ms, "occurred_ms": at_ms, "occurred_known": True,
             "payment": payment, "currency": "usd"}
    return f"credits.{job}", {name: value for name, value in {**known, **fields}.items() if value is not None}


def paid(payment="pay_1", **fields):
    return event("payment_succeeded", "payment.succeeded", payment,
                 **{"status": "paid", "substatus": "succeeded", "user": USER, "plan": PLAN, "amount": TOTAL, **fields})


def seen(payment="pay_1", **fields):
    """As a payment that is read from Whop, or an event that does not say it has been paid."""
    return event("payment_seen", "payment.pending", payment,
                 **{"status": "paid", "substatus": "succeeded", "user": USER, "plan": PLAN, "amount": TOTAL, **fields})


def failed(payment="pay_1", **fields):
    return event("payment_failed", "payment.failed", payment,
                 **{"status": "open", "substatus": "failed", "user": USER, "plan": PLAN, "amount": TOTAL, **fields})


def refund(payment="pay_1", amount=TOTAL, id=None, status="succeeded", **fields):
    return event("refund", "refund.updated", payment, refund=id or f"rf_{payment}", amount=amount, status=status,
                 **fields)


def dispute(payment="pay_1", status="needs_response", id=None, **fields):
    return event("dispute", "dispute.updated", payment, dispute=id or f"dspt_{payment}", status=status,
                 **{"amount": TOTAL, **fields})


def put_jobs(stack, events, tenant=1):
    """Rows that the scheduler gives to the worker at once, as if they had been missed."""
    rows = [(str(uuid.uuid4()), kind, wire.pack(fields), fields["id"]) for kind, fields in events]
    for start in range(0, len(rows), 5000):
        stack.sql("""INSERT INTO jobs (id, tenant_id, queue, kind, key, payload, version, trace, occurred_at, created_at)
                     SELECT id::uuid, %s, split_part(kind, '.', 1), kind, '1/x', payload, 1, trace, now(), now() - interval '1 minute'
                     FROM unnest(%s, %s, %s, %s) AS new(id, kind, payload, trace)""",
                  (tenant, *map(list, zip(*rows[start:start + 5000]))))


def put_in_again(stack, which, args=None):
    """Jobs that have ended get a new generation and run again, as by an operator; how many."""
    return len(stack.sql(f"""UPDATE jobs SET state = 'queued', gen = gen + 1, finished_at = NULL, reason = NULL,
                                 relayed_at = NULL, due_at = now() - interval '1 minute' WHERE {which} RETURNING 1""", args))


class Shop:
    """The tenant of the tests' company, its plans and workers."""

    def __init__(self, stack, start=("credits", "scheduler"), **settings):
        self.stack = stack
        self.tenant, = stack.sql("SELECT id FROM tenants WHERE whop_company_id = %s", (whop.COMPANY,))[0]
        for plan, credits in PLANS.items():
            self.add_plan(plan, credits)
        if settings:
            stack.sql(f"""INSERT INTO credit_settings (tenant_id, {', '.join(settings)})
                          VALUES (%s, {', '.join(['%s'] * len(settings))})""", (self.tenant, *settings.values()))
        stack.up(*start)

    def add_plan(self, plan, credits, **columns):
        columns = {"tenant_id": self.tenant, "whop_plan_id": plan, "plan_name": plan, "credits_amount": credits, **columns}
        self.stack.sql(f"""INSERT INTO whop_plans ({', '.join(columns)})
                           VALUES ({', '.join(['%s'] * len(columns))})""", tuple(columns.values()))

    def tell(self, *events):
        """One after the other, each done before the next."""
        for one in events:
            self.tell_at_once(one)

    def tell_at_once(self, *events):
        put_jobs(self.stack, events, self.tenant)
        self.rest()

    def rest(self):
        self.stack.eventually(self.stack.at_rest, 20)
        self.check()

    def check(self):
        """What must be so at any time."""
        assert self.stack.sql("SELECT * FROM credit_mismatches") == []
        assert self.stack.sql("SELECT kind, reason FROM jobs WHERE state IN ('dead', 'parked')") == []
        assert self.stack.sql("""SELECT * FROM credit_transactions
                                 WHERE '' IN (actor, reason, source_type, source_id)""") == []
        assert self.stack.sql("""SELECT * FROM (
            SELECT balance_after, sum(amount) OVER (PARTITION BY account_id ORDER BY id) AS upto
            FROM credit_transactions) t WHERE balance_after <> upto""") == []

    def balance(self, user=USER):
        rows = self.stack.sql("SELECT credits_balance FROM credit_accounts WHERE tenant_id = %s AND owner_id = %s",
                              (self.tenant, user))
        return rows[0][0] if rows else 0

    def debt(self, user=USER):
        return self.stack.sql("SELECT debt FROM credit_accounts WHERE owner_id = %s", (user,))[0][0]

    def ledger(self, payment="pay_1"):
        """[(kind, credits)] in their order."""
        return self.stack.sql("SELECT kind, credits FROM credit_transactions WHERE whop_payment_id = %s ORDER BY id",
                              (payment,))

    def payment(self, column, payment="pay_1"):
        return self.stack.sql(f"SELECT {column} FROM payments WHERE whop_payment_id = %s", (payment,))[0][0]

    def reviews(self, payment="pay_1"):
        return [row[0] for row in self.stack.sql(
            "SELECT reason FROM credit_review WHERE whop_payment_id = %s AND state = 'open'", (payment,))]

    def notices(self, kind):
        return self.stack.sql("SELECT audience, about FROM credit_notices WHERE kind = %s ORDER BY 1, 2", (kind,))

    # ---- orders

    def order(self, state="checkout_open", user=USER, credits=CREDITS, price=TOTAL, method="whop", **columns):
        account, = self.stack.sql("SELECT credits_open_account(%s, %s)", (self.tenant, user))[0]
        columns = {"tenant_id": self.tenant, "account_id": account, "plan_name": "Popular", "credits_amount": credits,
                   "price": price, "currency": "usd", "payment_method": method, "state": state, "requested_by": "test",
                   **columns}
        return self.stack.sql(f"""INSERT INTO credit_orders ({', '.join(columns)})
                                  VALUES ({', '.join(['%s'] * len(columns))}) RETURNING id::text""",
                              tuple(columns.values()))[0][0]

    def order_is(self, order):
        """(state, payment_status, whop_payment_id)"""
        return self.stack.sql("SELECT state, payment_status, whop_payment_id FROM credit_orders WHERE id = %s", (order,))[0]

    def history(self, order):
        return [row[0] for row in self.stack.sql(
            "SELECT to_state FROM credit_order_history WHERE order_id = %s ORDER BY id", (order,))]

    # ---- by webhook

    def send(self, body, **replaced):
        """Signed, to ingest. replaced: JSON of a member of data, written into the body as it is."""
        for name in replaced:
            body["data"][name] = f"@{name}@"
        raw = json.dumps(body)
        for name, text in replaced.items():
            raw = raw.replace(json.dumps(f"@{name}@"), text)
        scheme = "standard" if whop.is_v1(body) else "legacy"
        with whop.Sender(self.stack) as sender:
            assert sender.post(*whop.request(raw.encode(), scheme=scheme, webhook_id=body.get("id"))) == 200
