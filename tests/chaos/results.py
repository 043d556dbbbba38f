"""One line per seed, their sum, and the table in README.md."""
import dataclasses
import datetime
import re

COLUMNS = (("seed", 5), ("jobs", 6), ("events", 6), ("calls", 5), ("parked", 6), ("deaths", 45), ("Redis", 5), ("PG", 4), ("net", 4),
           ("points forced", 13), ("s", 5), ("violations", 10))
HEAD = "  ".join(name.ljust(width) for name, width in COLUMNS)
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def total(counts, *parts):
    return sum(count for name, count in counts.items() if any(part in name for part in parts))


def short(counts):
    return " ".join(f"{name} {count}" for name, count in counts.items()) or "none"


@dataclasses.dataclass
class Line:
    """What one seed was."""
    seed: int
    jobs: int
    events: int
    calls: int     # to the outside
    parked: int    # of these, for a person
    deaths: dict   # by kind of process
    redis: int     # faults of Redis itself
    postgres: int
    network: int   # of the proxies
    forced: dict   # by fault point
    seconds: float
    violations: int

    def cells(self):
        return (self.seed, self.jobs, self.events, self.calls, self.parked, short(self.deaths), self.redis, self.postgres, self.network,
                sum(self.forced.values()), f"{self.seconds:.0f}", self.violations)

    def text(self):
        return "  ".join(str(cell).ljust(width) for cell, (_, width) in zip(self.cells(), COLUMNS))


def add(dicts):
    found = {}
    for one in dicts:
        for name, count in one.items():
            found[name] = found.get(name, 0) + count
    return found


def summary(lines, points):
    deaths = add(line.deaths for line in lines)
    forced = add(line.forced for line in lines)
    never = [name for name in points if name not in forced]
    return "\n".join((
        f"{len(lines)} seeds, {sum(line.jobs for line in lines)} jobs, {sum(line.events for line in lines)} events, "
        f"{sum(line.seconds for line in lines) / 60:.1f} minutes",
        f"{sum(line.calls for line in lines)} calls to the outside, {sum(line.parked for line in lines)} of them parked",
        f"{sum(deaths.values())} deaths of processes ({short(dict(sorted(deaths.items())))}), "
        f"{sum(line.redis for line in lines)} faults of Redis, {sum(line.postgres for line in lines)} of PostgreSQL, "
        f"{sum(line.network for line in lines)} of the network",
        "fault points: " + ", ".join(f"{name} {forced.get(name, 0)}" for name in points),
        "never forced: " + (", ".join(never) or "none"),
        f"{sum(line.violations for line in lines)} violations"))


def record(path, lines, points, version):
    """Replaces the part of README.md between the two marks."""
    rows = ["| " + " | ".join(name for name, _ in COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    rows += ["| " + " | ".join(map(str, line.cells())) + " |" for line in lines]
    said = "\n\n".join(summary(lines, points).splitlines())
    block = f"{BEGIN}\n{datetime.date.today()}, commit {version}\n\n" + "\n".join(rows) + f"\n\n{said}\n{END}"
    text = path.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    path.write_text(pattern.sub(lambda _: block, text), encoding="utf-8")
