"""What a job with a row costs, in batches of 50: ./dev bench jobs [--jobs N] [--rounds N] [--slots N]

In one run, round by round and one after the other, on the same PostgreSQL (synchronous_commit on)
with the same rows:

    pgbench n   the same statements, prepared, from n clients: the limit
    SLOTS n     whopline-probe and probe.batch, from a private Redis as in production (fsync always)

README.md beside this file says how to read it.
"""
import argparse
import glob
import math
import os
import resource
import sys

from lib import probe, report
from lib.meter import Meter
from lib.place import open_place
from lib.processes import cpu_seconds, family_cpu_seconds, run, stop_well

KIND, BATCH = "probe.batch", 50
COLUMNS = (("jobs/s", 10, 0), ("PostgreSQL us/job", 19, 1), ("worker us/job", 15, 2), ("Redis us/job", 14, 2),
           ("others %", 10, 0))

# What a worker says for each batch (store_claim_jobs, probe.c), the ids out of a table: pgbench has no
# arrays to send. Each client takes every n-th batch.
SCRIPT = """\\set number :turn * :clients + :client_id
\\set turn :turn + 1
BEGIN;
UPDATE jobs SET state = 'done', finished_at = whopline_now()
  FROM bench_batches, unnest(ids, gens) WITH ORDINALITY AS given(id, gen, at)
  WHERE number = :number AND jobs.id = given.id::uuid AND jobs.gen = given.gen AND state = 'queued'
  RETURNING given.at;
INSERT INTO probe_effects (job, label)
  SELECT given.* FROM bench_batches, unnest(jobs, labels) AS given WHERE number = :number;
COMMIT;
"""


def find_pgbench():
    programs = glob.glob("/usr/lib/postgresql/*/bin/pgbench")
    if not programs:
        sys.exit("there is no pgbench: install Debian's postgresql")
    return max(programs, key=lambda path: int(path.split("/")[4]))


def make_batches(database):
    database.sql("DROP TABLE IF EXISTS bench_batches")
    database.sql(f"""
        CREATE TABLE bench_batches AS
        SELECT number::integer, array_agg(id::text) AS ids, array_agg(gen::bigint) AS gens,
               array_agg(id || '.' || gen) AS jobs, array_agg(''::text) AS labels
        FROM (SELECT id, gen, (row_number() OVER (ORDER BY ctid) - 1) / {BATCH} AS number FROM jobs) AS jobs
        GROUP BY number""")
    database.sql("ALTER TABLE bench_batches ADD PRIMARY KEY (number)")


def run_pgbench(place, redis, count, clients):
    database = place.database
    redis.clear()  # of what is only rows now
    make_batches(database)
    script = f"{place.folder}/batch.sql"
    with open(script, "w", encoding="utf-8") as file:
        file.write(SCRIPT)
    database.rest()
    meter = Meter(pg=lambda: family_cpu_seconds(database.pid),
                  pgbench=lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]))
    before = meter.look()
    said = run([find_pgbench(), "-h", database.sockets, "-U", "app", "-n", "-M", "prepared", "-c", clients, "-j", 1,
                "-t", count // BATCH // clients, "-D", "turn=0", "-D", f"clients={clients}", "-f", script,
                database.name], 600)
    result = meter.between(before, meter.look(), count)
    # Without the time it took to connect; the CPU that took is in.
    result["per_second"] = float(said.split("tps = ")[1].split()[0]) * BATCH
    return result


def run_worker(place, redis, count, slots):
    place.database.rest()
    env = probe.environment(redis, place.database, SLOTS=slots)
    process, log = probe.start_probe(place.folder, slots, env)
    meter = Meter(worker=lambda: cpu_seconds(process.pid), redis=lambda: cpu_seconds(redis.pid),
                  pg=lambda: family_cpu_seconds(place.database.pid))
    result = probe.drain(redis, count, meter)
    stop_well(process, log)
    return result


def measure_round(place, redis, options):
    result = {}
    for n in options.slots:
        for name, work in ((f"pgbench {n}", run_pgbench), (f"SLOTS {n}", run_worker)):
            probe.clear(redis, place.database)
            probe.preload(redis, place.database, KIND, options.jobs)
            result[name] = work(place, redis, options.jobs, n)
            probe.effects(place.database, options.jobs)
    return result


def show(rounds, options, settings):
    keys = ("per_second", "pg_us", "worker_us", "redis_us", "others")
    print(f"{options.jobs:,} jobs in batches of {BATCH}, medians of {len(rounds)} rounds, synchronous_commit "
          f"{settings['synchronous_commit']}, fsync {settings['fsync']}; all on {os.cpu_count()} cores\n")
    rows = []
    for name in rounds[0]:
        values = [report.median(r[name][key] for r in rounds) if key in rounds[0][name] else None for key in keys]
        rows.append((name, [*values[:-1], values[-1] * 100]))
    report.table(COLUMNS, rows)
    for n in options.slots:
        for what, key in (("jobs a second", "per_second"), ("PostgreSQL's CPU a job", "pg_us")):
            report.ratio(f"SLOTS {n} / pgbench {n}, {what}",
                         [(r[f"SLOTS {n}"][key], r[f"pgbench {n}"][key]) for r in rounds])
    print()


def main():
    parser = argparse.ArgumentParser(prog="./dev bench jobs")
    parser.add_argument("--jobs", type=int, default=50_000, help="rounded down to what all clients share evenly")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", type=int, default=1, help="rounds that are thrown away")
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.jobs -= options.jobs % (BATCH * math.lcm(*options.slots))
    if options.jobs == 0:
        parser.error(f"--jobs must be at least {BATCH * math.lcm(*options.slots)}")
    with open_place() as place, place.redis() as redis:
        probe.prepare(place, redis)
        rounds = [measure_round(place, redis, options) for _ in range(options.warm + options.rounds)][options.warm:]
        show(rounds, options, place.database.settings())
    report.finish(options, rounds)


if __name__ == "__main__":
    main()
