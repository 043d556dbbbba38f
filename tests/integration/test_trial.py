"""README's "Try a purchase", on the real programs: what `./dev whop` plays at Whop (tests/sim/play.py), and
what the operator's commands tell of it."""
import json
import re
import subprocess

import pytest

import harness
import sim as simulator

PLAY = harness.ROOT / "tests/sim/play.py"
USER = "user_1"


class Trial:
    """A newcomer's commands."""

    def __init__(self, stack, sim):
        self.stack, self.sim = stack, sim
        stack.env.update(sim.env, WHOP_API_KEY=simulator.KEY)
        stack.up("ingest", "journal", "credits", "members", "scheduler")
        product = next(iter(sim.state()["products"]))
        made = stack.cli_json("credits", "plans", "create", "--product", product, "--name", "Starter", "--credits", 5000,
                              "--price", "7.50", "--currency", "usd")
        self.order = stack.cli_json("orders", "create", "--user", USER, "--plan", made["plan"])["order_id"]

    def play(self, action, order=None, code=0, env=None):
        done = subprocess.run(["/usr/bin/python3", "-B", PLAY, action, order or self.order], capture_output=True, text=True,
                              env={**self.stack.env, **(env or {})}, timeout=60 * harness.SLOW, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code else done.stdout

    def balance(self):
        return self.stack.cli_json("credits", "show", USER)[0]["balance"]


@pytest.fixture
def trial(stack, sim):
    return Trial(stack, sim)


def test_from_a_plan_to_a_dispute_that_is_won(trial):
    told = trial.play("pay")
    assert "granted 5,000 credits to user_1" in told and "checkout_open -> paid -> credited" in told
    assert trial.balance() == 5000
    trial.stack.cli("orders", "refund", trial.order, "--amount", "3.75", "--reason", "half is enough", "--yes")
    # When it has asked it looks at Whop's refunds, and would learn there, before the event, that this one succeeded.
    trial.stack.eventually(lambda: trial.stack.sql("SELECT state FROM jobs WHERE kind = 'credits.refund_call'") == [("done",)])
    assert trial.balance() == 5000, "a refund that is pending takes nothing"
    for action, became, balance, outcome in (
            ("settle", "credited -> partially_refunded", 2500, "took 2,500 credits from user_1: refund of 3.75"),
            ("dispute", "partially_refunded -> disputed", 0, "took 2,500 credits from user_1: dispute opened"),
            ("win", "disputed -> partially_refunded", 2500, "gave 2,500 credits back to user_1: dispute won")):
        told = trial.play(action)
        assert became in told and outcome in told and trial.balance() == balance, told + trial.stack.cli('trace', trial.order).stdout + str(trial.stack.sql('SELECT kind,amount,source_type,source_id,event_id,whop_payment_id FROM credit_transactions')) + str(trial.stack.sql('SELECT * FROM refunds'))
    assert trial.stack.sql("SELECT * FROM credit_mismatches") == []

    told = trial.stack.cli("trace", trial.order).stdout
    places = [told.index(word) for word in (
        "created: Starter", "checkout_configurations.create", "created -> checkout_open", "paid, 7.50 usd",
        "checkout_open -> paid", "(topup)", "asked for: 3.75", "half is enough", "payments.refund", "Whop has taken it on",
        "credited -> partially_refunded", "(refund)", "partially_refunded -> disputed", "(dispute_hold)", "disputed -> partially_refunded", "(dispute_release)")]
    assert places == sorted(places), told
    shown = trial.stack.cli("orders", "show", trial.order).stdout
    assert re.search(r"^paid_utc +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", shown, re.MULTILINE) and "own_price" not in shown


def test_a_dispute_that_is_lost(trial):
    trial.play("pay")
    trial.play("dispute")
    told = trial.play("lose")
    assert "disputed -> reversed" in told and "here:    took 5,000 credits from user_1: dispute lost\n" in told
    assert trial.balance() == 0
    payment = next(iter(trial.sim.state()["payments"].values()))
    assert payment["substatus"] == "dispute_lost"


def test_what_cannot_be_is_refused(trial):
    for action in ("settle", "dispute", "win"):
        assert "is not paid" in trial.play(action, code=1)
    trial.play("pay")
    assert "is paid already" in trial.play("pay", code=1)
    assert "no dispute" in trial.play("lose", code=1)
    trial.play("dispute")
    assert "is disputed already" in trial.play("dispute", code=1)
    assert "is no order's id" in trial.play("pay", order="x", code=1)
    manual = trial.stack.cli_json("orders", "create", "--manual", "--user", USER, "--name", "By hand", "--credits", 10,
                                  "--price", "1.00", "--currency", "usd")["order_id"]
    assert f"whopline orders convert {manual}" in trial.play("pay", order=manual, code=1)
    trial.sim.reset()
    assert re.search("does not know ch_.* Make another", trial.play("pay", code=1))


def test_an_event_that_does_not_get_through(trial):
    """As when Whop cannot reach us: the payment is there, and found by the next look at the books."""
    trial.stack.proc("ingest").sigterm()
    assert "did not get through" in trial.play("pay", code=1)
    trial.stack.start("sync")
    trial.stack.cli("schedules", "fire", "credits.books", "--reason", "test")
    trial.stack.eventually(lambda: trial.balance() == 5000, 20)


@pytest.mark.parametrize("env", [{"WHOP_API_URL": "https://api.whop.com/api/v1", "WHOP_API_KEY": "apik_sim"},
                                 {"WHOP_API_URL": "http://127.0.0.1:9/api/v1", "WHOP_API_KEY": "apik_real"}, {}])
def test_nobody_is_played_at_the_real_whop(env):
    done = subprocess.run(["/usr/bin/python3", "-B", PLAY, "pay", "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"], env=env,
                          capture_output=True, text=True, timeout=30 * harness.SLOW, check=False)
    assert done.returncode == 1 and "nobody is played at the real Whop" in done.stderr


def test_its_words(sim):
    done = subprocess.run(["/usr/bin/python3", "-B", PLAY, "buy", "x"], capture_output=True, text=True, check=False,
                          timeout=30 * harness.SLOW, env=sim.env)
    assert done.returncode == 2 and "pay|settle|dispute|win|lose ORDER" in done.stderr
    assert json.dumps(sim.calls()) == "[]"


def test_a_checkout_that_waits_for_a_person_says_so_at_once(trial):
    trial.sim.revoke("sim")
    told = trial.stack.cli("orders", "create", "--user", USER, "--plan", "plan_Sim000000002").stdout
    assert "its checkout is not (parked: reauth_required" in told and "see whopline jobs" in told
