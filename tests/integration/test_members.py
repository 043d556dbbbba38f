"""Members: whatever order the events of memberships come in, and however often, the register ends as a
sequential reference, written here once more, says it should."""
import os
import random
import time

import pytest

from ledger import put_in_again, put_jobs

TENANT = 1
HISTORIES = 10_000 if os.environ.get("WHOPLINE_TEST_LONG") else 400
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
GRACE_MS = 3 * DAY_MS
GIVING = ("trialing", "active", "completed", "canceling")
PLANS = {"plan_pro": ("prod_a", "pro"), "plan_basic": ("prod_a", "basic"), "plan_bare": ("prod_b", "basic"),
         "plan_odd": ("prod_c", None), "plan_top": ("prod_d", "enterprise")}
RANK = {"free": 0, "basic": 1, "pro": 2, "enterprise": 3}


def make_tenant(stack):
    stack.sql("INSERT INTO tenants (slug, whop_company_id) VALUES ('one', 'biz_1') ON CONFLICT DO NOTHING")
    for kind, whop_id, tier in (("plan", "plan_pro", "pro"), ("plan", "plan_top", "enterprise"),
                                ("product", "prod_a", "basic"), ("product", "prod_b", "basic")):
        stack.sql("INSERT INTO tier_map VALUES (%s, %s, %s, %s)", (TENANT, kind, whop_id, tier))


def event(kind, at_ms, number=0, **more):
    return {"id": f"default/e{number}-{at_ms}-{more.get('membership', '')}-{kind}", "endpoint": "default", "kind": kind,
            "type_raw": kind, "generation": "v1", "company": "biz_1", "received_ms": int(time.time() * 1000),
            "occurred_ms": at_ms, "occurred_known": True, **more}


class Life:
    """What truly happened to one membership, in its own order; and all the events that tell of it."""

    def __init__(self, rng, number, users):
        self.id, self.user = f"mem_{number}", rng.choice(users)
        self.plan = rng.choice(list(PLANS))
        self.now = int(time.time() * 1000)
        self.clock = self.now - rng.randint(20, 40) * DAY_MS
        self.status, self.period_end, self.cancels = None, 0, False
        self.events, self.bills, self.serial = [], {}, 0
        self.told_ms = 0
        steps = rng.randint(1, 6)
        if rng.random() < 0.2:
            self.tell(rng, "membership.created", "drafted")
        for _ in range(steps):
            self.step(rng)
        for told in list(self.events):
            while rng.random() < 0.25:
                self.events.append(told)

    def step(self, rng):
        if self.status == "deleted":
            return
        if self.status in GIVING + ("past_due",):
            what = rng.choice(("end", "cancel", "fail", "upgrade", "note", "delete"))
        else:
            what = rng.choice(("start", "start", "note"))
        if what == "start":
            self.period_end = self.clock + 30 * DAY_MS
            self.tell(rng, "membership.activated", rng.choice(GIVING[:3]))
        elif what == "end":
            self.tell(rng, "membership.deactivated", rng.choice(("canceled", "expired", "unresolved")))
        elif what == "cancel":
            self.cancels = not self.cancels
            self.tell(rng, "membership.cancel_at_period_end_changed", "canceling" if self.cancels else "active")
        elif what == "upgrade":
            self.plan = rng.choice(list(PLANS))
            self.tell(rng, "membership.activated", "active")
        elif what == "fail":
            self.bill(rng)
        elif what == "delete" and rng.random() < 0.3:
            self.tell(rng, "membership.deleted", "deleted")
        elif self.status:
            self.tell(rng, "membership.metadata_updated", self.status)

    def bill(self, rng):
        """A renewal fails; it is paid later, or not."""
        payment = f"pay_{self.id}_{len(self.bills)}"
        self.clock += rng.randint(1, 48) * HOUR_MS
        failed, paid = self.clock, None
        self.add("members.bill", event("payment.failed", failed, membership=self.id, payment=payment))
        if rng.random() < 0.3:  # and once more
            self.add("members.bill", event("payment.failed", failed + HOUR_MS, 1, membership=self.id, payment=payment))
        if rng.random() < 0.5:
            self.clock += 2 * HOUR_MS
            paid = self.clock
            self.add("members.bill", event("payment.succeeded", paid, membership=self.id, payment=payment, user=self.user))
        self.bills[payment] = (failed, paid)
        if rng.random() < 0.5:
            self.tell(rng, "membership.metadata_updated", "active" if paid else "past_due")

    def tell(self, rng, kind, status):
        self.clock += rng.choice((1, 1000, HOUR_MS))
        self.serial += 1
        self.status, self.told_ms = status, self.clock
        more = {"user": self.user} if kind == "membership.activated" or rng.random() < 0.9 else {}
        self.add("members.membership", event(
            kind, self.clock, self.serial, membership=self.id, plan=self.plan, product=PLANS[self.plan][0], status=status,
            cancels=str(self.cancels).lower(), **more, **({"period_end_ms": self.period_end} if self.period_end else {})))

    def add(self, kind, fields):
        self.events.append((kind, fields))

    def is_known(self):
        return any(fields.get("user") for kind, fields in self.events if kind == "members.membership")

    def access(self):
        """yes, grace or no."""
        if self.status not in GIVING + ("past_due",):
            return "no"
        last_paid = max((paid for _, paid in self.bills.values() if paid), default=0)
        owing = [failed for failed, paid in self.bills.values() if not paid and failed > last_paid and (
            self.status == "past_due" or failed > self.told_ms)]
        since = min(owing, default=None)
        if since is None and self.status == "past_due":
            since = self.period_end if 0 < self.period_end < self.told_ms else self.told_ms
        if since is None:
            return "yes"
        return "grace" if since + GRACE_MS > self.now else "no"


def expected(lives):
    """{user: (access, tier)}, by the rules alone."""
    found = {}
    for life in lives:
        if life.is_known():
            found.setdefault(life.user, []).append(life)
    students = {}
    for user, own in found.items():
        states = [life.access() for life in own]
        access = "active" if "yes" in states else "grace" if "grace" in states else "none"
        if access == "none" and any(life.status != "drafted" for life in own):
            access = "revoked"
        tiers = [PLANS[life.plan][1] or "free" for life in own if life.access() != "no"]
        students[user] = (access, max(tiers, key=RANK.get, default="free"))
    return students


def is_done(stack):
    return stack.sql("SELECT count(*) FROM jobs WHERE state = 'queued' AND queue <> 'mail'") == [(0,)]


def replay(stack, rng, share):
    done = [row[0] for row in stack.sql("SELECT id::text FROM jobs WHERE state IN ('done', 'skipped')")]
    return put_in_again(stack, "id = ANY (%s::uuid[])", (rng.sample(done, int(len(done) * share)),))


@pytest.mark.limit(60 + HISTORIES / 10)
def test_any_order_and_any_repetition_ends_in_the_same_register(stack):
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1_000_000)))
    print("SEED", seed)
    rng = random.Random(seed)
    make_tenant(stack)
    users = [f"user_{n}" for n in range(max(7, HISTORIES // 2))]
    lives = [Life(rng, n, users) for n in range(HISTORIES)]
    events = [told for life in lives for told in life.events]
    rng.shuffle(events)
    put_jobs(stack, events, TENANT)
    for _ in range(2):
        stack.start("members", env={"SLOTS": 8})
    stack.start("scheduler")
    stack.eventually(lambda: stack.sql("SELECT count(*) > %s FROM jobs WHERE state <> 'queued'", (len(events) / 3,))[0][0],
                     timeout=60 + HISTORIES / 20)
    assert replay(stack, rng, 0.2) > 0
    stack.eventually(lambda: is_done(stack), timeout=60 + HISTORIES / 20)
    # Nobody can be asked here who holds a membership of which that has not been told yet.
    assert stack.sql("SELECT kind, state, reason, error, count(*) FROM jobs WHERE state IN ('dead', 'parked')"
                     " AND error <> 'CREDENTIAL_MISSING' GROUP BY 1, 2, 3, 4") == []
    assert stack.sql("SELECT max(attempts) FROM jobs") == [(0,)]
    found = {user: (access, tier) for user, access, tier in
             stack.sql("SELECT whop_user_id, access, tier FROM students")}
    wanted = expected(lives)
    wrong = {user: (found.get(user), wanted.get(user)) for user in found | wanted if found.get(user) != wanted.get(user)}
    assert not wrong, f"{len(wrong)} of {len(wanted)}, e.g. {next(iter(wrong.items()))}"
    assert {m.id: m.status for m in lives if m.status} == dict(stack.sql(
        "SELECT whop_membership_id, status FROM memberships WHERE status IS NOT NULL"))
    # Each step is told of once, and they follow one another.
    assert stack.sql("SELECT count(*) FROM students s WHERE s.version <> (SELECT count(*) FROM member_changes c"
                     " WHERE c.tenant_id = s.tenant_id AND c.whop_user_id = s.whop_user_id)") == [(0,)]
    assert stack.sql("SELECT count(*) FROM (SELECT from_access, lag(access, 1, 'none') OVER (PARTITION BY tenant_id,"
                     " whop_user_id ORDER BY version) AS before FROM member_changes) c WHERE from_access <> before") == [(0,)]
    assert stack.sql("SELECT max(n) FROM (SELECT count(*) AS n FROM member_changes WHERE change = 'gained'"
                     " GROUP BY whop_user_id) g")[0][0] in (None, 1)
