"""What a grant costs, in batches of 50: ./dev bench credits [--payments N] [--rounds N] [--connections N...]

In one run, round by round and one after the other, on the same PostgreSQL (synchronous_commit on)
with as many accounts:

    least n      pgbench, one statement: 50 ledger rows and their balances, and nothing else
    pgbench n    the worker's own statements, prepared, from n clients: the limit
    grants n     the same, said by the product's code from n connections (bench_grants)
    SLOTS n      whopline-credits, with jobs from a private Redis as in production (fsync always)

README.md beside this file says how to read it.
"""
import argparse
import json
import math
import os
import resource
import sys
import time
import uuid

from jobs import BATCH, find_pgbench
from lib import probe, report
from lib.meter import Meter
from lib.place import open_place
from lib.processes import BENCH, BIN, ROOT, cpu_seconds, family_cpu_seconds, run, start, stop_well
from lib.stores import COMPANY

sys.path.insert(0, str(ROOT / "tests/integration"))
import wire  # pylint: disable=wrong-import-position

PLAN, CREDITS, BEFORE, STREAM = "plan_bench", 500, 2000, "wl:{0}:q:credits"
COLUMNS = (("grants/s", 10, 0), ("PostgreSQL us/grant", 21, 1), ("program us/grant", 18, 2), ("Redis us/grant", 16, 2),
           ("others %", 10, 0))

LEAST = f"""\\set first :turn * 1000 + :client_id
\\set turn :turn + 1
WITH given AS (SELECT 'least_' || :first || '_' || n AS payment, 1 + floor(random() * :users)::bigint AS account
               FROM generate_series(1, {BATCH}) AS n),
locked AS MATERIALIZED (SELECT id FROM credit_accounts WHERE id IN (SELECT account FROM given) ORDER BY id FOR NO KEY UPDATE),
entries AS (INSERT INTO credit_transactions (tenant_id, account_id, kind, credits, amount, balance_after, source_type,
                                             source_id, actor, reason)
            SELECT 1, account, 'topup', 500, 500, 0, 'payment', payment, 'bench', 'bench' FROM given JOIN locked ON account = id
            RETURNING account_id, amount)
UPDATE credit_accounts a SET credits_balance = credits_balance + e.amount
FROM (SELECT account_id, sum(amount) AS amount FROM entries GROUP BY 1) e WHERE a.id = e.account_id;
"""


def prepare(database, users):
    database.sql("DROP TRIGGER credit_transactions_no_truncate ON credit_transactions")
    database.sql("INSERT INTO whop_plans (tenant_id, whop_plan_id, plan_name, credits_amount) VALUES (1, %s, 'Bench', %s)",
                 (PLAN, CREDITS))
    database.sql("""INSERT INTO credit_accounts (tenant_id, owner_id)
                    SELECT 1, 'user_' || lpad(n::text, 6, '0') FROM generate_series(0, %s - 1) AS n""", (users,))


def clear(database, options):
    """Nothing of the run before is in the way of the next but a few payments: of empty tables the
    planner would know nothing."""
    database.sql("TRUNCATE payments, credit_transactions, jobs, credit_review, credit_notices CASCADE")
    database.sql("UPDATE credit_accounts SET credits_balance = 0, debt = 0")
    run([BENCH / "bench_grants", database.url, 1, BEFORE // BATCH, options.users, "before"], 60)
    database.rest()


def check(database, count):
    """Each payment has been granted once, and the balances say so."""
    rows, credits = database.sql("SELECT count(*), sum(credits) FROM credit_transactions")[0]
    balances, = database.sql("SELECT sum(credits_balance) FROM credit_accounts")[0]
    if not rows * CREDITS == credits == balances == (BEFORE + count) * CREDITS:
        raise SystemExit(f"of {count} grants there are {rows}, of {credits} credits; balances are {balances} in all")


def say(place, database, clients, count, script, *defines):
    path = f"{place.folder}/script.sql"
    with open(path, "w", encoding="utf-8") as file:
        file.write(script)
    meter = Meter(pg=lambda: family_cpu_seconds(database.pid),
                  program=lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]))
    before = meter.look()
    said = run([find_pgbench(), "-h", database.sockets, "-U", "app", "-n", "-M", "prepared", "-c", clients, "-j", 1,
                "-t", count // BATCH // clients, "-D", "turn=0", *defines, "-f", path, database.name], 600)
    result = meter.between(before, meter.look(), count)
    result["per_second"] = float(said.split("tps = ")[1].split()[0]) * BATCH
    return result


def run_least(place, options, count, clients):
    return say(place, place.database, clients, count, LEAST, "-D", f"users={options.users}")


def statements(place, options):
    """What the product's code says for a batch: the note and the settlement, with $1 ... as they are."""
    texts = run([BENCH / "bench_grants", "--statements", place.database.url, 1, 1, options.users, "look"], 60)
    found = [" ".join(text.split()) for text in texts.split("\0") if text]
    note, = [text for text in found if text.startswith("INSERT INTO payments")]
    settle, = [text for text in found if "credits_settle" in text]
    return note, settle


def from_table(statement, columns):
    """The same statement with its arrays from the row of a table: pgbench has none to send."""
    for number in range(len(columns), 0, -1):
        for kind in ("bigint[]", "text[]"):
            statement = statement.replace(f"${number}::{kind}", f"b.all_{columns[number - 1]}")
        statement = statement.replace(f"${number}", f"b.all_{columns[number - 1]}")
    return statement.replace(" FROM ", " FROM bench_batches b, ", 1)


NOTE_COLUMNS = ("tenant", "payment", "who", "none", "plan", "none", "none", "none", "none", "none", "status", "substatus",
                "none", "amount", "amount", "currency", "none", "none", "paid", "at", "at", "event")


def make_batches(database, count, users):
    constant = {"none": "''", "plan": f"'{PLAN}'", "status": "'paid'", "substatus": "'succeeded'", "amount": "'49.99'",
                "currency": "'usd'"}
    texts = ", ".join(f"array_agg({value}::text) AS all_{name}" for name, value in constant.items())
    database.sql("DROP TABLE IF EXISTS bench_batches")
    database.sql(f"""
        CREATE TABLE bench_batches AS
        SELECT n / {BATCH} AS number, array_agg(1::bigint) AS all_tenant, array_agg('pay_' || lpad(n::text, 9, '0') ORDER BY n)
               AS all_payment, array_agg('user_' || lpad(floor(random() * {users})::text, 6, '0')) AS all_who,
               array_agg(1::bigint) AS all_paid, array_agg(1790000000000) AS all_at, array_agg('bench/' || n) AS all_event,
               'whopline-credits'::text AS all_actor, {texts}
        FROM generate_series(0, {count} - 1) AS n GROUP BY 1""")
    database.sql("ALTER TABLE bench_batches ADD PRIMARY KEY (number)")


def run_pgbench(place, options, count, clients):
    make_batches(place.database, count, options.users)
    note, settle = statements(place, options)
    clear(place.database, options)
    note = from_table(note, NOTE_COLUMNS).replace(" ORDER BY tenant", " WHERE b.number = :number ORDER BY tenant")
    settle = from_table(settle, ("tenant", "payment", "actor")) + " WHERE b.number = :number"
    script = f"""\\set number :turn * {clients} + :client_id
\\set turn :turn + 1
BEGIN;
{note};
{settle};
COMMIT;
"""
    return say(place, place.database, clients, count, script)


def run_grants(place, options, count, connections):
    meter = Meter(pg=lambda: family_cpu_seconds(place.database.pid),
                  program=lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]))
    before = meter.look()
    said = json.loads(run([BENCH / "bench_grants", place.database.url, connections, count // BATCH // connections,
                           options.users, uuid.uuid4().hex[:8]], 600))
    result = meter.between(before, meter.look(), count)
    if said["payments"] != count or said["again"] != 0:
        raise SystemExit(f"bench_grants: {said}")
    return {**result, "per_second": count / said["seconds"]}


def put_jobs(place, redis, options, count):
    """Rows and entries of as many payments, as the journal leaves them."""
    now = int(time.time() * 1000)
    rows, pipe = [], redis.client.pipeline(transaction=False)
    for n in range(count):
        job, event = str(uuid.uuid4()), f"bench/{n}"
        payload = wire.pack({"id": event, "kind": "payment.succeeded", "occurred_ms": now, "payment": f"pay_{n:09}",
                             "user": f"user_{n * 7919 % options.users:06}", "plan": PLAN, "status": "paid",
                             "substatus": "succeeded", "amount": "49.99", "currency": "usd", "company": COMPANY})
        rows.append((job, payload))
        pipe.xadd(STREAM, {"id": f"{job}.0", "job": wire.envelope(
            kind="credits.payment_succeeded", tenant=1, key="1/bench", occurred_ms=now, enqueued_ms=now, trace=event,
            payload=payload)})
        if len(rows) == 1000 or n + 1 == count:
            place.database.sql("""
                INSERT INTO jobs (id, tenant_id, queue, kind, key, payload, version, trace, occurred_at, relayed_at)
                SELECT id::uuid, 1, 'credits', 'credits.payment_succeeded', '1/bench', payload, 1, 'bench', now(), now()
                FROM unnest(%s, %s) AS new(id, payload)""", tuple(map(list, zip(*rows))))
            pipe.execute()
            rows = []


def run_worker(place, redis, options, count, slots):
    redis.clear()
    put_jobs(place, redis, options, count)
    place.database.rest()
    log = f"{place.folder}/credits-{slots}.log"
    process = start([BIN / "whopline-credits"], log, probe.environment(redis, place.database, SLOTS=slots))
    meter = Meter(program=lambda: cpu_seconds(process.pid), redis=lambda: cpu_seconds(redis.pid),
                  pg=lambda: family_cpu_seconds(place.database.pid))
    result = probe.drain(redis, count, meter, stream=STREAM)
    stop_well(process, log)
    return result


def measure_round(place, redis, options):
    result = {}
    for n in options.connections:
        count = options.payments - options.payments % (BATCH * n)
        for name, work in (("least", run_least), ("pgbench", run_pgbench), ("grants", run_grants)):
            clear(place.database, options)
            result[f"{name} {n}"] = work(place, options, count, n)
            check(place.database, count)
        clear(place.database, options)
        result[f"SLOTS {n}"] = run_worker(place, redis, options, count, n)
        check(place.database, count)
    return result


def show(rounds, options, settings):
    keys = ("per_second", "pg_us", "program_us", "redis_us", "others")
    print(f"{options.payments:,} payments of {options.users:,} buyers in batches of {BATCH}, medians of {len(rounds)} rounds, "
          f"synchronous_commit {settings['synchronous_commit']}, fsync {settings['fsync']}; all on {os.cpu_count()} cores\n")
    rows = []
    for name in rounds[0]:
        values = [report.median(r[name][key] for r in rounds) if key in rounds[0][name] else None for key in keys]
        rows.append((name, [*values[:-1], values[-1] * 100]))
    report.table(COLUMNS, rows)
    for n in options.connections:
        for ours, theirs in (("grants", "pgbench"), ("SLOTS", "pgbench"), ("grants", "least")):
            report.ratio(f"{ours} {n} / {theirs} {n}, grants a second",
                         [(r[f"{ours} {n}"]["per_second"], r[f"{theirs} {n}"]["per_second"]) for r in rounds])
        report.ratio(f"grants {n} / least {n}, PostgreSQL's CPU a grant",
                     [(r[f"grants {n}"]["pg_us"], r[f"least {n}"]["pg_us"]) for r in rounds])
    print()


def main():
    parser = argparse.ArgumentParser(prog="./dev bench credits")
    parser.add_argument("--payments", type=int, default=40_000, help="rounded down to what all connections share evenly")
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", type=int, default=1, help="rounds that are thrown away")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.payments < BATCH * max(options.connections):
        parser.error(f"--payments must be at least {BATCH * max(options.connections)}")
    options.payments -= options.payments % (BATCH * math.lcm(*options.connections))
    with open_place() as place, place.redis() as redis:
        prepare(place.database, options.users)
        rounds = [measure_round(place, redis, options) for _ in range(options.warm + options.rounds)][options.warm:]
        show(rounds, options, place.database.settings())
    report.finish(options, rounds)


if __name__ == "__main__":
    main()
