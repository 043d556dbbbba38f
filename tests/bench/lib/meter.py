"""What a stretch of work cost: CPU of those who took part, and what went to others meanwhile."""
import os
import time

from lib.processes import busy_seconds


class Meter:
    """parties: name -> function that says the CPU seconds it has used so far."""

    def __init__(self, **parties):
        self.parties = parties

    def look(self):
        return {"at": time.time(), "busy": busy_seconds(),
                **{name: cpu() for name, cpu in self.parties.items()}}

    def between(self, first, last, jobs):
        """jobs: how many were done meanwhile."""
        elapsed = last["at"] - first["at"]
        used = {name: last[name] - first[name] for name in self.parties}
        others = last["busy"] - first["busy"] - sum(used.values())
        return {"jobs": jobs, "per_second": jobs / elapsed, "others": max(0.0, others) / elapsed / os.cpu_count(),
                **{f"{name}_us": seconds / jobs * 1e6 for name, seconds in used.items()}}
