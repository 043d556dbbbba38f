"""What is promised of the credits, and the tests that show it: each of them is there."""
import ast
import pathlib

HERE = pathlib.Path(__file__).parent

PROMISED = {
    "K1 a paid pack: credits, one row, balance = ledger": ["test_K1_a_paid_pack_is_one_row_and_the_balance_its_sum"],
    "K2 the same event ten times at once, reconciled and replayed: one grant": [
        "test_K2_ten_at_once_and_reconciliation_and_replay_are_one_grant", "test_operators_and_reconciliation_at_once_grant_once"],
    "K3 killed between any two steps: granted once": ["test_K3_a_death_between_any_two_steps", "test_killed_around_the_call"],
    "K4 failed: no credits; a later success of the same order: credits": [
        "test_K4_a_failed_payment_then_a_later_one_of_the_same_order", "test_K4_the_same_payment_fails_and_then_succeeds",
        "test_K4_a_failed_payment_and_then_a_good_one"],
    "K5 refunds, whole, in parts, repeated": [
        "test_K5_a_full_refund_removes_the_grant", "test_K5_two_partial_refunds_of_half",
        "test_K5_the_same_refund_twice_and_as_payment_refunded", "test_K5_by_webhook",
        "test_a_refund_that_fails_after_the_payment_has_told_of_it"],
    "K6 a refund before its payment": ["test_K6_a_refund_before_its_payment", "test_K6_a_part_of_it"],
    "K7 a dispute: held; won: back; lost: gone": ["test_K7_a_dispute", "test_K7_by_webhook", "test_every_sequence_of_three_statuses"],
    "K8 no order, plan, user or metadata: in review, assignable, nothing lost": [
        "test_K8_what_cannot_be_attributed_is_in_review", "test_K8_a_review_that_matches_later_is_closed",
        "test_review_is_assigned_dismissed_and_reopened", "test_an_odd_refund_is_put_aside_by_an_operator"],
    "K9 two admins approve the same order at once: one grant": ["test_K9_two_admins_approve_at_once"],
    "K10 metadata tampered with: the plan's number, flagged": [
        "test_K10_tampered_metadata", "test_K10_by_webhook", "test_K10_an_order_is_not_an_open_door"],
    "K11 an hour without webhooks: credited by reconciliation": ["test_K11_what_no_event_told_of"],
    "K12 50 spends of 10 from 100: exactly 10": [
        "test_K12_fifty_spends_of_ten_from_a_hundred", "test_K12_one_request_from_fifty_connections", "test_K12_holds_and_spends_at_once"],
    "K13 amounts exact or refused, no floats": [
        "test_K13_an_amount_is_kept_exactly", "test_K13_an_odd_amount_is_for_a_person", "test_K13_a_refund_takes_its_exact_share",
        "test_K13_an_imported_price_is_exact_or_refused"],
    "K14 Whop switched off: no new checkouts, running ones credited": ["test_K14_the_switch"],
    "K15 each change has actor, source, reason, and stays": [
        "test_K15_each_row_says_who_and_why", "test_K15_the_ledger_cannot_be_changed", "test_K15_nothing_is_spent_without_a_reason",
        "test_K15_nor_does_a_replica_change_the_ledger"],
    "a free trial, then the first paid cycle": ["test_a_trial_and_then_the_first_paid_cycle"],
    "a promo code of 100 %": ["test_a_promo_code_of_100_percent"],
    "pending for days, then succeeded": ["test_pending_for_days_then_succeeded"],
    "paid by one for another": ["test_one_pays_for_another"],
    "the plan changes between checkout and payment": ["test_the_plan_changed_between_checkout_and_payment"],
    "bought twice within a minute": ["test_two_payments_within_a_minute_are_two_grants"],
    "refunded by Whop itself": ["test_refunded_by_whop_itself", "test_a_nought_beside_a_dispute_takes_no_refund_back"],
    "refunded and then disputed: taken once": ["test_refund_then_dispute_takes_what_is_left"],
    "disputed without an event of the payment": ["test_a_dispute_of_a_payment_nobody_told_of"],
    "a currency other than usd": ["test_a_currency_other_than_usd", "test_currencies_are_the_same_in_any_case"],
    "a user that is gone": ["test_a_user_that_is_gone"],
    "paid after the order expired": ["test_paid_after_the_order_expired", "test_expired_and_paid_all_the_same"],
    "a subscription that is cancelled keeps its credits": ["test_a_subscription_that_is_cancelled_keeps_its_credits"],
    "numbers of metadata as texts, empty, negative, with a fraction": [
        "test_K10_by_webhook", "test_K10_tampered_metadata", "test_K10_metadata_that_agrees_or_says_nothing"],
    "assigned by an operator while it matched by itself": [
        "test_K8_assigned_while_it_matched_by_itself", "test_operators_and_reconciliation_at_once_grant_once"],
}


def there():
    """Names of all tests of this folder."""
    return {item.name for path in HERE.glob("test_*.py") for item in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(item, ast.FunctionDef)}


def test_all_of_it_is_shown():
    known = there()
    assert all(PROMISED.values())
    assert {name for names in PROMISED.values() for name in names if name not in known} == set()


def test_none_is_missing():
    """Neither a K that is promised, nor a test that bears its name."""
    numbers = {promise.split()[0] for promise in PROMISED if promise.startswith("K")}
    assert numbers == {f"K{n}" for n in range(1, 16)}
    shown = {name.split("_")[1] for name in there() if name.startswith("test_K")}
    assert shown == numbers
