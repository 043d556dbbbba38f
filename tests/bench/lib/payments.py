"""Signed payments through the whole pipeline: ingest, journal, credits and the ledger."""
import json
import pathlib

from lib.processes import (BENCH, BIN, ROOT, end_of, free_port, is_ready, run, start, start_whopline, stop_well,
                           wait_for)
from lib.probe import environment
from lib.stores import COMPANY

SECRET = "ws_" + "0123456789abcdef" * 4
MARK = "@ID@@@@@@@@@@@@@@@@@@@@@"  # as in loadgen.c
PLAN, CREDITS = "plan_T3stMonthly01", 500
WORKERS = ("journal", "credits", "scheduler")


def recorded_payment():
    """The body as it was recorded, with a place for the event's id."""
    bodies = json.loads((ROOT / "tests/vectors/whop-events.json").read_text(encoding="utf-8"))
    body = next(b["body"] for b in bodies if (b["generation"], b["event"]) == ("v1", "payment.succeeded"))
    return {**body, "id": MARK}


def write_body(folder, body):
    path = pathlib.Path(folder) / "body.json"
    path.write_bytes(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode())
    return path


class Pipeline:
    """The released programs, as in the Procfile. Every payment is another one, of another buyer."""

    def __init__(self, place, redis, slots):
        body = recorded_payment()
        body["company_id"] = body["data"]["company"]["id"] = COMPANY
        body["data"]["id"], body["data"]["user"]["id"] = "pay_" + MARK, "user_" + MARK
        self.body, self.folder, self.database = write_body(place.folder, body), place.folder, place.database
        self.port, private = free_port(), free_port()
        self.database.sql("""INSERT INTO whop_plans (tenant_id, whop_plan_id, plan_name, credits_amount)
                             SELECT id, %s, 'Bench', %s FROM tenants WHERE whop_company_id = %s""",
                          (PLAN, CREDITS, COMPANY))
        env = environment(redis, place.database, SLOTS=slots, WHOP_WEBHOOK_SECRET=SECRET, WHOP_COMPANY_ID=COMPANY,
                          HTTP_LISTEN=f"127.0.0.1:{self.port}", PRIVATE_LISTEN=f"127.0.0.1:{private}")
        self.processes = [(start_whopline(BIN / f"whopline-{name}", self.log(name), env), self.log(name))
                          for name in WORKERS]
        ingest = start([BIN / "whopline-ingest"], self.log("ingest"), env)
        self.processes.insert(0, (ingest, self.log("ingest")))
        wait_for(lambda: is_ready(private) or ingest.poll() is not None, "whopline-ingest")
        if ingest.poll() is not None:
            raise SystemExit(f"whopline-ingest has ended\n{end_of(self.log('ingest'))}")

    def log(self, name):
        return f"{self.folder}/{name}.log"

    def send(self, count, per_second, connections, seconds):
        """(what the load generator says, {event's id: when it was due, Unix us}). per_second 0: as
        fast as answers come."""
        times = f"{self.folder}/times"
        said = json.loads(run([BENCH / "bench_loadgen", self.port, connections, count, seconds, SECRET, self.body,
                               per_second, times], seconds + 60))
        if not said["ok"] == said["answered"] == count:
            raise SystemExit(f"of {count} payments {said['answered']} were answered, {said['ok']} with 200")
        with open(times, encoding="ascii") as file:
            return said, {f"default/{name}": int(due) for name, due in map(str.split, file)}

    def wait_granted(self, count, seconds):
        """Until the ledger has so many rows in all."""
        wait_for(lambda: self.database.sql("SELECT count(*) FROM credit_transactions")[0][0] >= count,
                 f"{count} grants", seconds, 0.2)

    def close(self):
        for process, log in self.processes:
            stop_well(process, log)
