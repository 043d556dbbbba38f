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
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(os.environ.get("WHOPLINE_ROOT") or pathlib.Path(__file__).resolve().parents[2])
BIN = pathlib.Path(os.environ.get("WHOPLINE_BIN") or ROOT / "build/release/bin")
BENCH = pathlib.Path(os.environ.get("BENCH_BIN") or ROOT / "build/bench/bin")
SECRET = "ws_" + "0123456789abcdef" * 4
MARK = "@ID@@@@@@@@@@@@@@@@@@@@@"  # as in loadgen.c
COUNT_PER_SECOND = 60_000          # signed beforehand for each second: more than any round needs
DIES_WITH_US = ["setpriv", "--pdeathsig", "KILL"]


def start(argv, log, env=None):
    with open(log, "ab") as out:
        return subprocess.Popen([*DIES_WITH_US, *map(str, argv)], stdin=subprocess.DEVNULL, stdout=out,
                                stderr=out, env=env or os.environ)


def stop(process):
    process.send_signal(signal.SIGTERM)
    return process.wait(20)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(check, what):
    for _ in range(200):
        if check():
            return
        time.sleep(0.05)
    sys.exit(f"{what} did not start")


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_ready(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as link:
            link.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            return link.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def cpu_seconds(pid):
    """User and system time of all threads, in nanosecond steps (/proc/PID/stat has 10 ms ones)."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


class Redis:
    def __init__(self, folder):
        self.socket = f"{folder}/redis.sock"
        self.process = start(["redis-server", ROOT / "schema/redis.conf", "--port", "0", "--unixsocket",
                              self.socket, "--dir", folder], f"{folder}/redis.log")
        wait_for(lambda: os.path.exists(self.socket), "redis-server")

    def call(self, *words):
        out = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words)
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(30)
            link.connect(self.socket)
            link.sendall(out)
            reply = link.recv(65536)
            while reply[:1] == b"$" and len(reply) < int(reply[1:reply.index(b"\r")]):
                reply += link.recv(65536)
        return reply.decode(errors="replace")

    def commands(self):
        """How many ACCEPTs it has been given, and how many turns of its loop it took."""
        info = self.call("INFO", "everything")
        values = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
        calls = values.get("cmdstat_evalsha", "calls=0").split("calls=")[1].split(",")[0]
        return int(calls), int(values.get("eventloop_cycles", 0))

    def clear(self):
        self.call("FLUSHALL")
        self.call("CONFIG", "RESETSTAT")


def loadgen(port, options, body):
    seconds = options.seconds
    done = subprocess.run([BENCH / "bench_loadgen", str(port), str(options.connections),
                           str(COUNT_PER_SECOND * seconds), str(seconds), SECRET, body],
                          capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode != 0:
        sys.exit(f"loadgen, port {port}: {done.stderr}")
    result = json.loads(done.stdout)
    if result["ok"] != result["answered"]:
        sys.exit(f"{result['answered'] - result['ok']} of {result['answered']} answers were not 200")
    return result


def measure(pid, redis, run):
    """A run's result with the CPU a request cost the process (pid 0: none) and Redis."""
    redis.clear()
    before = cpu_seconds(pid) if pid else 0.0, cpu_seconds(redis.process.pid)
    result = run()
    after = cpu_seconds(pid) if pid else 0.0, cpu_seconds(redis.process.pid)
    result["cpu_us"] = (after[0] - before[0]) / result["answered"] * 1e6
    result["redis_us"] = (after[1] - before[1]) / result["answered"] * 1e6
    calls, _ = redis.commands()
    result["accepts"] = calls
    return result


def make_body(folder):
    """The recorded payment, with a place for the id."""
    bodies = json.loads((ROOT / "tests/vectors/whop-events.json").read_text(encoding="utf-8"))
    body = next(b["body"] for b in bodies if (b["generation"], b["event"]) == ("v1", "payment.succeeded"))
    body["id"] = MARK
    path = pathlib.Path(folder) / "body.json"
    path.write_bytes(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode())
    return path, path.stat().st_size, body["company_id"]


class Bench:
    def __init__(self, folder, options):
        self.options = options
        self.body, self.body_bytes, company = make_body(folder)
        self.redis = Redis(folder)
        self.port, self.bare_port, self.least_port, private = (free_port() for _ in range(4))
        self.bare = start([BENCH / "bench_bare_uv", self.bare_port], f"{folder}/bare.log")
        self.least = start([BENCH / "bench_bare_accept", self.least_port, self.redis.socket, SECRET],
                           f"{folder}/least.log")
        env = {"PATH": os.environ["PATH"], "REDIS_URL": f"unix://{self.redis.socket}",
               "WHOP_WEBHOOK_SECRET": SECRET, "WHOP_COMPANY_ID": company, "LOG_LEVEL": "warning",
               "HTTP_LISTEN": f"127.0.0.1:{self.port}", "PRIVATE_LISTEN": f"127.0.0.1:{private}"}
        self.ingest = start([BIN / "whopline-ingest"], f"{folder}/ingest.log", env)
        wait_for(lambda: listens(self.bare_port), "bare_uv")
        wait_for(lambda: listens(self.least_port), "bare_accept")
        wait_for(lambda: is_ready(private), f"whopline-ingest\n{open(f'{folder}/ingest.log').read()}")

    def ceiling(self):
        options = self.options
        done = subprocess.run([BENCH / "bench_redis_ceiling", self.redis.socket, str(options.batch),
                               "10000000", str(options.seconds), self.body], capture_output=True, text=True,
                              timeout=options.seconds + 60, check=False)
        if done.returncode != 0:
            sys.exit(f"redis_ceiling: {done.stderr}")
        return json.loads(done.stdout)

    def round(self):
        """Results by name, in the order of the report."""
        servers = {"bare libuv": (self.bare, self.bare_port), "bare accept": (self.least, self.least_port),
                   "ingest": (self.ingest, self.port)}
        result = {"Redis alone": measure(0, self.redis, self.ceiling)}
        for name, (process, port) in servers.items():
            result[name] = measure(process.pid, self.redis, lambda p=port: loadgen(p, self.options, self.body))
        if result["ingest"]["accepts"] < result["ingest"]["answered"]:
            sys.exit("ingest acknowledged what it has not given to Redis")
        return result

    def close(self):
        codes = [stop(it) for it in (self.ingest, self.least, self.bare, self.redis.process)]
        if codes[0] != 0:
            sys.exit(f"whopline-ingest ended with {codes[0]}")


COLUMNS = (("rps", "req/s", 9, 0), ("cpu_us", "CPU us/req", 12, 2), ("p50_us", "p50 us", 9, 0),
           ("p99_us", "p99 us", 9, 0), ("redis_us", "Redis us/req", 14, 2))


def ratio(rounds, key, name, other):
    values = sorted(r[name][key] / r[other][key] for r in rounds)
    what = {"cpu_us": "CPU a request", "rps": "requests a second"}[key]
    print(f"{name} / {other}, {what}: {statistics.median(values):.2f}  ({values[0]:.2f} to {values[-1]:.2f})")


def report(rounds, bench):
    options = bench.options
    print(f"{options.connections} connections, body {bench.body_bytes} bytes, {len(rounds)} rounds of "
          f"{options.seconds} s, medians; Redis alone in batches of {options.batch}; load, server and Redis "
          f"share {os.cpu_count()} cores\n")
    print(f"{'':13}" + "".join(f"{title:>{width}}" for _, title, width, _ in COLUMNS))
    for name in ("bare libuv", "Redis alone", "bare accept", "ingest"):
        line = f"{name:13}"
        for key, _, width, digits in COLUMNS:
            value = statistics.median(r[name].get(key, 0) for r in rounds)
            line += f"{value:{width}.{digits}f}" if value >= 0.05 else " " * width
        print(line)
    print()
    ratio(rounds, "cpu_us", "ingest", "bare libuv")
    ratio(rounds, "cpu_us", "ingest", "bare accept")
    ratio(rounds, "rps", "ingest", "Redis alone")


def main():
    parser = argparse.ArgumentParser(prog="./dev bench ingest")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="wl-bench-", dir="/tmp")
    try:
        bench = Bench(folder, options)
        rounds = []
        for number in range(options.rounds + 1):
            result = bench.round()
            if number > 0:  # the first one warms caches and is thrown away
                rounds.append(result)
        report(rounds, bench)
        bench.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
