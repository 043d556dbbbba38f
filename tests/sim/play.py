"""The buyer, the bank and Whop's webhooks, for whoever tries whopline out: play.py ACTION ORDER

    pay       the buyer pays at the checkout
    settle    the refunds that were asked for have succeeded
    dispute   the buyer's bank takes the payment back: a dispute is opened
    win       the dispute is decided for the seller
    lose      the dispute is decided for the buyer

Looks the order up, tells the simulator what has happened at Whop, and sends the event as Whop would:
the object as its API shows it, signed, through ingest. `./dev whop` runs it with the settings of `./dev up`.
"""
import argparse
import datetime
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid

VERSION = "2026-07-20"  # objects are nested, as in most webhooks
OPEN = ("needs_response", "under_review")
REFUND_S = 5   # the worker asks for a refund shortly after the command for it has ended
OUTCOME_S = 10
LOCAL = ("http://127.0.0.1:", "http://localhost:")


class Refused(Exception):
    """What cannot be, in words for the person at the terminal."""


def now(days=0):
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def eventually(look, seconds):
    """What look() says as soon as it says anything, or else what it says in the end."""
    ends = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < ends:
        time.sleep(0.1)
    return found


def whopline(*words, body=None):
    """What a command says with --json."""
    try:
        done = subprocess.run(["whopline", *words, "--json"], input=body, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Refused("there is no program whopline in PATH: ./dev whop ... sees to it") from None
    if done.returncode != 0:
        raise Refused(done.stderr.strip().removeprefix("whopline: ") or f"whopline {words[0]} has failed")
    return json.loads(done.stdout)


class Simulator:
    """Whop as it is here. Refuses to be anything but the simulator."""

    def __init__(self):
        self.api, self.key = os.environ.get("WHOP_API_URL", ""), os.environ.get("WHOP_API_KEY", "")
        if not self.api.startswith(LOCAL) or self.key != "apik_sim":
            raise Refused("calls do not go to the simulator here, and nobody is played at the real Whop: "
                          "run ./dev up without WHOP_API_KEY and WHOP_API_URL")
        self.control = self.api.removesuffix("/api/v1") + "/_sim"

    def request(self, url, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Authorization": f"Bearer {self.key}", "Api-Version-Date": VERSION})
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Refused(f"the simulator refuses: {error.read().decode('utf-8', 'replace')}") from None
        except OSError as error:
            raise Refused(f"the simulator does not answer ({error}): does ./dev up run?") from None

    def all(self, kind):
        return self.request(f"{self.control}/state")["whop"][kind]

    def put(self, kind, **it):
        return self.request(f"{self.control}/state", {"whop": {kind: [it]}})["whop"][kind][0]

    def make(self, kind, **like):
        return self.request(f"{self.control}/many", {"kind": kind, "count": 1, "like": like})["ids"][0]

    def shown(self, kind, key):
        return self.request(f"{self.api}/{kind}/{key}")


class Play:
    def __init__(self, order):
        self.sim, self.order = Simulator(), self.look(order)
        self.checkout = self.sim.all("checkout_configurations").get(self.order["whop_checkout_id"])
        if self.order["whop_checkout_id"] is None:
            raise Refused(f"the order is {self.order['state']} and has no checkout at Whop"
                          + (f": whopline orders convert {order}" if self.order["state"] == "requested" else ""))
        if self.checkout is None:
            raise Refused(f"the simulator does not know {self.order['whop_checkout_id']}: it was started afresh since. "
                          "Make another plan and order, as README.md says")

    @staticmethod
    def look(order):
        found = whopline("orders", "show", order)
        if not found:
            raise Refused(f"there is no order {order}: whopline orders")
        return found[0]

    # ---- what happens at Whop

    def payment(self):
        """The one that was made at the order's checkout."""
        return next((it for it in self.sim.all("payments").values()
                     if it["checkout_configuration_id"] == self.checkout["id"] and it["status"] == "paid"), None)

    def paid(self):
        payment = self.payment()
        if payment is None:
            raise Refused(f"the order is not paid: ./dev whop pay {self.order['id']}")
        return payment

    def pay(self):
        known = self.payment()
        if known:
            raise Refused(f"the order is paid already: {known['id']}")
        plan, user = self.sim.all("plans").get(self.checkout["plan"], {}), self.order["user_id"]
        price, currency, at = self.order["price"], self.order["currency"], now()
        if price is None:
            price = max(plan["initial_price"], plan["renewal_price"], key=float)
            currency = plan["currency"]
        if user not in self.sim.all("users"):
            self.sim.put("users", id=user)
        reason = "subscription_create" if plan.get("plan_type") == "renewal" else "one_time"
        made = self.sim.make("payments", user=user, plan=self.checkout["plan"], product=plan.get("product"), total=price,
                             subtotal=price, usd_total=price, currency=currency, billing_reason=reason,
                             metadata=self.checkout["metadata"], checkout_configuration_id=self.checkout["id"],
                             created_at=at, updated_at=at, paid_at=at)
        self.tell("payment.succeeded", "payments", made, f"{user} has paid {price} {currency}: {made}")

    def settle(self):
        payment = self.paid()

        def pending():
            return [it for it in self.sim.all("refunds").values()
                    if it["payment"] == payment["id"] and it["status"] == "pending"]
        refunds = eventually(pending, REFUND_S)
        if not refunds:
            raise Refused(f"no refund of {payment['id']} waits: whopline orders refund {self.order['id']}"
                          " --amount 1.00 --reason WHY --yes asks for one")
        for refund in refunds:
            self.sim.put("refunds", id=refund["id"], status="succeeded")
            self.tell("refund.updated", "refunds", refund["id"],
                      f"{refund['amount']} {refund['currency']} are back with the buyer: {refund['id']}")

    def open_dispute(self, payment):
        return next((it for it in self.sim.all("disputes").values()
                     if it["payment"] == payment["id"] and it["status"] in OPEN), None)

    def dispute(self):
        payment = self.paid()
        known = self.open_dispute(payment)
        if known:
            raise Refused(f"{payment['id']} is disputed already: ./dev whop win (or lose) {self.order['id']}")
        left = f"{float(payment['total']) - float(payment['refunded_amount']):.3f}".rstrip("0").rstrip(".")
        if left == "0":
            raise Refused(f"{payment['id']} is refunded: there is nothing left to dispute")
        made = self.sim.put("disputes", payment=payment["id"], amount=left, currency=payment["currency"],
                            created_at=now(), needs_response_by=now(days=7))
        self.sim.put("payments", id=payment["id"], substatus="dispute_needs_response", updated_at=now())
        self.tell("dispute.created", "disputes", made["id"], f"the bank disputes {left} {made['currency']}: {made['id']}")

    def end_dispute(self, status):
        payment = self.paid()
        known = self.open_dispute(payment)
        if known is None:
            raise Refused(f"no dispute of {payment['id']} is open: ./dev whop dispute {self.order['id']}")
        self.sim.put("disputes", id=known["id"], status=status, editable=False)
        self.sim.put("payments", id=payment["id"], substatus=f"dispute_{status}", updated_at=now())
        self.tell("dispute.updated", "disputes", known["id"], f"the dispute is {status}: {known['id']}")

    def win(self):
        self.end_dispute("won")

    def lose(self):
        self.end_dispute("lost")

    # ---- what Whop tells of it, and what comes of that

    def tell(self, event, kind, key, happened):
        print(f"at Whop: {happened}")
        body = {"id": f"msg_{uuid.uuid4().hex[:20]}", "api_version": "v1", "timestamp": now(), "type": event,
                "company_id": self.checkout["company"], "data": self.sim.shown(kind, key)}
        try:
            sent, = whopline("send", event, "--from", "-", body=json.dumps(body))
        except Refused as refused:
            raise Refused(f"{event} did not get through to ingest: {refused}. Whop would send it again;"
                          " here it is found by the next look at Whop's books") from None
        print(f"sent:    {event} ({sent['event']})")
        eventually(lambda: self.has_ended(sent["event"]), OUTCOME_S)
        self.tell_outcome(sent["event"])

    @staticmethod
    def has_ended(event):
        try:
            return whopline("events", "show", event)["event"]["progress"] != "running"
        except Refused:  # the journal has not read it yet
            return False

    def tell_outcome(self, event):
        before, self.order = self.order, self.look(self.order["id"])
        news = [step["to_state"] for step in self.order["history"][len(before["history"]):]]
        try:
            outcome = whopline("events", "show", event)["event"]["outcome"]
        except Refused:
            outcome = "the journal has not read it yet: do all processes run?"
        print(f"here:    {outcome}")
        print(f"order:   {' -> '.join([before['state'], *news]) if news else 'still ' + self.order['state']}")


def main():
    actions = ("pay", "settle", "dispute", "win", "lose")
    parser = argparse.ArgumentParser(prog="./dev whop", usage=f"./dev whop {'|'.join(actions)} ORDER")
    parser.add_argument("action", choices=actions, metavar="ACTION")
    parser.add_argument("order", metavar="ORDER", help="as whopline orders shows it")
    given = parser.parse_args()
    try:
        getattr(Play(given.order), given.action)()
    except Refused as refused:
        print(f"{parser.prog}: {refused}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
