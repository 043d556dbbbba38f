"""Processes that are measured: started, looked at in /proc, ended by their number."""
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(os.environ.get("WHOPLINE_ROOT") or pathlib.Path(__file__).resolve().parents[3])
BIN = pathlib.Path(os.environ.get("WHOPLINE_BIN") or ROOT / "build/release/bin")
BENCH = pathlib.Path(os.environ.get("BENCH_BIN") or ROOT / "build/bench/bin")
DIES_WITH_US = ["setpriv", "--pdeathsig", "KILL"]
TICK = os.sysconf("SC_CLK_TCK")


def start(argv, log, env=None):
    with open(log, "ab") as out:
        return subprocess.Popen([*DIES_WITH_US, *map(str, argv)], stdin=subprocess.DEVNULL, stdout=out,
                                stderr=out, env=env or os.environ)


def stop(process):
    process.send_signal(signal.SIGTERM)
    return process.wait(40)


def run(argv, timeout, env=None):
    """What a program that must succeed has printed."""
    done = subprocess.run([*DIES_WITH_US, *map(str, argv)], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=timeout, env=env, check=False)
    if done.returncode != 0:
        sys.exit(f"{os.path.basename(str(argv[0]))}: {done.stderr or done.stdout}")
    return done.stdout


def end_of(log):
    with open(log, encoding="utf-8", errors="replace") as file:
        return "".join(file.readlines()[-20:])


def wait_for(check, what, seconds=20, every=0.05):
    """The first true value of check()."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        value = check()
        if value:
            return value
        time.sleep(every)
    sys.exit(f"{what}: not within {seconds} s")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def family_cpu_seconds(pid):
    """Of a process, its children, and those that have ended (to 10 ms): PostgreSQL is a family."""
    total = cpu_seconds(pid)
    for child in children_of(pid):
        try:
            total += cpu_seconds(child)
        except OSError:  # has just ended, and is among the ended from now on
            pass
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        user, system = file.read().rsplit(")", 1)[1].split()[13:15]
    return total + (int(user) + int(system)) / TICK


def memory_mib(pid):
    """(most that was ever resident, anonymous now)"""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        values = dict(line.split(":", 1) for line in file)
    return tuple(int(values[name].split()[0]) / 1024 for name in ("VmHWM", "RssAnon"))


def busy_seconds():
    """CPU time of the whole machine so far, all cores (to 10 ms)."""
    with open("/proc/stat", encoding="ascii") as file:
        values = list(map(int, file.readline().split()[1:9]))
    return (sum(values) - values[3] - values[4]) / TICK


def start_whopline(path, log, env):
    """One of our workers, working. The log begins anew."""
    open(log, "wb").close()
    process = start([path], log, env)
    wait_for(lambda: "working" in open(log, encoding="utf-8").read() or process.poll() is not None, path)
    if process.poll() is not None:
        sys.exit(f"{path} has ended\n{end_of(log)}")
    return process


def stop_well(process, log):
    """It must end with 0."""
    status = stop(process)
    if status != 0:
        sys.exit(f"{process.args[-1]} has ended with {status}\n{end_of(log)}")
