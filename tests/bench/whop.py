"""What a reading call of Whop's API costs: ./dev bench whop [--calls N] [--in-flight N] [--rounds N]

In one run, round by round and one after the other, against the same simulator (tests/sim):

    bare curl      libcurl's multi interface and curl_multi_poll, answers thrown away: the limit
    service/whop   whopline-probe with as many slots: budget and freeze in Redis, breaker, libcurl on the
                   loop, JSON into a struct; each slot with a credential, and so a budget, of its own:
                   their moments are at once
    one budget     the same with one credential for all, as fast as can be set: moments come in bursts,
                   and most calls wait for theirs and look at the freeze again

README.md beside this file says how to read it.
"""
import argparse
import http.client
import json
import os
import re
import subprocess
import sys

from lib import probe, report
from lib.meter import Meter
from lib.place import open_place
from lib.processes import (BENCH, DIES_WITH_US, ROOT, cpu_seconds, memory_mib, run, start_whopline, stop, stop_well,
                           wait_for)
from lib.stores import COMPANY

COLUMNS = (("calls/s", 11, 0), ("CPU us/call", 13, 1), ("sim us/call", 13, 1), ("Redis us/call", 15, 1),
           ("peak MiB", 10, 1), ("others %", 10, 0))
LIMIT, OURS, SHARED, VERSION = "bare curl", "service/whop", "one budget", "2026-07-20"


class Sim:
    def __init__(self):
        self.process = subprocess.Popen(
            [*DIES_WITH_US, "/usr/bin/python3", "-B", str(ROOT / "tests/sim/main.py"), "--company", COMPANY],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.port = int(re.search(r":(\d+)$", self.process.stdout.readline()).group(1))
        self.url = f"http://127.0.0.1:{self.port}"
        self.tell("POST", "settings", {"per_minute": 0})
        self.membership, = self.tell("POST", "many", {"kind": "memberships", "count": 1})["ids"]

    def tell(self, method, path, body=None):
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        link.request(method, f"/_sim/{path}", json.dumps(body) if body is not None else None)
        answer = json.loads(link.getresponse().read())
        link.close()
        return answer

    def forget(self):
        """Calls that were received, so that none is told twice and memory stays what it was."""
        state = self.tell("GET", "state")["whop"]
        self.tell("POST", "reset")
        self.tell("POST", "settings", {"per_minute": 0})
        self.tell("POST", "state", {"whop": {kind: list(items.values()) for kind, items in state.items()}})

    def received(self):
        return self.tell("GET", "calls?count=1&status=200")["count"]


def check(sim, count):
    """Every call was made once and answered well."""
    received = sim.received()
    if received != count:
        sys.exit(f"{count} calls were to be made, {received} have arrived and were answered with 200")


def run_limit(place, redis, sim, options, count):
    meter = Meter(sim=lambda: cpu_seconds(sim.process.pid), redis=lambda: cpu_seconds(redis.pid))
    before = meter.look()
    told = json.loads(run([BENCH / "bench_bare_curl", f"{sim.url}/api/v1/memberships/{sim.membership}", "apik_sim",
                           VERSION, count, options.in_flight], 600))
    result = meter.between(before, meter.look(), count)
    return {**result, "per_second": count / told["seconds"], "cpu_us": told["cpu_s"] / count * 1e6,
            "peak_mib": None, "redis_us": None}


def run_ours(place, redis, sim, options, count, **more):
    env = probe.environment(redis, place.database, SLOTS=options.in_flight, WHOP_API_URL=f"{sim.url}/api/v1",
                            HTTP_ALLOW_PRIVATE="true", WHOP_RATE_PER_MIN=1_000_000, WHOP_API_VERSION_DATE=VERSION,
                            HTTP_KEEP_CONNECTIONS=options.in_flight, MAX_RUN_MS=600_000, WHOP_COMPANY_ID=COMPANY,
                            PROBE_WHOP_ID=sim.membership, PROBE_WHOP_CALLS=count // options.in_flight, **more)
    log = f"{place.folder}/probe.log"
    process = start_whopline(BENCH / "whopline-probe", log, env)
    meter = Meter(cpu=lambda: cpu_seconds(process.pid), sim=lambda: cpu_seconds(sim.process.pid),
                  redis=lambda: cpu_seconds(redis.pid))
    before = meter.look()
    probe.preload(redis, None, "probe.whop", options.in_flight)
    wait_for(lambda: probe.left(redis) == 0, "the calls", 600, 0.01)
    result = meter.between(before, meter.look(), count)
    peak = memory_mib(process.pid)[0]
    stop_well(process, log)
    return {**result, "peak_mib": peak}


def run_apart(place, redis, sim, options, count):
    return run_ours(place, redis, sim, options, count, PROBE_WHOP_APART="1")


def measure_round(place, redis, sim, options):
    count = options.calls // options.in_flight * options.in_flight
    result = {}
    for name, how in ((LIMIT, run_limit), (OURS, run_apart), (SHARED, run_ours)):
        redis.clear()
        sim.forget()
        result[name] = how(place, redis, sim, options, count)
        check(sim, count)
    return result


def show(rounds, options):
    keys = ("per_second", "cpu_us", "sim_us", "redis_us", "peak_mib", "others")
    print(f"{options.calls:,} calls, {options.in_flight} in flight, medians of {len(rounds)} rounds, {os.cpu_count()} "
          "cores for all of it\n")
    rows = []
    for name in rounds[0]:
        values = [[r[name][key] for r in rounds] for key in keys]
        values = [None if None in column else report.median(column) for column in values]
        rows.append((name, [*values[:-1], values[-1] * 100]))
    report.table(COLUMNS, rows)
    for name in (OURS, SHARED):
        for what, key in (("calls a second", "per_second"), ("CPU a call", "cpu_us")):
            report.ratio(f"{name} / {LIMIT}, {what}", [(r[name][key], r[LIMIT][key]) for r in rounds])


def main():
    parser = argparse.ArgumentParser(prog="./dev bench whop")
    parser.add_argument("--calls", type=int, default=40_000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", type=int, default=1, help="rounds that are thrown away")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rounds = []
    with open_place() as place, place.redis() as redis:
        sim = Sim()
        try:
            for number in range(options.warm + options.rounds):
                result = measure_round(place, redis, sim, options)
                if number >= options.warm:
                    rounds.append(result)
        finally:
            stop(sim.process)
            sim.process.stdout.close()
    show(rounds, options)
    report.finish(options, rounds)


if __name__ == "__main__":
    main()
