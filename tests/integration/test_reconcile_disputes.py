"""Whop's disputes beside ours: those no event told of, those decided while nobody listened, and that what
is read never undoes what events have told."""
import datetime
import itertools
import random
import time

import pytest

import sim as simulator
import whop
from test_ledger import CATEGORY, History, TENANT, make_tenant, put_jobs
from test_orders import CREDITS, PLAN, PRICE, USER, Shop, fire

HALF = CREDITS // 2
DAY_S = 86_400
NO_READ = "payment:dispute:read"


class Court(Shop):
    """A shop whose buyers go to their banks."""

    def buys(self, payment="pay_1", **how):
        order = self.create()["order_id"]
        self.pay(order, payment, **how)
        if how.get("told", True):
            self.becomes(order, "credited", CREDITS)
        return order

    def disputed(self, status, dispute="dspt_1", payment="pay_1", substatus=None, **more):
        """At Whop, whose webhooks say nothing. substatus: the payment says so, too."""
        self.sim.put("disputes", {"id": dispute, "status": status, "payment": payment, "amount": PRICE,
                                  **({} if self.known(dispute) else {"created_at": ago(0)}), **more})
        if substatus:  # events of payments are made a second ahead
            self.sim.put("payments", {"id": payment, "substatus": substatus, "updated_at": ago(-2)})

    def known(self, dispute):
        return dispute in self.sim.state()["disputes"]

    def runs(self, status="success"):
        return self.stack.sql("SELECT count(*) FROM reconcile_runs WHERE kind = 'disputes' AND status = %s", (status,))[0][0]

    def look(self, status="success"):
        """One whole look at Whop's disputes, with the questions that follow from it."""
        before = self.runs(status)
        fire(self, "credits.disputes")
        self.stack.eventually(lambda: self.runs(status) > before and self.stack.sql(
            "SELECT count(*) FROM jobs WHERE state = 'queued' AND kind LIKE 'sync.%%disput%%'") == [(0,)], 30)

    def phase(self, dispute="dspt_1"):
        return self.stack.sql("SELECT phase FROM disputes WHERE whop_dispute_id = %s", (dispute,))

    def ledger(self, payment="pay_1"):
        return self.stack.sql("SELECT kind, credits FROM credit_transactions WHERE whop_payment_id = %s ORDER BY id", (payment,))

    def told_later(self, status, dispute="dspt_1", payment="pay_1", seconds=2):
        """An event whose time is well after (or before) what was read a moment ago."""
        body = whop.vector("v1", "dispute.updated")
        body.update(id=whop.new_id("msg"), timestamp=whop.iso(int(time.time()) + seconds))
        body["data"].update(id=dispute, status=status)
        body["data"]["payment"].update(id=payment)
        assert whop.send(self.stack, body) == 200


def ago(seconds):
    moment = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


@pytest.fixture
def court(stack, sim):
    return Court(stack, sim)


# ---- outages

def test_an_outage_from_payment_to_verdict(court):
    """Paid, refunded half, disputed, won, and not one webhook: the ledger ends as with all of them."""
    order = court.buys(told=False)
    fire(court, "credits.books")
    court.becomes(order, "credited", CREDITS)
    court.sim.put("payments", {"id": "pay_1", "refunded_amount": "3.75", "substatus": "partially_refunded",
                               "updated_at": ago(0)})
    fire(court, "credits.books")
    court.becomes(order, "partially_refunded", HALF)
    court.disputed("needs_response", substatus="dispute_needs_response")
    fire(court, "credits.disputes")
    court.becomes(order, "disputed", 0)
    court.disputed("won", substatus="dispute_won")
    fire(court, "credits.disputes")
    court.becomes(order, "partially_refunded", HALF)
    assert court.ledger() == [("topup", CREDITS), ("refund", -HALF), ("dispute_hold", -HALF), ("dispute_release", HALF)]
    assert court.stack.sql("SELECT audience FROM credit_notices WHERE kind = 'dispute' ORDER BY 1") == [("admin",), ("user",)]
    court.tell("payment.succeeded", "pay_1", order)  # and now they come after all
    court.tell_refund("rf_1", "pay_1", 3.75)
    court.told_later("needs_response", seconds=-60)
    court.told_later("won", seconds=-50)
    court.stack.eventually(lambda: court.stack.sql(
        "SELECT count(*) FROM jobs WHERE kind IN ('credits.refund', 'credits.dispute') AND state = 'done'") == [(3,)], 20)
    court.becomes(order, "partially_refunded", HALF)
    assert len(court.ledger()) == 4


def test_an_outage_in_which_all_of_it_happened(court):
    order = court.buys(told=False)
    court.disputed("lost", substatus="dispute_lost")
    fire(court, "credits.disputes")  # before the payment is known
    court.stack.eventually(lambda: court.phase() == [("lost",)], 20)
    assert court.balance() == 0
    fire(court, "credits.books")
    court.becomes(order, "reversed", 0)
    assert court.ledger() == [("topup", CREDITS), ("dispute_loss", -CREDITS)]


@pytest.mark.parametrize("end, state, balance", [("won", "credited", CREDITS), ("closed", "credited", CREDITS),
                                                 ("lost", "reversed", 0)])
def test_opened_in_one_outage_and_decided_in_another(court, end, state, balance):
    """Months later, when the list does not reach back to it: it is asked about alone."""
    order = court.buys()
    court.disputed("needs_response")
    court.look()
    court.becomes(order, "disputed", 0)
    assert court.sim.calls(operation="disputes.get") == []  # the list has had it
    court.disputed(end, created_at=ago(100 * DAY_S))
    court.look()
    court.becomes(order, state, balance)
    assert len(court.sim.calls(operation="disputes.get")) == 1
    court.look()
    assert len(court.sim.calls(operation="disputes.get")) == 1  # it is decided


def test_an_old_dispute_that_only_its_payment_tells_of(court):
    """Made before the window of the list; the payment's substatus says that there is one."""
    court.look()
    order = court.buys()
    court.stack.sql("UPDATE payments SET paid_at = now() - interval '40 days'")
    court.disputed("needs_response", created_at=ago(30 * DAY_S), substatus="dispute_needs_response")
    court.look()
    assert court.balance() == CREDITS and court.phase() == []  # the payment has not been read
    fire(court, "credits.books")
    court.stack.eventually(lambda: court.stack.sql("SELECT substatus FROM payments") == [("dispute_needs_response",)], 20)
    court.look()
    court.becomes(order, "disputed", 0)
    since = court.sim.calls(operation="disputes.list")[-1]["query"]["created_after"][0]
    assert since < ago(40 * DAY_S)
    court.disputed("lost", substatus="dispute_lost")
    fire(court, "credits.books")
    court.look()
    court.becomes(order, "reversed", 0)


def test_a_payment_without_a_dispute_is_looked_for_once(court):
    """Whop says "in dispute" and lists none: the books are not read from its beginning for ever."""
    court.buys()
    court.stack.sql("UPDATE payments SET paid_at = now() - interval '90 days', substatus = 'dispute_needs_response'")
    for wanted in (90, 3):
        court.look()
        since = court.sim.calls(operation="disputes.list")[-1]["query"]["created_after"][0]
        assert ago((wanted + 1) * DAY_S) < since < ago(wanted * DAY_S)


def test_the_window_reaches_back_to_the_last_good_look(court):
    court.look()
    court.stack.sql("UPDATE reconcile_runs SET started_at = started_at - interval '20 days'")
    court.buys()
    court.disputed("needs_response", created_at=ago(19 * DAY_S))
    court.look()
    assert court.balance() == 0


# ---- what is read never undoes what events have told

def test_a_list_that_lags_behind(court):
    order = court.buys()
    court.disputed("needs_response")
    court.tell_dispute("needs_response")
    court.tell_dispute("won")
    court.becomes(order, "credited", CREDITS)
    for stale in ("needs_response", "under_review", "warning_needs_response", "never_heard_of"):
        court.disputed(stale)
        court.look()
        assert court.phase() == [("won",)] and court.balance() == CREDITS
    assert [kind for kind, _ in court.ledger()] == ["topup", "dispute_hold", "dispute_release"]
    court.disputed("lost")  # a verdict that was turned round is one
    court.look()
    court.becomes(order, "reversed", 0)


def test_an_open_dispute_is_not_a_warning_again(court):
    order = court.buys()
    court.tell_dispute("needs_response")
    court.becomes(order, "disputed", 0)
    court.disputed("warning_under_review")
    court.look()
    assert court.phase() == [("open",)] and court.balance() == 0


def test_events_go_on_from_what_was_read(court):
    order = court.buys()
    court.disputed("warning_needs_response")
    court.look()
    assert court.phase() == [("warning",)] and court.balance() == CREDITS
    court.told_later("needs_response")
    court.becomes(order, "disputed", 0)
    court.told_later("warning_needs_response", seconds=-30)  # was before what was read
    court.told_later("won", seconds=4)
    court.becomes(order, "credited", CREDITS)


def test_an_event_that_does_not_say_when_it_was(court):
    """v5 and v2 only tell when the dispute began: long before it was read here."""
    order = court.buys()
    court.disputed("needs_response")
    court.look()
    court.becomes(order, "disputed", 0)
    body = whop.vector("v5", "dispute.updated")
    body["data"].update(id="dspt_1", status="won", payment_id="pay_1", created_at=int(time.time()) - DAY_S)
    body["data"]["payment"].update(id="pay_1")
    assert whop.send(court.stack, body) == 200
    court.becomes(order, "credited", CREDITS)


# ---- shapes, permissions, pages, deaths

@pytest.mark.parametrize("version", ["2026-07-20", "2026-09-09"], ids=["nested", "flat"])
def test_both_shapes(stack, sim, version):
    stack.env["WHOP_API_VERSION_DATE"] = version
    court = Court(stack, sim)
    order = court.buys()
    court.disputed("needs_response")
    court.look()
    court.becomes(order, "disputed", 0)
    court.disputed("won", created_at=ago(100 * DAY_S))
    court.look()
    court.becomes(order, "credited", CREDITS)


def test_a_list_that_names_no_payment(court):
    """The dispute itself is asked; one that nobody can say the payment of is left out."""
    order = court.buys()
    court.disputed("needs_response")
    rows = [{"id": "dspt_1", "status": None, "payment": None}, {"id": "dspt_gone", "status": "lost", "payment": None}]
    page = {"data": rows, "page_info": {"has_next_page": False}}
    court.sim.rule(operation="disputes.list", status=200, body=page, times=0)
    court.look()
    court.becomes(order, "disputed", 0)
    court.sim.rule(operation="disputes.get", status=200, body={"id": "dspt_1", "status": "won", "payment": None}, times=0)
    court.look()
    court.becomes(order, "credited", CREDITS)
    assert court.stack.sql("SELECT count(*) FROM disputes") == [(1,)]


def test_a_credential_that_may_not_read_disputes(stack, sim):
    """Payments go on being reconciled; it is said once, and by the check, and it ends with the grant."""
    court = Court(stack, sim)
    sim.key(simulator.KEY, "sim", without=[NO_READ])
    order = court.buys(told=False)
    court.disputed("needs_response", substatus="dispute_needs_response")
    for _ in range(2):
        court.look("failed")
    fire(court, "credits.books")
    court.becomes(order, "credited", CREDITS)
    assert stack.sql("SELECT status, count(*) FROM tenants GROUP BY 1") == [("active", 1)]
    assert stack.sql("SELECT count(*) FROM jobs WHERE state IN ('parked', 'dead')") == [(0,)]
    errors = {row[0] for row in stack.sql("SELECT error FROM reconcile_runs WHERE status = 'failed'")}
    assert len(errors) == 1 and NO_READ in errors.pop()
    assert stack.proc("sync").log().count("disputes cannot be read at Whop") == 1
    said = stack.cli("tenants", "check").stdout
    assert "all it needs" in said and NO_READ in said
    said = stack.cli("tenants", "check", check=False, env={"WHOP_FEATURES": "payments,disputes"})
    assert said.returncode == 1 and NO_READ in said.stdout  # who wants it so
    sim.key(simulator.KEY, "sim")
    stack.cli("tenants", "check")
    court.look()
    court.becomes(order, "disputed", 0)


def test_one_that_whop_knows_no_more(court):
    order = court.buys()
    court.tell_dispute("needs_response")
    court.becomes(order, "disputed", 0)
    court.look()  # asks, and is told 404
    assert court.stack.sql("SELECT state, reason FROM jobs WHERE kind = 'sync.open_dispute'") == [("skipped", "not_known_at_whop")]
    assert court.phase() == [("open",)]


def sell_many(court, count):
    court.sim.make("payments", count, user=USER, plan=PLAN, total=PRICE, metadata={}, updated_at=ago(0))
    fire(court, "credits.books")
    court.stack.eventually(lambda: court.balance() == count * CREDITS, 30)
    court.sim.put("disputes", *[{"id": f"dspt_{payment}", "payment": payment, "status": "needs_response", "created_at": ago(0)}
                                for payment in court.sim.state()["payments"]])


def test_three_pages(court):
    sell_many(court, 130)
    court.look()
    assert court.stack.sql("SELECT status, fetched, unknown, next_page FROM reconcile_runs WHERE kind = 'disputes'") == \
        [("success", 130, 130, 3)]
    assert court.balance() == 0
    court.look()
    assert court.balance() == 0 and court.stack.sql("SELECT count(*) FROM credit_transactions") == [(260,)]


@pytest.mark.parametrize("point", ["before_pg_commit", "pg_commit_reply_lost", "after_pg_commit"])
def test_killed_between_page_and_commit(court, point):
    sell_many(court, 130)
    court.stack.proc("sync").sigterm()
    victim = court.stack.start("sync", fault=f"{point}:kill@3", ready=False)
    fire(court, "credits.disputes")
    victim.wait_exit(30)
    court.stack.start("sync")
    court.stack.eventually(lambda: court.runs() == 1, 40)
    assert court.stack.sql("SELECT fetched FROM reconcile_runs WHERE kind = 'disputes'") == [(130,)]
    assert court.balance() == 0
    assert court.stack.sql("SELECT count(*) FROM credit_transactions WHERE kind = 'dispute_hold'") == [(130,)]


# ---- histories of which a part was missed

def settles_backwards(history, dispute):
    """Escalated and closed as a warning all the same: only an event may say that."""
    return history.disputes[dispute] == "warning_closed"


def miss(rng, history):
    """The history's events without some of its disputes', all of one dispute's among them."""
    kept, lost = [], set()
    for dispute in history.disputes:
        if not settles_backwards(history, dispute):
            lost.update((dispute, status) for status in rng.sample(
                ["warning_needs_response", "needs_response", "under_review", history.disputes[dispute]], rng.randint(1, 4)))
    for kind, fields in history.events:
        if (fields.get("dispute"), fields.get("status")) not in lost:
            kept.append((kind, fields))
    return kept


@pytest.mark.limit(120)
def test_any_history_with_events_missed_ends_in_the_same_ledger(stack, sim):
    """Some events of disputes never come; the books are read while the others come in any order."""
    seed = random.SystemRandom().randrange(1_000_000)
    print("SEED", seed)
    rng = random.Random(seed)
    stack.env.update(sim.env, WHOP_API_KEY=simulator.KEY)
    plans, users = [(f"plan_{n}", n) for n in (1, 7, 5_000)], [f"user_{n}" for n in range(5)]
    make_tenant(stack, plans)
    histories = [History(rng, n, users, plans) for n in range(150)]
    sim.put("payments", *[{"id": h.payment, "plan": h.plan} for h in histories])
    found = [{"id": dispute, "payment": h.payment, "status": status, "created_at": ago(rng.randint(0, 60 * 3600))}
             for h in histories for dispute, status in h.disputes.items()]
    sim.put("disputes", *found)
    events = list(itertools.chain.from_iterable(miss(rng, h) for h in histories))
    rng.shuffle(events)
    stack.up("sync", "scheduler")
    stack.start("credits", env={"SLOTS": 8})
    stack.eventually(lambda: stack.sql("SELECT count(*) FROM schedules WHERE name = 'credits.disputes'") == [(1,)])
    half = len(events) // 2
    for part in (events[:half], events[half:]):
        put_jobs(stack, part, TENANT)
        stack.cli("schedules", "fire", "credits.disputes", "--reason", "test")
    stack.eventually(lambda: stack.sql("SELECT count(*) FROM jobs WHERE state = 'queued'") == [(0,)], 60)
    stack.cli("schedules", "fire", "credits.disputes", "--reason", "test")
    expected = {h.payment: h.expected() for h in histories}

    def ledger():
        sums = {payment: {} for payment in expected}
        for payment, kind, credits in stack.sql("SELECT whop_payment_id, kind, credits FROM credit_transactions"):
            sums[payment][CATEGORY[kind]] = sums[payment].get(CATEGORY[kind], 0) + credits
        return {payment: {name: it for name, it in found.items() if it} for payment, found in sums.items()}

    try:
        stack.eventually(lambda: ledger() == expected, 30)
    except AssertionError:
        is_now = ledger()
        wrong = {payment: (is_now[payment], wanted) for payment, wanted in expected.items() if is_now[payment] != wanted}
        raise AssertionError(f"{len(wrong)}, e.g. {next(iter(wrong.items()), None)}") from None
    assert stack.sql("SELECT * FROM credit_mismatches") == []
    assert stack.sql("SELECT state, reason, error FROM jobs WHERE state IN ('dead', 'parked')") == []
