"""What a tenant waits beside one with a mountain of bulk jobs: ./dev bench fairness [--bulk N] [--rounds N]

One tenant has bulk rows (probe.effect) that the scheduler relays, at most TENANT_MAX_INFLIGHT of
them at a time. Another one's jobs come at a constant rate and are relayed at once, as those of
events are: first alone, then beside the mountain. README.md beside this file says how to read it.
"""
import argparse
import time

from lib import probe, report
from lib.place import open_place
from lib.processes import BENCH, run, start_whopline, stop_well, wait_for

KIND = "probe.effect"
BULKY, QUICK = 1, 2  # tenants
COLUMNS = (("jobs/s", 10, 1), ("p50 ms", 10, 1), ("p95 ms", 10, 1), ("max ms", 10, 1))
PATIENCE_S = 600


def start_workers(place, redis, slots):
    env = probe.environment(redis, place.database, SLOTS=slots)
    logs = {name: f"{place.folder}/{name}.log" for name in ("scheduler", "probe")}
    # Both of the build with the probe: a released scheduler leaves kinds alone that it does not know.
    return [(start_whopline(BENCH / f"whopline-{name}", log, env), log) for name, log in logs.items()]


def insert_bulk(place, redis, count):
    run(probe.preload_command(redis, place.database, KIND, count, "--bulk", "--no-relay", "--tenant", BULKY), 600)


def send_quick(place, redis, options):
    count = options.per_second * options.seconds
    probe.preload(redis, place.database, KIND, count, "--tenant", QUICK, "--per-second", options.per_second)
    return count


def count_left(database, tenant):
    return database.sql("SELECT count(*) FROM jobs WHERE state = 'queued' AND tenant_id = %s", (tenant,))[0][0]


def wait_done(database, tenant):
    wait_for(lambda: count_left(database, tenant) == 0, f"the jobs of tenant {tenant}", PATIENCE_S, 0.2)


def waits(database, count):
    """From a row to its effect, ms, of the tenant that is in a hurry."""
    rows = database.sql("""
        SELECT extract(epoch FROM probe_effects.at - jobs.created_at) * 1000
        FROM probe_effects JOIN jobs ON probe_effects.job = jobs.id || '.' || jobs.gen
        WHERE jobs.tenant_id = %s""", (QUICK,))
    if len(rows) != count:
        raise SystemExit(f"{count} jobs of the quick tenant, {len(rows)} effects")
    return [float(ms) for ms, in rows]


def per_second(database, tenant, begins=None, ends=None):
    """Effects between two Unix times, or from first to last."""
    count, first, last = database.sql("""
        SELECT count(*), extract(epoch FROM min(at)), extract(epoch FROM max(at))
        FROM probe_effects JOIN jobs ON probe_effects.job = jobs.id || '.' || jobs.gen
        WHERE jobs.tenant_id = %s AND at BETWEEN to_timestamp(%s) AND to_timestamp(%s)""",
        (tenant, begins or 0, ends or 1e11))[0]
    return count / (float(ends - begins) if begins else float(last - first) or 1.0)


def result_of(database, count, bulk_rate):
    values = waits(database, count)
    return {"jobs": count, "per_second": per_second(database, QUICK), "bulk_per_second": bulk_rate,
            **{name: report.percentile(values, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1))}}


def run_alone(place, redis, options):
    workers = start_workers(place, redis, options.slots)
    count = send_quick(place, redis, options)
    wait_done(place.database, QUICK)
    for worker in workers:
        stop_well(*worker)
    probe.effects(place.database, count)
    return result_of(place.database, count, None)


def run_beside(place, redis, options):
    database = place.database
    insert_bulk(place, redis, options.bulk)
    database.rest()
    workers = start_workers(place, redis, options.slots)
    wait_for(lambda: database.sql("SELECT EXISTS (SELECT FROM probe_effects)")[0][0], "the first bulk job")
    began = time.time()
    count = send_quick(place, redis, options)
    ended = time.time()
    bulk_left = count_left(database, BULKY)
    wait_done(database, QUICK)
    wait_done(database, BULKY)
    for worker in workers:
        stop_well(*worker)
    probe.effects(database, count + options.bulk)
    return {**result_of(database, count, per_second(database, BULKY, began, ended)), "bulk_left": bulk_left,
            "bulk_overall": per_second(database, BULKY)}


def measure_round(place, redis, options):
    result = {}
    for name, work in (("alone", run_alone), ("beside bulk", run_beside)):
        probe.clear(redis, place.database)
        result[name] = work(place, redis, options)
    return result


def show(rounds, options):
    print(f"{options.bulk:,} bulk jobs of one tenant, {options.per_second} jobs a second of another for "
          f"{options.seconds} s, SLOTS {options.slots}, medians of {len(rounds)} rounds (max: the longest)\n")
    rows = []
    for name in rounds[0]:
        middle = [report.median(r[name][key] for r in rounds) for key in ("per_second", "p50", "p95")]
        rows.append((name, [*middle, max(r[name]["max"] for r in rounds)]))
    beside = [r["beside bulk"] for r in rounds]
    rows.append(("bulk meanwhile", [report.median(r["bulk_per_second"] for r in beside), None, None, None]))
    rows.append(("bulk, all of it", [report.median(r["bulk_overall"] for r in beside), None, None, None]))
    report.table(COLUMNS, rows)
    if min(r["bulk_left"] for r in beside) == 0:
        print("The bulk jobs were done before the others had all come: ask for more of them (--bulk).\n")


def main():
    parser = argparse.ArgumentParser(prog="./dev bench fairness")
    parser.add_argument("--bulk", type=int, default=50_000)
    parser.add_argument("--per-second", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with open_place() as place, place.redis() as redis:
        place.database.sql("INSERT INTO tenants (slug, whop_company_id) VALUES ('quick', 'biz_BenchQuick0001')")
        probe.prepare(place, redis)
        rounds = [measure_round(place, redis, options) for _ in range(options.rounds)]
        show(rounds, options)
    report.finish(options, rounds)


if __name__ == "__main__":
    main()
