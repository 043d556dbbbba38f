"""Defects planted on purpose: a campaign that does not find them proves nothing.

Each is a patch in mutants/, applied to a copy of the sources, built, and run with seeds until a check
fails. The schedule leans towards the faults that matter to it, or it would take many seeds; the
programs as they are must stand that very schedule, or it would not be the defect that was caught.
"""
import argparse
import dataclasses
import pathlib
import shutil
import subprocess
import tempfile

import harness

HERE = pathlib.Path(__file__).resolve().parent
SEEDS_MAX = 5
AS_IT_IS = harness.BIN
PROGRAMS = ("whopline", *(f"whopline-{kind}" for kind in ("ingest", "journal", "credits", "members", "mail", "probe", "scheduler")))


@dataclasses.dataclass
class Mutant:
    """One defect, and a schedule that gives it occasion. settings: a defect that needs no patch."""
    name: str
    bias: dict
    settings: dict = dataclasses.field(default_factory=dict)


MUTANTS = (
    # A death between the two: the event is nowhere, the job's row waits for nothing.
    Mutant("done_before_commit", {"only": ("kill_process", "force_point"),
                                  "force": ("before_pg_commit", "before_done")}),
    # What was there before the first worker is never read.
    Mutant("group_at_dollar", {"only": ("kill_process", "end_process", "flush_redis")}),
    # The reply to the first call is lost: the ids are neither delayed nor in the stream.
    Mutant("promote_in_two_calls", {"only": ("lose_reply", "end_backends", "kill_postgres"),
                                    "lose": ("PROMOTE",)}),
    # A death between the two: the row says that Redis has it. A new run_id of Redis would repair it.
    Mutant("mark_before_enqueue", {"only": ("force_point", "kill_process", "cut"),
                                   "force": ("before_enqueue",)}),
    # Whatever comes of a payment again grants it again.
    Mutant("granted_forgotten", {"only": ("kill_process", "force_point", "lose_reply")}),
    # A death after the first byte: the row still says that nothing has been sent.
    Mutant("sending_after_call", {"only": ("force_point", "kill_process", "spoil_calls"),
                                  "force": ("call_reply_lost", "before_pg_commit")}),
    # Redis loses events that the journal has not had yet, and nobody else has them.
    Mutant("no_ring", {"only": ("flush_redis", "kill_process", "stop_process", "kill_postgres")},
           {"RING_SECONDS": 0}),
)


def copy_sources(to):
    listed = subprocess.run(["git", "-C", harness.ROOT, "ls-files", "-z", "--cached", "--others",
                             "--exclude-standard"], check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (harness.ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(harness.ROOT / name, to / name)


def apply(source, mutant, *how):
    subprocess.run(["git", "apply", *how, HERE / "mutants" / f"{mutant.name}.patch"], cwd=source, check=True)


def build(source, mutant):
    """The programs only. The folder is kept from one mutant to the next: little is compiled twice."""
    if not (source / "build/dev/build.ninja").exists():
        done = subprocess.run(["cmake", "--preset", "dev"], cwd=source, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(done.stdout + done.stderr)
    done = subprocess.run(["cmake", "--build", "--preset", "dev", "--target", *PROGRAMS], cwd=source,
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}\nThe sources do not compile with {mutant.name}.patch any more: make it anew.")
    return source / "build/dev/bin"


def hunt(bias, source, bin_dir, seeds, run_one, stores):
    """(seed, the first violation), or None after so many seeds."""
    harness.BIN = bin_dir  # `whopline migrate` makes the database
    with stores() as (cluster, template):
        for number in range(1, seeds + 1):
            seed = run_one(number, cluster, template, source=source, bin_dir=bin_dir, bias=bias)
            if seed.violations:
                return number, seed.violations[0].splitlines()[0]
    return None


def try_one(mutant, source, run_one, stores):
    """True: it was caught, and nothing was without it."""
    innocent = hunt(mutant.bias, harness.ROOT, AS_IT_IS, 1, run_one, stores)
    if not mutant.settings:
        apply(source, mutant)
    found = hunt({**mutant.bias, "settings": mutant.settings}, source, build(source, mutant), SEEDS_MAX, run_one,
                 stores)
    if not mutant.settings:
        apply(source, mutant, "-R")
    print(f"{mutant.name:22} " + (f"caught in seed {found[0]}: {found[1][:160]}" if found else
                                  f"NOT CAUGHT in {SEEDS_MAX} seeds"), flush=True)
    if innocent:
        print(f"{'':22} WITHOUT IT, in seed {innocent[0]}: {innocent[1][:160]}", flush=True)
    return found is not None and innocent is None


def run(args, stores, run_seed):
    known = {mutant.name: mutant for mutant in MUTANTS}
    if unknown := [name for name in args.mutants if name not in known]:
        raise SystemExit(f"no such mutant: {', '.join(unknown)}; there are {', '.join(known)}")
    args = argparse.Namespace(**{**vars(args), "keep": ""})
    names, caught = args.mutants or list(known), 0

    def run_one(number, *where, **how):
        return run_seed(number, args, *where, **how)

    with tempfile.TemporaryDirectory(prefix="wl-mutants-") as folder:
        source = pathlib.Path(folder)
        copy_sources(source)
        for name in names:
            caught += try_one(known[name], source, run_one, stores)
    print(f"{caught} of {len(names)} caught, and only they")
    return 0 if caught == len(names) else 1
