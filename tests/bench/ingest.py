"""What a webhook costs: ./dev bench ingest [--rounds N] [--seconds S] [--connections N]

In one run, round by round and one after the other, with the same body, load and private Redis (AOF,
fsync always):

    bare libuv   a server that reads the POST and answers 200, nothing else
    Redis alone  the ACCEPT script from one connection in batches: the ceiling behind ingest
    bare accept  epoll, one HMAC, ACCEPT, 200: the least that keeps ingest's promise
    ingest       the released whopline-ingest

README.md beside this file says how to read it.
"""
import argparse
import json
import os

from lib.payments import SECRET, recorded_payment, write_body
from lib.place import open_folder
from lib.processes import (BENCH, BIN, cpu_seconds, end_of, free_port, is_ready, listens, run, start,
                           stop, wait_for)
from lib.report import median, ratio
from lib.stores import Redis

COUNT_PER_SECOND = 60_000          # signed beforehand for each second: more than any round needs


def loadgen(port, options, body):
    seconds = options.seconds
    result = json.loads(run([BENCH / "bench_loadgen", port, options.connections, COUNT_PER_SECOND * seconds,
                             seconds, SECRET, body], seconds + 60))
    if result["ok"] != result["answered"]:
        raise SystemExit(f"{result['answered'] - result['ok']} of {result['answered']} answers were not 200")
    return result


def measure(pid, redis, work):
    """A run's result with the CPU a request cost the process (pid 0: none) and Redis."""
    redis.clear()
    before = cpu_seconds(pid) if pid else 0.0, cpu_seconds(redis.pid)
    result = work()
    after = cpu_seconds(pid) if pid else 0.0, cpu_seconds(redis.pid)
    result["cpu_us"] = (after[0] - before[0]) / result["answered"] * 1e6
    result["redis_us"] = (after[1] - before[1]) / result["answered"] * 1e6
    result["accepts"] = redis.client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
    return result


class Bench:
    def __init__(self, folder, options):
        self.options = options
        body = recorded_payment()
        self.body = write_body(folder, body)
        self.redis = Redis(folder)
        self.port, self.bare_port, self.least_port, private = (free_port() for _ in range(4))
        self.bare = start([BENCH / "bench_bare_uv", self.bare_port], f"{folder}/bare.log")
        self.least = start([BENCH / "bench_bare_accept", self.least_port, self.redis.socket, SECRET],
                           f"{folder}/least.log")
        env = {"PATH": os.environ["PATH"], "REDIS_URL": f"unix://{self.redis.socket}",
               "WHOP_WEBHOOK_SECRET": SECRET, "WHOP_COMPANY_ID": body["company_id"], "LOG_LEVEL": "warning",
               "HTTP_LISTEN": f"127.0.0.1:{self.port}", "PRIVATE_LISTEN": f"127.0.0.1:{private}"}
        self.log = f"{folder}/ingest.log"
        self.ingest = start([BIN / "whopline-ingest"], self.log, env)
        wait_for(lambda: listens(self.bare_port), "bare_uv")
        wait_for(lambda: listens(self.least_port), "bare_accept")
        wait_for(lambda: is_ready(private), "whopline-ingest")

    def ceiling(self):
        options = self.options
        return json.loads(run([BENCH / "bench_redis_ceiling", self.redis.socket, options.batch, 10_000_000,
                               options.seconds, self.body], options.seconds + 60))

    def round(self):
        """Results by name, in the order of the report."""
        servers = {"bare libuv": (self.bare, self.bare_port), "bare accept": (self.least, self.least_port),
                   "ingest": (self.ingest, self.port)}
        result = {"Redis alone": measure(0, self.redis, self.ceiling)}
        for name, (process, port) in servers.items():
            result[name] = measure(process.pid, self.redis, lambda p=port: loadgen(p, self.options, self.body))
        if result["ingest"]["accepts"] < result["ingest"]["answered"]:
            raise SystemExit("ingest acknowledged what it has not given to Redis")
        return result

    def close(self):
        codes = [stop(it) for it in (self.ingest, self.least, self.bare, self.redis.process)]
        if codes[0] != 0:
            raise SystemExit(f"whopline-ingest ended with {codes[0]}\n{end_of(self.log)}")


COLUMNS = (("rps", "req/s", 9, 0), ("cpu_us", "CPU us/req", 12, 2), ("p50_us", "p50 us", 9, 0),
           ("p99_us", "p99 us", 9, 0), ("redis_us", "Redis us/req", 14, 2))


def report(rounds, bench):
    options = bench.options
    print(f"{options.connections} connections, body {bench.body.stat().st_size} bytes, {len(rounds)} rounds of "
          f"{options.seconds} s, medians; Redis alone in batches of {options.batch}; load, server and Redis "
          f"share {os.cpu_count()} cores\n")
    print(f"{'':13}" + "".join(f"{title:>{width}}" for _, title, width, _ in COLUMNS))
    for name in ("bare libuv", "Redis alone", "bare accept", "ingest"):
        line = f"{name:13}"
        for key, _, width, digits in COLUMNS:
            value = median(r[name].get(key, 0) for r in rounds)
            line += f"{value:{width}.{digits}f}" if value >= 0.05 else " " * width
        print(line)
    print()
    for name in ("bare libuv", "bare accept"):
        ratio(f"ingest / {name}, CPU a request", [(r["ingest"]["cpu_us"], r[name]["cpu_us"]) for r in rounds])
    ratio("ingest / Redis alone, requests a second", [(r["ingest"]["rps"], r["Redis alone"]["rps"]) for r in rounds])


def main():
    parser = argparse.ArgumentParser(prog="./dev bench ingest")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    with open_folder() as folder:
        bench = Bench(folder, options)
        rounds = []
        for number in range(options.rounds + 1):
            result = bench.round()
            if number > 0:  # the first one warms caches and is thrown away
                rounds.append(result)
        report(rounds, bench)
        bench.close()


if __name__ == "__main__":
    main()
