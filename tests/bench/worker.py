"""What the runtime costs a job that does nothing: ./dev bench worker [--jobs N] [--rounds N]

In one run, round by round and one after the other, with the same entries in a private Redis:

    bare worker   XREADGROUP, XACK and XDEL in batches, nothing else: the limit
    SLOTS n       whopline-probe and probe.noop, a volatile kind: leases, retries and delayed jobs on

first with the append-only file off, then as in production (fsync always). README.md beside this
file says how to read it.
"""
import argparse
import os
import sys

from lib import probe, report
from lib.meter import Meter
from lib.place import open_place
from lib.processes import BENCH, cpu_seconds, memory_mib, start, stop

COLUMNS = (("jobs/s", 11, 0), ("CPU us/job", 12, 3), ("Redis us/job", 14, 3), ("peak MiB", 10, 1),
           ("others %", 10, 0))
LIMIT = "bare worker"


def measure(process, redis, count):
    meter = Meter(cpu=lambda: cpu_seconds(process.pid), redis=lambda: cpu_seconds(redis.pid))
    result = probe.drain(redis, count, meter)
    return {**result, "jobs": count, "peak_mib": memory_mib(process.pid)[0]}


def run_limit(place, redis, count):
    redis.client.xgroup_create(probe.STREAM, probe.GROUP, "0")
    process = start([BENCH / "bench_bare_worker", redis.socket, probe.STREAM], f"{place.folder}/limit.log")
    result = measure(process, redis, count)
    stop(process)
    return result


def run_worker(place, redis, count, slots):
    env = probe.environment(redis, place.database, SLOTS=slots)
    process, log = probe.start_probe(place.folder, slots, env)
    result = measure(process, redis, count)
    status = stop(process)
    keys = [key for key in redis.client.scan_iter("wl:*seen:*", count=10000)]
    if status != 0 or keys:
        sys.exit(f"whopline-probe ended with {status}, {len(keys)} jobs are still known\n{open(log).read()}")
    return result


def measure_round(place, redis, options):
    runs = {LIMIT: run_limit}
    for slots in options.slots:
        runs[f"SLOTS {slots}"] = lambda *how, slots=slots: run_worker(*how, slots)
    result = {}
    for name, run in runs.items():
        redis.clear()
        probe.preload(redis, None, "probe.noop", options.jobs)
        result[name] = run(place, redis, options.jobs)
    return result


def measure_all(place, options, durable):
    rounds = []
    with place.redis(durable) as redis:
        for number in range(options.warm + options.rounds):
            result = measure_round(place, redis, options)
            if number >= options.warm:
                rounds.append(result)
    return rounds


def show(rounds, options, aof):
    keys = ("per_second", "cpu_us", "redis_us", "peak_mib", "others")
    print(f"append-only file {'off' if aof == 'off' else 'synced always'}, {options.jobs:,} jobs, medians of "
          f"{len(rounds)} rounds, {os.cpu_count()} cores for Redis and worker\n")
    rows = []
    for name in rounds[0]:
        values = [report.median(r[name][key] for r in rounds) for key in keys]
        rows.append((name, [*values[:-1], values[-1] * 100]))
    report.table(COLUMNS, rows)
    for name in list(rounds[0])[1:]:
        report.ratio(f"{name} / bare worker, jobs a second",
                     [(r[name]["per_second"], r[LIMIT]["per_second"]) for r in rounds])
        report.ratio(f"{name} / bare worker, Redis' CPU a job",
                     [(r[name]["redis_us"], r[LIMIT]["redis_us"]) for r in rounds])
        more = report.median(r[name]["peak_mib"] - r[LIMIT]["peak_mib"] for r in rounds)
        print(f"{name} - bare worker, peak resident: {more:.1f} MiB\n")


def main():
    parser = argparse.ArgumentParser(prog="./dev bench worker")
    parser.add_argument("--jobs", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", type=int, default=1, help="rounds that are thrown away")
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--aof", choices=("off", "always", "both"), default="both")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = {}
    with open_place() as place:
        for aof in ("off", "always") if options.aof == "both" else (options.aof,):
            result[aof] = measure_all(place, options, aof == "always")
            show(result[aof], options, aof)
    report.finish(options, result)


if __name__ == "__main__":
    main()
