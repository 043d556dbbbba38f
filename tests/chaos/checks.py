"""What must be so after a seed. Each check yields its violations as texts."""
import http.client
import re
import signal
import time

import psycopg2
import redis

import harness

STORE_AWAY = (psycopg2.OperationalError, psycopg2.InterfaceError, redis.RedisError)
JOB_KEY = re.compile(rb":seen:[0-9a-f]{8}-[0-9a-f-]{27}\.\d+$")
DEAD_LINE = re.compile(r'msg="?dead\b.*')
JOB_IN_LINE = re.compile(r'\bjob="?([0-9a-f-]{36})')
SHOWN = 8
STILL_S = 18  # a dozen leases
FSCK_S = 5  # a scheduler that reconnects, and its next sweep


def few(items):
    items = sorted(items)
    return f"{len(items)}: {', '.join(map(str, items[:SHOWN]))}{', ...' if len(items) > SHOWN else ''}"


# ---- draining

def waiting(seed):
    """What is still to be done, by name; {} when all is settled, None if a store did not answer."""
    world, senders = seed.world, seed.senders
    queued = world.direct("SELECT count(*) FROM jobs WHERE state = 'queued'")
    streams = world.streams()
    if queued is None or streams is None:
        return None
    left = {"deliveries": senders.left, "queued rows": queued[0][0], **streams}
    left.pop("wl:{0}:events:dead", None)
    return {name: count for name, count in left.items() if count}


def drain(seed, limit_s):
    """Until nothing waits any more, twice in a row. A violation if that takes too long, or if nothing
    moves for as long as several deaths in a row may take."""
    began = moved = time.monotonic()
    calm, left, before = 0, None, None
    while calm < 2:
        seed.world.tick()
        now = time.monotonic()
        if now - began > limit_s or now - moved > STILL_S * harness.SLOW:
            yield f"stall: {now - began:.0f} s after the last fault there is still {left}\n{dump(seed)}"
            return
        left = waiting(seed)
        if left != before:
            before, moved = left, now
        calm = calm + 1 if left == {} else 0
        time.sleep(0.1)


def dump(seed):
    """What is stuck where."""
    world, lines = seed.world, []
    for row in world.direct("""SELECT id, gen, kind, state, attempts, bulk, relayed_at, due_at, reason FROM jobs
                               WHERE state = 'queued' ORDER BY due_at LIMIT 20""") or []:
        lines.append("  row " + " ".join(map(str, row)))
    client = world.redis.client()
    for name in sorted(client.scan_iter("wl:*", _type="stream")):
        lines.append(f"  stream {name.decode()}: {client.xlen(name)} entries")
        for group in client.xinfo_groups(name):
            lines.append(f"    group pending={group['pending']} last={group['last-delivered-id'].decode()}")
            for entry in client.xpending_range(name, group["name"], "-", "+", 10):
                lines.append(f"    pending {entry['message_id'].decode()} {entry['consumer'].decode()} "
                             f"idle={entry['time_since_delivered']} deliveries={entry['times_delivered']}")
        for entry, fields in client.xrange(name, count=5):
            lines.append(f"    entry {entry.decode()} {fields.get(b'id')} {fields.get(b'kind')}")
    for name in sorted(client.scan_iter("wl:*:z", _type="zset")):
        lines.append(f"  delayed {name.decode()}: {client.zrange(name, 0, 5, withscores=True)}")
    for one in world.instances:
        lines.append(f"  {one.name} {one.proc!r} armed={one.armed!r}")
    return "\n".join(lines)


# ---- events and money

def events(seed):
    rows = seed.world.sql("SELECT id, status FROM webhook_events")
    known, sent = {row[0] for row in rows}, seed.events.event_ids
    if lost := seed.senders.acknowledged - known:
        yield f"acknowledged and lost: events {few(lost)}"
    if strange := known - sent:
        yield f"never sent and journalled: events {few(strange)}"
    if odd := [row[0] for row in rows if row[1] != "routed"]:
        yield f"not routed: events {few(odd)}"
    twice = seed.world.sql("""SELECT event_id FROM jobs WHERE queue = 'credits' GROUP BY event_id
                              HAVING count(*) <> 1""")
    if twice:
        yield f"not exactly one job: events {few(row[0] for row in twice)}"
    none = seed.world.sql("""SELECT e.id FROM webhook_events e LEFT JOIN jobs j ON j.event_id = e.id
                             WHERE j.id IS NULL""")
    if none:
        yield f"without a job: events {few(row[0] for row in none)}"


CATEGORY = {"topup": "topup", "refund": "refund", "refund_reversal": "refund", "dispute_hold": "held",
            "dispute_release": "held", "dispute_loss": "lost"}


def ledger_of(seed):
    """{payment: {category: credits}}, and how often each was granted."""
    found, grants = {}, {}
    for payment, kind, count, credits in seed.world.sql(
            "SELECT whop_payment_id, kind, count(*), sum(credits)::bigint FROM credit_transactions GROUP BY 1, 2"):
        sums = found.setdefault(payment, {})
        sums[CATEGORY[kind]] = sums.get(CATEGORY[kind], 0) + credits
        if kind == "topup":
            grants[payment] = count
    return {payment: {name: n for name, n in sums.items() if n} for payment, sums in found.items()}, grants


def money(seed):
    payments, world = seed.events.payments, seed.world
    found, grants = ledger_of(seed)
    twice = [payment for payment, count in grants.items() if count != 1]
    if twice:
        yield f"granted more than once: payments {few(twice)}"
    none = set(payments) - set(grants)
    if none:
        yield f"never granted: payments {few(none)}"
    wrong = [f"{key} {found[key]} instead of {payment.ledger()}" for key, payment in payments.items()
             if key in found and key not in twice and found[key] != payment.ledger()]
    if wrong:
        yield f"wrong ledger: payments {few(wrong)}"
    held = {row[0]: int(row[1]) for row in world.sql("SELECT owner_id, credits_balance FROM credit_accounts")}
    if held != seed.events.balances() and not (twice or none or wrong):
        yield f"wrong balance: users {few(set(held.items()) ^ set(seed.events.balances().items()))}"
    if odd := world.sql("SELECT owner_id FROM credit_mismatches"):
        yield f"balance is not the sum of the ledger: users {few(row[0] for row in odd)}"
    torn = world.sql("""SELECT account_id FROM (
        SELECT account_id, balance_after, sum(amount) OVER (PARTITION BY account_id ORDER BY id) AS upto
        FROM credit_transactions) t WHERE balance_after <> upto GROUP BY 1""")
    if torn:
        yield f"a balance in the ledger is not the sum of the rows up to it: accounts {few(row[0] for row in torn)}"
    states = dict(world.sql("SELECT state, count(*) FROM jobs WHERE queue = 'credits' GROUP BY state"))
    if set(states) - {"done", "skipped"} or states.get("done", 0) < len(payments):
        yield f"credits jobs ended as {states}, with {len(payments)} payments"
    if reviews := world.sql("SELECT whop_payment_id FROM credit_review WHERE state = 'open'"):
        yield f"in review: payments {few(row[0] for row in reviews)}"


# ---- jobs and effects

def jobs(seed):
    if not seed.jobs.all:
        return
    world = seed.world
    rows = {row[0]: row[1:] for row in world.sql(
        "SELECT id::text, kind, state, COALESCE(reason, '') FROM jobs WHERE queue = 'probe'")}
    missing, wrong = [], []
    for job in seed.jobs.all:
        if job.volatile:
            continue
        kind, state, reason = rows.get(job.id, ("", "missing", ""))
        if kind != job.kind:
            missing.append(job.id)
        elif state not in job.ends or (state == "dead" and job.reason not in reason):
            wrong.append(f"{job.id} {job.kind} {job.label}: {state} {reason!r}")
    if missing:
        yield f"rows missing: {few(missing)}"
    if wrong:
        yield f"unexpected end: jobs {few(wrong)}"
    added = [key for key in rows if key not in seed.jobs.by_id]
    wanted = sum(job.number for job in seed.jobs.all if job.kind == "probe.chain")
    if len(added) != wanted:
        yield f"chains added {len(added)} jobs instead of {wanted}"
    if odd := [key for key in added if rows[key][0] != "probe.chain" or rows[key][1] != "done"]:
        yield f"unexpected end: jobs that chains added {few(odd)}"
    yield from effects(seed, rows)


KIND_OF = {"probe.post_resend": "upserts", "probe.post_verify": "messages", "probe.post_park": "refunds"}


def calls(seed):
    """The other side saw each call that is done once; what is parked at most once, and only where the
    policy allows it; and no row says anything else than its job."""
    posts = [job for job in seed.jobs.all if job.kind in KIND_OF]
    if not posts:
        return
    made = {}
    for effect in seed.world.sim.effects():
        made[effect["kind"], effect["subject"]] = made.get((effect["kind"], effect["subject"]), 0) + 1
    rows = {row[0]: row[1:] for row in seed.world.sql(
        "SELECT business_key, o.state, parked, j.state FROM outbound o JOIN jobs j ON j.id = o.job_id")}
    for job in posts:
        count = made.pop((f"{KIND_OF[job.kind]}.make", job.label), 0)
        row = rows.pop(job.label, ("missing", None, "missing"))
        if row[:2] == ("done", None) and row[2] == "done" and count == 1:
            continue
        # A lost lease may leave its job parked, of which its late runner knew the answer.
        if job.kind != "probe.post_resend" and row[2] == "parked" and count <= 1 and \
                (row[0] == "unknown" and row[1] or row[0] == "done" and count == 1):
            seed.world.count(f"parked {job.kind}")
            continue
        yield f"call {job.label}: {row}, made {count} times"
    if rows or made:
        yield f"calls of nobody: {few(rows)}, {few(made)}"


def effects(seed, rows):
    if seed.world.sql("SELECT to_regclass('probe_effects')")[0][0] is None:
        yield "no whopline-probe has ever worked"
        return
    found = dict(seed.world.sql("SELECT job, count(*) FROM probe_effects GROUP BY job"))
    more, less, strange = [], [], []
    for key, (kind, state, _) in rows.items():
        count, wanted = found.pop(f"{key}.0", 0), 1 if state == "done" else 0
        if count > wanted:
            more.append(f"{key} {kind} {state}: {count}")
        elif count < wanted:
            less.append(f"{key} {kind} {state}: {count}")
    for job in seed.jobs.all:
        if not job.volatile:
            continue
        count = found.pop(f"{job.id}.0", 0)
        # A volatile job may run again after a death, and is lost with Redis' data.
        if count < job.effects and not seed.chaos.flushed:
            less.append(f"{job.id} {job.kind}: {count}")
    strange = list(found)
    if more:
        yield f"more effects than one: jobs {few(more)}"
    if less:
        yield f"done without an effect: jobs {few(less)}"
    if strange:
        yield f"effects of unknown jobs: {few(strange)}"


# ---- Redis

def residue(seed):
    """Nothing of any job is left, whoever lives or lives no more."""
    client = seed.world.redis.client()
    for name in sorted(client.scan_iter("wl:*", _type="stream")):
        if count := client.xlen(name):
            yield f"left in Redis: {count} entries in {name.decode()}"
        for group in client.xinfo_groups(name):
            if group["pending"]:
                yield f"left in Redis: {group['pending']} pending in {name.decode()}"
    for pattern, size in (("wl:*:z", client.zcard), ("wl:*:d", client.hlen)):
        for name in sorted(client.scan_iter(pattern)):
            yield f"left in Redis: {size(name)} delayed in {name.decode()}"
    keys = [key.decode() for key in client.scan_iter("wl:*:seen:*", count=1000) if JOB_KEY.search(key)]
    if keys:
        yield f"left in Redis: keys {few(keys)}"


def agreement(seed):
    """What an operator would ask: do the stores fit together?"""
    ends = time.monotonic() + FSCK_S  # Redis may have come back only just now
    while (done := seed.world.cli("fsck", check=False)).returncode != 0 and time.monotonic() < ends:
        time.sleep(0.2)
    if done.returncode != 0:
        yield f"whopline fsck: code {done.returncode}\n{done.stdout}{done.stderr}"


# ---- processes

def deaf(seed):
    """Every process that lives does its work: consumers read, each scheduler relays alone."""
    world, workers = seed.world, seed.world.of_kind("journal", "credits", "members", "mail", "probe")
    try:
        harness.eventually(lambda: readers(world) == len(workers))
    except AssertionError:
        yield f"deaf: {readers(world)} of {len(workers)} workers read\n{dump(seed)}"
    for one in world.of_kind("ingest"):
        host, _, port = one.env["PRIVATE_LISTEN"].partition(":")
        try:  # Redis may have come back only just now
            harness.eventually(lambda host=host, port=port: ready(host, int(port)), 5)
        except AssertionError:
            yield f"deaf: {one.name} is not ready"
    for one in world.of_kind("scheduler"):
        others = [other for other in world.of_kind("scheduler") if other is not one and other.proc]
        for other in others:
            other.proc.popen.send_signal(signal.SIGSTOP)
        canary = world.sql("""UPDATE jobs SET gen = gen + 1, state = 'queued', finished_at = NULL, relayed_at = NULL
                              WHERE id = (SELECT id FROM jobs WHERE queue = 'credits' LIMIT 1) RETURNING id""")
        try:
            harness.eventually(lambda job=canary[0]: relayed(world, job))
        except AssertionError:
            yield f"deaf: {one.name} relays nothing"
        for other in others:
            other.proc.popen.send_signal(signal.SIGCONT)


def relayed(world, job):
    world.tick()
    return world.sql("SELECT state FROM jobs WHERE id = %s", job)[0][0] != "queued"


def readers(world):
    """Connections that are in a read, or were a moment ago. (Redis 7.0 does not know of a consumer
    that has never got anything.)"""
    world.tick()
    clients = world.redis.client().client_list()
    return sum(1 for one in clients if one["cmd"] == "xreadgroup" and int(one["idle"]) <= 2)


def ready(host, port):
    link = http.client.HTTPConnection(host, port, timeout=3)
    try:
        link.request("GET", "/readyz")
        return link.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()


def logs(seed, procs, provoked):
    """No sanitizer's report, no failed assertion, no line of level error that was not provoked."""
    planted = {job.id for job in seed.jobs.all if "dead" in job.ends}
    for proc in procs:
        text = proc.log()
        if harness.SANITIZER.search(text) or "REQUIRE" in text:
            yield f"{proc.name} {proc.pid}: a sanitizer's report or a failed assertion\n{harness.end_of(proc.path)}"
        for line in text.splitlines():
            if not harness.ERROR_LINE.search(line) or any(part in line for part in provoked.get(proc.name, ())):
                continue
            job = JOB_IN_LINE.search(line)
            if DEAD_LINE.search(line) and job and job.group(1) in planted:
                continue
            yield f"{proc.name} {proc.pid} logged an error: {line}"
            break
