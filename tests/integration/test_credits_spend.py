"""K12: what applications may ask: spend, hold, capture, release. From many connections at once, and
against a reference under random interleavings."""
import concurrent.futures
import os
import random

import pytest

import harness
import whop
from ledger import USER, Shop, paid, refund

ROUNDS = 3000 if os.environ.get("WHOPLINE_TEST_LONG") else 300


class Account:
    """An account with so many credits, and connections of its own for those that ask."""

    def __init__(self, stack, credits, **settings):
        self.stack, self.shop = stack, Shop(stack, (), **settings)
        self.id, = stack.sql("SELECT credits_open_account(%s, %s)", (self.shop.tenant, USER))[0]
        if credits:
            self.add(credits, "opening")

    def add(self, credits, source, link=None):
        with (link or self.stack.db()).cursor() as cursor:
            cursor.execute("SELECT credits_post(%s, %s, 'adjust', 'test', %s, 'test', 'test')", (self.id, credits, source))

    def ask(self, function, *args, link=None):
        """(result, available)"""
        with (link or self.stack.db()).cursor() as cursor:
            cursor.execute(f"SELECT result, available FROM credits_{function}({', '.join(['%s'] * len(args))})", args)
            return cursor.fetchone()

    def spend(self, credits, request, user=USER, link=None):
        return self.ask("spend", whop.COMPANY, user, credits, request, "work", link=link)

    def hold(self, credits, request, link=None):
        return self.ask("hold", whop.COMPANY, USER, credits, request, "work", link=link)

    def state(self):
        self.shop.check()
        return self.stack.sql("SELECT credits_balance, held, debt FROM credit_accounts WHERE id = %s", (self.id,))[0]

    def at_once(self, questions):
        """Each on a connection of its own, all of them waiting for one lock first."""
        links = [harness.connect(self.stack.pg_sockets, self.stack.database) for _ in questions]
        blocker = harness.connect(self.stack.pg_sockets, self.stack.database)
        blocker.autocommit = False
        try:
            with concurrent.futures.ThreadPoolExecutor(len(links)) as threads:
                with blocker.cursor() as cursor:
                    cursor.execute("SELECT 1 FROM credit_accounts WHERE id = %s FOR UPDATE", (self.id,))
                futures = [threads.submit(self.ask, *question, link=link) for question, link in zip(questions, links)]
                self.stack.eventually(lambda: self.stack.sql(
                    """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                       AND wait_event_type = 'Lock'""") == [(len(links),)])
                blocker.rollback()
                return [future.result() for future in futures]
        finally:
            for link in (*links, blocker):
                link.close()


def spend_question(credits, request):
    return "spend", whop.COMPANY, USER, credits, request, "work"


def test_K12_fifty_spends_of_ten_from_a_hundred(stack):
    account = Account(stack, 100)
    answers = account.at_once([spend_question(10, f"r{n}") for n in range(50)])
    assert sorted(result for result, _ in answers) == ["insufficient"] * 40 + ["spent"] * 10
    assert sorted(available for result, available in answers if result == "spent") == list(range(0, 100, 10))
    assert account.state() == (0, 0, 0)


def test_K12_one_request_from_fifty_connections(stack):
    account = Account(stack, 100)
    answers = account.at_once([spend_question(10, "the same")] * 50)
    assert sorted(result for result, _ in answers) == ["repeated"] * 49 + ["spent"]
    assert account.state() == (90, 0, 0)


def test_K12_holds_and_spends_at_once(stack):
    account = Account(stack, 100)
    answers = account.at_once([spend_question(10, f"r{n}") if n % 2 else
                               ("hold", whop.COMPANY, USER, 10, f"h{n}", "work") for n in range(50)])
    taken = [result for result, _ in answers if result != "insufficient"]
    assert len(taken) == 10 and set(taken) <= {"spent", "held"}
    assert account.state() == (100 - 10 * taken.count("spent"), 10 * taken.count("held"), 0)


def test_K12_one_hold_is_ended_once(stack):
    account = Account(stack, 100)
    account.hold(60, "h")
    answers = account.at_once([("capture", whop.COMPANY, "h", 25), ("release", whop.COMPANY, "h")] * 10)
    results = sorted(result for result, _ in answers)
    assert results in (["captured"] * 11 + ["repeated"] * 9, ["released"] * 11 + ["repeated"] * 9)
    assert account.state() == (75 if results[0] == "captured" else 100, 0, 0)


def test_what_is_asked_twice_and_otherwise(stack):
    account = Account(stack, 100)
    assert account.spend(10, "a") == ("spent", 90) and account.spend(10, "a") == ("repeated", 90)
    assert account.spend(11, "a") == ("conflict", 90)
    assert account.spend(10, "a", user="user_2")[0] == "conflict"
    assert account.hold(10, "a") == ("conflict", 90)
    assert account.hold(30, "h") == ("held", 60) and account.hold(30, "h") == ("repeated", 60)
    assert account.hold(31, "h") == ("conflict", 60) and account.spend(30, "h") == ("conflict", 60)
    assert account.spend(61, "b") == ("insufficient", 60)
    assert account.ask("capture", whop.COMPANY, "h", 31)[0] == "invalid"
    assert account.ask("capture", whop.COMPANY, "h", 20) == ("captured", 70)
    assert account.ask("capture", whop.COMPANY, "h", 20) == ("repeated", 70)
    assert account.ask("capture", whop.COMPANY, "h", 19) == ("captured", 70)
    assert account.ask("release", whop.COMPANY, "h") == ("captured", 70)
    assert account.ask("release", whop.COMPANY, "never") == ("unknown", None)
    assert account.state() == (70, 0, 0)


@pytest.mark.parametrize("function, args", [
    ("spend", (whop.COMPANY, USER, 0, "r", "x")), ("spend", (whop.COMPANY, USER, -5, "r", "x")),
    ("spend", (whop.COMPANY, USER, None, "r", "x")), ("spend", (whop.COMPANY, USER, 1, "", "x")),
    ("spend", (whop.COMPANY, USER, 1, None, "x")), ("spend", (whop.COMPANY, USER, 1, "r", None)),
    ("hold", (whop.COMPANY, USER, 0, "r", "x")), ("hold", (whop.COMPANY, USER, None, "r", "x")),
    ("hold", (whop.COMPANY, USER, 1, "r", None)), ("hold", (whop.COMPANY, USER, 1, "r", "x", "-1 second")),
    ("hold", (whop.COMPANY, USER, 1, "r", "x", None))])
def test_nonsense_is_invalid(stack, function, args):
    account = Account(stack, 100)
    assert account.ask(function, *args) == ("invalid", None)
    account.hold(5, "h")
    assert account.ask("capture", whop.COMPANY, "h", None)[0] == "invalid"
    assert account.ask("capture", whop.COMPANY, "h", -1)[0] == "invalid"
    assert account.state() == (100, 5, 0)


def test_nobody_has_anything(stack):
    account = Account(stack, 0)
    assert account.spend(1, "r", user="user_unheard_of") == ("insufficient", 0)
    assert account.ask("spend", "biz_unheard_of", USER, 1, "r", "x") == ("insufficient", 0)
    assert account.ask("hold", whop.COMPANY, "user_unheard_of", 1, "r", "x") == ("insufficient", 0)
    assert account.spend(2**62, "r") == ("insufficient", 0)


def test_another_tenants_user_of_the_same_name(stack):
    account = Account(stack, 100)
    stack.sql("INSERT INTO tenants (slug, whop_company_id) VALUES ('other', 'biz_other')")
    assert account.ask("spend", "biz_other", USER, 1, "r", "x") == ("insufficient", 0)
    assert account.spend(1, "r") == ("spent", 99)


def test_what_is_refunded_while_it_is_held(stack):
    """Under clamp the capture of what is no longer there is owed; the answer says what there is."""
    shop = Shop(stack, negative_policy="clamp")
    shop.tell(paid())
    assert stack.sql("SELECT result FROM credits_hold(%s, %s, 60, 'h', 'work')", (whop.COMPANY, USER)) == [("held",)]
    shop.tell(refund())
    assert stack.sql("SELECT result, available FROM credits_capture(%s, 'h', 60)", (whop.COMPANY,)) == [("captured", 0)]
    assert (shop.balance(), shop.debt()) == (0, 60)
    shop.check()


# ---- against a reference

class Reference:
    """One account by the rules alone, one question after the other."""

    def __init__(self, credits):
        self.worth, self.spent, self.holds = credits, {}, {}  # holds: id -> [amount, state, captured]

    def available(self):
        return self.worth - sum(amount for amount, state, _ in self.holds.values() if state == "held")

    def spend(self, credits, request):
        if request in self.holds:
            return "conflict"
        if request in self.spent:
            return "repeated" if self.spent[request] == credits else "conflict"
        if credits > self.available():
            return "insufficient"
        self.spent[request] = credits
        self.worth -= credits
        return "spent"

    def hold(self, credits, request):
        if request in self.holds:
            amount, now, _ = self.holds[request]
            return "conflict" if amount != credits else "repeated" if now == "held" else now
        if request in self.spent:
            return "conflict"
        if credits > self.available():
            return "insufficient"
        self.holds[request] = [credits, "held", 0]
        return "held"

    def end(self, request, credits, state):
        if request not in self.holds:
            return "unknown"
        amount, now, captured = self.holds[request]
        if now != "held":
            return "repeated" if (now, captured) == (state, credits) else now
        if credits > amount:
            return "invalid"
        self.holds[request] = [amount, state, credits]
        if credits:
            self.spent[request] = credits
            self.worth -= credits
        return state


def random_question(rng):
    request, credits = f"q{rng.randrange(40)}", rng.choice((1, 5, 10, 25, 60))
    what = rng.random()
    if what < 0.4:
        return ("spend", whop.COMPANY, USER, credits, request, "work"), ("spend", credits, request)
    if what < 0.7:
        return ("hold", whop.COMPANY, USER, credits, request, "work"), ("hold", credits, request)
    if what < 0.85:
        return ("capture", whop.COMPANY, request, credits), ("end", request, credits, "captured")
    return ("release", whop.COMPANY, request), ("end", request, 0, "released")


def test_one_after_the_other_as_the_reference(stack):
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1_000_000)))
    print("SEED", seed)
    rng = random.Random(seed)
    account, reference = Account(stack, 200), Reference(200)
    for number in range(ROUNDS * 5):
        if rng.random() < 0.05:
            credits = rng.choice((50, 100, -80))
            account.add(credits, f"more{number}")
            reference.worth += credits
        if rng.random() < 0.03:  # time passes
            stack.sql("UPDATE credit_holds SET expires_at = '-infinity' WHERE state = 'held'")
            ended, = stack.sql("SELECT credits_expire_holds(1000)")[0]
            assert ended == sum(hold[1] == "held" for hold in reference.holds.values())
            for hold in reference.holds.values():
                hold[1] = "expired" if hold[1] == "held" else hold[1]
        asked, (verb, *args) = random_question(rng)
        assert account.ask(*asked)[0] == getattr(reference, verb)(*args), (number, asked)
        assert stack.sql("SELECT credits_available(%s, %s)", (whop.COMPANY, USER)) == [(reference.available(),)]
    held = sum(amount for amount, state, _ in reference.holds.values() if state == "held")
    assert account.state() == (reference.worth, held, 0)


def test_eight_at_once_with_the_same_requests(stack):
    """Eight ask at random, with few request ids between them. Whatever the order was: each request has
    been done once, for one who was told so, and nobody was given what was not there."""
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1_000_000)))
    print("SEED", seed)
    account = Account(stack, 200)

    def ask_many(worker):
        rng, link, answers = random.Random(f"{seed}/{worker}"), harness.connect(stack.pg_sockets, stack.database), []
        try:
            for number in range(ROUNDS):
                if rng.random() < 0.05:
                    account.add(rng.choice((50, 100, -80)), f"more{worker}.{number}", link)
                asked, _ = random_question(rng)
                answers.append((asked, account.ask(*asked, link=link)))
        finally:
            link.close()
        return answers

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = [answer for part in threads.map(ask_many, range(8)) for answer in part]
    account.shop.check()
    done = {}
    for (verb, *args), (result, available) in answers:
        if result in ("spent", "held") or (result in ("captured", "released") and verb in ("capture", "release")):
            request = args[3] if verb in ("spend", "hold") else args[1]
            done.setdefault((request, result), []).append(args)
        # Nobody is given what is not there.
        assert result not in ("spent", "held") or available >= 0, (verb, args)
    spent = dict(stack.sql("SELECT source_id, -credits FROM credit_transactions WHERE kind = 'usage'"))
    holds = {row[0]: row[1:] for row in stack.sql("SELECT request_id, amount, state, captured FROM credit_holds")}
    for (request, result), asked in done.items():
        if result == "spent":
            assert len(asked) == 1 and asked[0][2] == spent[request], request
            assert request not in holds
        elif result == "held":
            assert len(asked) == 1 and asked[0][2] == holds[request][0], request
    assert {request for request, result in done if result == "held"} == set(holds)
    assert {request for request, result in done if result == "spent"} == {r for r in spent if r not in holds}
    assert all(spent.get(request, 0) == captured for request, (_, _, captured) in holds.items())
    worth = 200 + stack.sql("SELECT COALESCE(sum(credits), 0) FROM credit_transactions WHERE source_id LIKE 'more%%'")[0][0]
    held = sum(amount for amount, state, _ in holds.values() if state == "held")
    assert account.state() == (worth - sum(spent.values()), held, 0)
