"""The crash campaign: ./dev chaos. README.md beside this file says what it does and what it means.

    campaign.py [--seed N | --seeds K | --minutes M] [--from N] [--jobs N] [--payments N] [--record]
    campaign.py --mutants [NAME...]
"""
import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]

# pylint: disable=wrong-import-position
import checks
import conftest
import faults
import harness
import load
import results
import world as world_module

# Beyond harness.SETTINGS. What a statement or a job may take is short, so that what hangs is met;
# RELAY_STALE_MS is not: a row that nobody relays must not be found by that net only.
SETTINGS = {
    "SLOTS": 4, "CANCEL_GRACE_MS": int(500 * harness.SLOW), "ACCEPT_TIMEOUT_MS": 700,
    "SHUTDOWN_GRACE_MS": 3000, "RELAY_STALE_MS": 600000, "RELAY_SWEEP_MS": 150,
    "SCHEDULES_ENABLED": "off",
    "HTTP_TIMEOUT_MS": int(600 * harness.SLOW), "OUTBOUND_BEGIN_MS": int(1300 * harness.SLOW),
    "OUTBOUND_GRACE_MS": int(700 * harness.SLOW), "OUTBOUND_VERIFY_MS": 200, "OUTBOUND_FREEZE_MS": 300,
    "BREAKER_FAILURES": 8, "BREAKER_WINDOW_MS": 2000, "BREAKER_OPEN_MS": 500,
    "MAX_RUN_MS": int(20000 * harness.SLOW), "REDIS_WATCH_MS": 200, "CONSUMER_IDLE_MS": int(3000 * harness.SLOW),
}
DRAIN_S = 60
PORTIONS = 12


class Seed:
    """One round: its world, its load and its faults."""

    def __init__(self, number, args, cluster, template, source=harness.ROOT, bin_dir=harness.BIN, bias=None):
        bias = bias or {}
        self.number, self.lasts_s, self.began = number, args.lasts, time.monotonic()
        self.world = world_module.World(cluster, template, bin_dir, source, {**SETTINGS, **bias.get("settings", {})})
        self.events = load.Events(load.random_of(number, "events"), args.payments)
        has_probe = bool(self.world.of_kind("probe"))
        self.jobs = load.Jobs(load.random_of(number, "jobs"), args.jobs if has_probe else 0)
        self.senders = self.chaos = None
        self.bias, self.source, self.violations = bias, source, []
        self.tenant = 0

    def run(self):
        world = self.world
        for plan, credits in load.PLANS.items():
            world.sql("""INSERT INTO whop_plans (tenant_id, whop_plan_id, plan_name, credits_amount)
                         SELECT id, %s, %s, %s FROM tenants""", (plan, plan, credits))
        self.tenant, = world.sql("SELECT id FROM tenants")[0]
        world.note(f"seed {self.number}")
        # Events and jobs are there before the first worker is.
        for one in world.of_kind("journal", "credits", "members", "mail", "probe"):
            one.start_at = time.monotonic() + 1
        world.tick()
        self.senders = load.Senders(world.http_port, self.events, self.lasts_s * 0.9 * harness.SLOW,
                                    world.folder / "acknowledged.txt")
        try:
            self.storm()
            self.settle()
        finally:
            self.senders.stop()

    def storm(self):
        self.chaos = faults.Chaos(self.world, self.number, self.lasts_s, self.source,
                                  self.bias)
        portions = [part for part in self.jobs.portions(PORTIONS) if part]
        pause = self.lasts_s * 0.8 * harness.SLOW / PORTIONS
        next_at, ends = time.monotonic(), time.monotonic() + self.lasts_s * harness.SLOW
        while time.monotonic() < ends:
            if portions and time.monotonic() >= next_at and self.put(portions[0]):
                portions.pop(0)
                next_at += pause
            self.chaos.tick()
            self.world.tick()
            time.sleep(0.02)
        self.world.calm()
        for part in portions:
            harness.eventually(lambda part=part: self.put(part), 20)
        self.senders.hurry()

    def put(self, part):
        """False while a store is away; then it is repeated as a whole."""
        try:
            load.put_rows(self.world.db(), part)
            load.put_volatile(self.world.impatient, part, self.tenant)
        except checks.STORE_AWAY:
            self.world.forget_db()
            return False
        return True

    def settle(self):
        self.say(checks.drain(self, DRAIN_S * harness.SLOW))
        settled = not self.violations
        self.say(checks.events(self))
        self.say(checks.money(self))
        self.say(checks.jobs(self))
        self.say(checks.calls(self))
        if settled:
            self.say(checks.residue(self))
            self.say(checks.agreement(self))
            self.say(checks.deaf(self))
            self.say(checks.drain(self, DRAIN_S * harness.SLOW))
        procs = self.world.finish()
        if settled:
            self.say(checks.residue(self))
        self.violations += self.world.problems
        self.say(checks.logs(self, procs, world_module.PROVOKED))

    def say(self, found):
        for text in found:
            self.world.note(f"VIOLATION {text}")
            self.violations.append(text)

    def line(self):
        w = self.world
        return results.Line(
            seed=self.number, jobs=self.jobs.total(), events=len(self.events.event_ids),
            calls=sum(job.kind in checks.KIND_OF for job in self.jobs.all), parked=results.total(w.counts, "parked"),
            deaths=dict(sorted(w.deaths.items())), redis=results.total(w.counts, "redis"),
            postgres=results.total(w.counts, "postgres", "backends"),
            network=results.total(w.counts, "cut", "reply", "repl", "stall", "refuse"),
            forced=dict(w.forced), seconds=time.monotonic() - self.began, violations=len(self.violations))


@contextlib.contextmanager
def stores():
    """A PostgreSQL of our own that may be killed, and a database to copy from."""
    cluster = harness.Cluster(durable=True)
    try:
        name = "template_chaos"
        link = harness.connect(cluster.folder)
        os.environ.setdefault("WHOPLINE_TEST_RUN", "chaos")
        conftest.make_template(link.cursor(), name, cluster.folder)
        link.close()
        yield cluster, name
    finally:
        cluster.stop()


def run_seed(number, args, cluster, template, **how):
    """The seed after its end; its folder is kept in args.keep if it has a violation."""
    seed = Seed(number, args, cluster, template, **how)
    try:
        seed.run()
    except AssertionError as error:
        seed.violations.append(f"the campaign itself could not go on: {error}")
        seed.world.finish()
    except BaseException:
        seed.world.finish()
        seed.world.close()
        raise
    if seed.violations and args.keep:
        keep(seed, args.keep)
    seed.lines = seed.world.history.lines
    seed.world.close()
    return seed


def keep(seed, folder):
    to = pathlib.Path(folder) / f"seed-{seed.number}"
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(seed.world.folder, to, ignore=lambda path, names: [
        name for name in names if not name.endswith((".log", ".txt"))])
    (to / "violations.txt").write_text("\n\n".join(seed.violations) + "\n", encoding="utf-8")


def tell(seed, args):
    print(f"\nseed {seed.number}: {len(seed.violations)} violation(s)")
    for text in seed.violations:
        print(f"  VIOLATION {text}")
    print("  the end of its history:")
    shown = [line for line in seed.lines if "VIOLATION" not in line][-args.history:]
    for line in shown:
        print(f"    {line}")
    if args.keep:
        print(f"  all of it, with the processes' logs: {args.keep}/seed-{seed.number}/")
    print(f"  again, with the same decisions: ./dev chaos --seed {seed.number}\n", flush=True)


def numbers(args):
    """The seeds to run, one after the other."""
    if args.seed is not None:
        yield args.seed
        return
    ends = time.monotonic() + args.minutes * 60 if args.minutes else None
    number = args.first
    while (ends is None and number < args.first + args.seeds) or (ends and time.monotonic() < ends):
        yield number
        number += 1


def campaign(args):
    print(results.HEAD, flush=True)
    lines, failed = [], False
    with stores() as (cluster, template):
        for number in numbers(args):
            seed = run_seed(number, args, cluster, template)
            line = seed.line()
            lines.append(line)
            print(line.text(), flush=True)
            if seed.violations:
                failed = True
                tell(seed, args)
    known = [name for name, action in faults.points(harness.ROOT) if action == "kill"]
    print(results.summary(lines, known))
    if args.record:
        results.record(HERE / "README.md", lines, known, version())
    return 1 if failed else 0


def version():
    done = subprocess.run(["git", "-C", harness.ROOT, "rev-parse", "--short", "HEAD"],
                          capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def arguments(argv):
    parser = argparse.ArgumentParser(prog="./dev chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, help="this seed only")
    parser.add_argument("--seeds", type=int, default=5, help="so many (%(default)s)")
    parser.add_argument("--from", dest="first", type=int, default=1, help="the first one (%(default)s)")
    parser.add_argument("--minutes", type=float, default=0, help="seeds until this time is over")
    parser.add_argument("--jobs", type=int, default=5000, help="jobs of a seed (%(default)s)")
    parser.add_argument("--payments", type=int, default=500, help="payments of a seed (%(default)s)")
    parser.add_argument("--lasts", type=float, default=28, help="seconds of chaos of a seed (%(default)s)")
    parser.add_argument("--history", type=int, default=40, help="lines of history shown with a violation")
    parser.add_argument("--keep", default=str(harness.ROOT / ".dev/chaos"), help="where violations are kept")
    parser.add_argument("--record", action="store_true", help="write the results into tests/chaos/README.md")
    parser.add_argument("--mutants", nargs="*", metavar="NAME", help="the planted mutants instead, or these of them")
    return parser.parse_args(argv)


def interrupted(number, _):
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)  # it is cleaning up
    # Not KeyboardInterrupt: psycopg2 makes a cancelled statement of that.
    raise SystemExit(128 + number)


def main(argv=None):
    args = arguments(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    if args.mutants is not None:
        import mutants  # pylint: disable=import-outside-toplevel
        return mutants.run(args, stores, run_seed)
    return campaign(args)


if __name__ == "__main__":
    sys.exit(main())
