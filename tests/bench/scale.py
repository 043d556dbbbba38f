"""Workers that come and go under load, 1, 8, then 2: ./dev bench scale [--jobs N] [--rounds N] [--slots N]

Jobs with a row and a transaction each (probe.effect) are waiting. One whopline-probe begins, seven
more join it when a quarter is done, and six of the eight are told to end (SIGTERM) when three
quarters are. Every job must have its effect exactly once. README.md beside this file says how to
read it.
"""
import argparse
import signal
import time

from lib import probe, report
from lib.place import open_place
from lib.processes import stop_well, wait_for

COLUMNS = (("processes", 11, 0), ("seconds", 10, 2), ("jobs/s", 9, 0), ("longest gap ms", 16, 1))
PATIENCE_S = 300


def until_left(redis, count):
    wait_for(lambda: probe.left(redis) <= count, f"a backlog of {count}", PATIENCE_S, 0.005)


def measure_round(place, redis, options):
    count, workers = options.jobs, []
    probe.clear(redis, place.database)
    probe.preload(redis, place.database, "probe.effect", count)
    place.database.rest()
    env = probe.environment(redis, place.database, SLOTS=options.slots)

    def begin(how_many):
        for _ in range(how_many):
            workers.append(probe.start_probe(place.folder, len(workers), env))

    began = time.time()
    begin(1)
    until_left(redis, count * 3 // 4)
    joined = time.time()
    begin(7)
    until_left(redis, count // 4)
    leaving = time.time()
    for process, _ in workers[:6]:
        process.send_signal(signal.SIGTERM)
    for process, _ in workers[:6]:
        process.wait(40)
    left = time.time()
    until_left(redis, 0)
    for process, log in workers:
        stop_well(process, log)
    return look_at(probe.effects(place.database, count), {
        "one": (began, joined, 1), "seven more": (joined, leaving, 8), "six leave": (leaving, left, None),
        "two": (left, float("inf"), 2)})


def look_at(effects, phases):
    """Of each phase: processes, jobs a second, the longest time without an effect. A gap belongs to
    the phase it ends in."""
    result = {}
    for name, (begins, ends, processes) in phases.items():
        inside = [i for i, at in enumerate(effects) if begins <= at < ends]
        gaps = [effects[i] - effects[i - 1] for i in inside if i > 0]
        last = effects[inside[-1]] if inside else begins
        lasted = (last if ends == float("inf") else ends) - (effects[0] if begins <= effects[0] else begins)
        result[name] = {"processes": processes, "jobs": len(inside), "seconds": lasted, "gap_ms": max(gaps, default=0.0) * 1000,
                        "per_second": len(inside) / lasted if lasted > 0 else 0.0}
    return result


def show(rounds, options):
    print(f"{options.jobs:,} jobs, each with a transaction of its own, SLOTS {options.slots}; {len(rounds)} rounds: "
          f"medians, gaps: the longest of all. Every job had its effect once.\n")
    rows = [(name, [rounds[0][name]["processes"], *(report.median(r[name][key] for r in rounds)
                                                    for key in ("seconds", "per_second")),
                    max(r[name]["gap_ms"] for r in rounds)]) for name in rounds[0]]
    report.table(COLUMNS, rows)


def main():
    parser = argparse.ArgumentParser(prog="./dev bench scale")
    parser.add_argument("--jobs", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with open_place() as place, place.redis() as redis:
        probe.prepare(place, redis)
        rounds = [measure_round(place, redis, options) for _ in range(options.rounds)]
    show(rounds, options)
    report.finish(options, rounds)


if __name__ == "__main__":
    main()
