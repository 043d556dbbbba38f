"""What a seed gives the pipeline to do, and what must have become of it.

Everything is made up beforehand from the seed, so two runs of a seed send the same events and the
same jobs. Events are deliveries as the sender makes them, some of them twice; jobs are rows, and for
volatile kinds entries, of the worker made for tests (tests/probe/probe.c).
"""
import dataclasses
import heapq
import http.client
import itertools
import random
import threading
import time
import uuid
from decimal import Decimal

import psycopg2
import psycopg2.extras

import whop
import wire

PLANS = {"plan_chaos_s": 7, "plan_chaos_m": 50, "plan_chaos_l": 500}
TOTAL = Decimal("49.99")  # of every recorded payment
PROBE_STREAM = "wl:{0}:q:probe"


# ---- Webhooks -------------------------------------------------------------------------------------

@dataclasses.dataclass
class Delivery:
    """One event as it is sent, again and again until somebody takes it."""
    event_id: str
    payment: str
    headers: dict
    raw: bytes


@dataclasses.dataclass
class Payment:
    """A payment and what truly became of it."""
    id: str
    user: str
    plan: str
    refunds: dict = dataclasses.field(default_factory=dict)   # id -> (amount, its last status)
    disputes: dict = dataclasses.field(default_factory=dict)  # id -> its last status

    @property
    def credits(self):
        return PLANS[self.plan]

    def ledger(self):
        """{category: credits} by the rules alone; categories as in checks.CATEGORY."""
        refunded = sum((amount for amount, status in self.refunds.values() if status == "succeeded"), Decimal(0))
        taken = int(self.credits * min(refunded, TOTAL) / TOTAL)
        statuses = set(self.disputes.values())
        left = self.credits - taken
        lost = left if "lost" in statuses else 0
        held = left if statuses & {"needs_response", "under_review"} and not lost else 0
        found = {"topup": self.credits, "refund": -taken, "held": -held, "lost": -lost}
        return {name: credits for name, credits in found.items() if credits}


class Events:
    """Payments to known plans: about a tenth of the deliveries come twice under their id, a tenth of
    the payments again under a new one or in another generation's shape; some fail before they succeed,
    some are refunded, in parts or whole, some disputed. Not in order."""

    def __init__(self, rng, payments):
        self.payments, self.deliveries = {}, []
        self.now, self.serial = int(time.time()), 0
        for number in range(payments):
            payment = Payment(f"pay_{number:05}", f"user_{rng.randrange(1 + payments // 3):05}",
                              rng.choice(sorted(PLANS)))
            self.payments[payment.id] = payment
            if rng.random() < 0.1:
                self.add(whop.payment(id=payment.id, user=payment.user, plan=payment.plan, event="payment.failed",
                                      webhook_id=f"msg_{payment.id}_failed", paid=self.now - 60), payment)
            for again in range(2 if rng.random() < 0.1 else 1):
                self.add_paid(rng, payment, again)
            if rng.random() < 0.15:
                self.add_refunds(rng, payment)
            if rng.random() < 0.1:
                self.add_dispute(rng, payment)
        twice = [one for one in self.deliveries if rng.random() < 0.1]
        self.event_ids = {one.event_id for one in self.deliveries}
        self.deliveries += twice
        rng.shuffle(self.deliveries)

    def add(self, body, payment):
        webhook_id = body["id"]
        headers, raw = whop.request(body, webhook_id=webhook_id)
        self.deliveries.append(Delivery(f"default/{webhook_id}", payment.id, headers, raw))

    def add_paid(self, rng, payment, again):
        shape = rng.choice(whop.SHAPES)
        webhook_id = f"msg_{payment.id}_{again}"
        body = whop.payment(shape, id=payment.id, user=payment.user, plan=payment.plan, webhook_id=webhook_id,
                            paid=self.now)
        # A legacy delivery is known by its MAC: two of one payment must not have the same second.
        headers, raw = whop.request(body, webhook_id=webhook_id if whop.is_v1(body) else None,
                                    timestamp=self.now - again)
        signature = headers.get("x-whop-signature", "")
        event_id = f"default/mac:{signature.partition('v1=')[2]}" if signature else f"default/{webhook_id}"
        self.deliveries.append(Delivery(event_id, payment.id, headers, raw))

    def add_news(self, event, payment, **data):
        """Of a refund or dispute; each later than the one before."""
        self.serial += 1
        body = whop.vector("v1", event)
        body.update(id=f"msg_{data['id']}_{self.serial}", timestamp=whop.iso(self.now + self.serial))
        body["data"].update(data)
        of = body["data"]["payment"]
        of["id"], of["user"]["id"] = payment.id, payment.user
        for plan in (of.get("plan"), body["data"].get("plan")):
            if plan:
                plan["id"] = payment.plan
        self.add(body, payment)

    def add_refunds(self, rng, payment):
        for number in range(rng.choice((1, 1, 2, 3))):
            refund, amount = f"rf_{payment.id}_{number}", rng.choice((TOTAL, Decimal("20.00"), Decimal("0.01"), Decimal("10.43")))
            for status in rng.choice((("succeeded",), ("pending", "succeeded"), ("pending", "failed"), ("succeeded", "failed"))):
                payment.refunds[refund] = (amount, status)
                self.add_news("refund.updated", payment, id=refund, amount=float(amount), status=status)

    def add_dispute(self, rng, payment):
        dispute = f"dspt_{payment.id}"
        for status in ("warning_needs_response", "needs_response", "under_review", rng.choice(("won", "lost", "closed"))):
            if rng.random() < 0.8:
                payment.disputes[dispute] = status
                self.add_news("dispute.updated", payment, id=dispute, status=status)

    def balances(self):
        wanted = {}
        for payment in self.payments.values():
            wanted[payment.user] = wanted.get(payment.user, 0) + sum(payment.ledger().values())
        return wanted


class Senders:
    """Threads that deliver at a pace, and repeat like Whop does what was not answered with 2xx. Every
    acknowledgement is a line in a file before anything else is done about it."""

    THREADS, TIMEOUT_S, AGAIN_S = 3, 2.5, 0.25

    def __init__(self, port, events, over_s, path):
        self.port, self.acknowledged, self.refused = port, set(), {}
        self.file = open(path, "w", encoding="utf-8")
        self.lock, self.stopping = threading.Lock(), False
        began, count = time.monotonic(), max(1, len(events.deliveries))
        self.queue = [(began + over_s * number / count, number, one)
                      for number, one in enumerate(events.deliveries)]
        self.left, self.numbers = len(self.queue), itertools.count(count)
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(self.THREADS)]
        for thread in self.threads:
            thread.start()

    def take(self):
        with self.lock:
            if self.queue and self.queue[0][0] <= time.monotonic():
                return heapq.heappop(self.queue)[2]
        return None

    def work(self):
        link = None
        while not self.stopping:
            one = self.take()
            if one is None:
                time.sleep(0.01)
                continue
            try:
                link = link or http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.TIMEOUT_S)
                link.request("POST", whop.PATH, one.raw, one.headers)
                answer = link.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                status = 0  # no answer is no promise
                if link:
                    link.close()
                link = None
            self.note(one, status)
        if link:
            link.close()

    def note(self, one, status):
        with self.lock:
            if 200 <= status < 300:
                self.file.write(one.event_id + "\n")
                self.file.flush()
                self.acknowledged.add(one.event_id)
                self.left -= 1
                return
            self.refused[status] = self.refused.get(status, 0) + 1
            heapq.heappush(self.queue, (time.monotonic() + self.AGAIN_S, next(self.numbers), one))

    def hurry(self):
        """What is not due yet is due now."""
        with self.lock:
            self.queue = [(0, number, one) for _, number, one in self.queue]
            heapq.heapify(self.queue)

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join()
        self.file.close()


# ---- Jobs -----------------------------------------------------------------------------------------

def packed(job):
    return wire.pack({"label": job.label, "number": job.number})


@dataclasses.dataclass
class Job:
    """A job and the states that it may end in. effects: rows of probe_effects where it is done."""
    id: str
    kind: str
    label: str
    number: int = 0
    ends: tuple = ("done",)
    effects: int = 1
    reason: str = ""  # part of the reason, where it ends dead
    bulk: bool = False
    volatile: bool = False


class Jobs:
    """A mixture of all kinds. Rare ones come early: they need several leases."""

    def __init__(self, rng, count):
        self.rng, self.all = rng, []
        for number in range(2 if count >= 1000 else 0):  # takes six deaths, one after the other
            self.add("probe.crash", f"poison{number}", 99, ends=("dead",), reason="poison")
        for number in range(4):
            self.add("probe.crash", "abort" if number == 0 else f"crash{number}", 1)
        for number in range(2):
            self.add("probe.hang", f"hang{number}", 1)
        for number in range(2):  # cancelled each time
            self.add("probe.query", f"overrun{number}", 3000, ends=("dead",))
        for number in range(3):
            self.add("probe.sleep", f"long{number}", 2000)
        for number in range(max(4, count // 80)):  # they do not end before the other side does
            self.add("probe.post_resend", f"resend{number}", rng.randrange(20))
            self.add("probe.post_verify", f"verify{number}", rng.randrange(20), ends=("done", "parked"))
            self.add("probe.post_park", f"park{number}", rng.randrange(20), ends=("done", "parked"))
        for number in range(count // 60):
            self.add("probe.chain", f"chain{number}", rng.randrange(6))
            self.add("probe.sleep", f"nap{number}", rng.randrange(50))
        for number in range(count // 150):
            # Of a statement of 20 ms that is cancelled three times because PostgreSQL or the whole
            # process stood still, dead is the right end.
            self.add("probe.query", f"query{number}", 1 + rng.randrange(20), ends=("done", "dead"))
            self.add("probe.fail", "PG_FAILED", 1 + rng.randrange(2))
        for number in range(5):
            self.add("probe.fail", "NOT_FOUND", 99, ends=("dead",))
            self.add("probe.fail", "EXPIRED", 99, ends=("parked",))
            self.add("probe.fail", "SKIPPED", 99, ends=("skipped",))
        for number in range(3):
            self.add("probe.batch", "bad", ends=("dead",))
            self.add("probe.batch", "skip", ends=("skipped",))
            self.add("probe.batch", "park", ends=("parked",))
        special = len(self.all)
        for number in range(count // 5):
            self.add("probe.batch", f"batch{number}")
        for number in range(count // 20):
            self.add("probe.noop", f"noop{number}", volatile=True, effects=0)
            self.add("probe.tick", f"tick{number}", volatile=True)
        while len(self.all) < count:
            self.add("probe.effect", f"effect{len(self.all)}", 0 if rng.random() < 0.95 else rng.randrange(60),
                     bulk=rng.random() < 0.3)
        rest = self.all[special:]
        rng.shuffle(rest)
        early = rest[:count // 10] + self.all[:special]
        rng.shuffle(early)
        self.all = early + rest[count // 10:]
        self.by_id = {job.id: job for job in self.all}

    def add(self, kind, label, number=0, **what):
        job = Job(str(uuid.UUID(int=self.rng.getrandbits(128), version=4)), kind, label, number, **what)
        if "done" not in job.ends:
            job.effects = 0
        self.all.append(job)

    def portions(self, count):
        """The whole in so many parts; the first has the rare kinds."""
        size = -(-len(self.all) // count)
        return [self.all[at:at + size] for at in range(0, len(self.all), size)]

    def total(self):
        """Rows there will be in the end, with those that jobs add, and volatile ones."""
        return len(self.all) + sum(job.number for job in self.all if job.kind == "probe.chain")


def put_rows(link, jobs):
    """May be repeated: what is there stays."""
    rows = [(job.id, job.kind, packed(job), job.label, job.bulk)
            for job in jobs if not job.volatile]
    with link.cursor() as cursor:
        psycopg2.extras.execute_values(cursor, """
            INSERT INTO jobs (id, tenant_id, queue, kind, key, payload, version, trace, bulk, occurred_at,
                              created_at)
            SELECT row.id::uuid, tenant.id, 'probe', row.kind, '1/chaos', row.payload, 1, row.trace,
                   row.bulk, now(), now() - interval '1 minute'
            FROM (VALUES %s) AS row(id, kind, payload, trace, bulk), (SELECT id FROM tenants LIMIT 1) AS tenant
            ON CONFLICT (id) DO NOTHING""",
            rows, template="(%s, %s, %s::bytea, %s, %s)", page_size=1000)


def put_volatile(redis, jobs, tenant):
    """As a producer of doorbells would: straight into the stream."""
    now = int(time.time() * 1000)
    pipe = redis.pipeline(transaction=True)
    for job in jobs:
        if job.volatile:
            pipe.xadd(PROBE_STREAM, {"id": f"{job.id}.0", "job": wire.envelope(
                kind=job.kind, tenant=tenant, key="1/chaos", occurred_ms=now, enqueued_ms=now,
                trace=job.label, payload=packed(job))})
    pipe.execute()


def random_of(seed, purpose):
    """Decisions of one kind do not shift those of another."""
    return random.Random(f"{seed}/{purpose}")
