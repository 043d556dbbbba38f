"""Whop's objects as the simulator keeps them, each complete: what is not said gets a usual value."""
import datetime

KINDS = {"companies": "biz", "users": "user", "members": "mber", "memberships": "mem", "products": "prod",
         "plans": "plan", "payments": "pay", "refunds": "rf", "disputes": "dspt", "checkout_configurations": "ch"}
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


def iso(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def now():
    return iso(datetime.datetime.now(datetime.timezone.utc))


class Data:
    def __init__(self, company):
        self.company = company
        self.all = {kind: {} for kind in KINDS}
        self.count = 0
        self.put("companies", {"id": company, "title": "Lantern Co", "route": "lantern-co"})
        product = self.put("products", {"title": "Lantern Club"})
        self.put("plans", {"id": "plan_T3stMonthly01", "product": product["id"]})

    def saved(self):
        return {"count": self.count, "all": self.all}

    def restore(self, saved):
        """As it was, unless that was another company's."""
        if self.company in saved["all"]["companies"]:
            self.count = saved["count"]
            self.all.update(saved["all"])

    def new_id(self, kind):
        self.count += 1
        return f"{KINDS[kind]}_Sim{self.count:09d}"

    def first(self, kind):
        return next(iter(self.all[kind]), None)

    def usual(self, kind, at):
        """at: when it was made. Each object is a second younger than the one before it."""
        common = {"created_at": at, "updated_at": at}
        plan = self.all["plans"].get(self.first("plans"), {})
        links = {"company": self.company, "plan": plan.get("id"), "product": plan.get("product")}
        return {
            "companies": {"title": "A company", "route": "a-company", **common},
            "users": {"username": f"user{self.count}", "name": f"User {self.count}", "bio": None,
                      "email": f"user{self.count}@example.test", "profile_picture": None, "created_at": at},
            "members": {"company": self.company, "user": None, "access_level": "customer", "status": "joined",
                        "joined_at": at, "most_recent_action": "joined", "most_recent_action_at": at, "phone": None,
                        "usd_total_spent": "0", "company_token_balance": 0, **common},
            "products": {"company": self.company, "title": "A product", "headline": None, "route": "a-product",
                         "visibility": "visible", "member_count": 0, "metadata": None,
                         "external_identifier": None, **common},
            "plans": {"company": self.company, "product": None, "plan_type": "renewal", "release_method": "buy_now",
                      "initial_price": "0", "renewal_price": "49.99", "billing_period": 30, "currency": "usd",
                      "trial_period_days": None, "expiration_days": None, "stock": None, "unlimited_stock": True,
                      "visibility": "visible", "title": None, "description": None, "internal_notes": None,
                      "metadata": None, "purchase_url": None, "member_count": 0, "tax_type": "exclusive", **common},
            "memberships": {**links, "status": "active", "user": None, "member": None, "metadata": None,
                            "license_key": None, "manage_url": None, "checkout_configuration_id": None,
                            "currency": "usd", "cancel_at_period_end": False, "cancel_option": None,
                            "canceled_at": None, "cancellation_reason": None, "renewal_period_start": at,
                            "renewal_period_end": None, "joined_at": at, "payment_collection_paused": False,
                            "custom_field_responses": [], **common},
            "payments": {**links, "status": "paid", "substatus": "succeeded", "total": "49.99", "subtotal": "49.99",
                         "amount_after_fees": "47.20", "refunded_amount": "0", "tax_amount": "0",
                         "tax_refunded_amount": "0", "usd_total": "49.99", "currency": "usd", "paid_at": at,
                         "refunded_at": None, "billing_reason": "subscription_create", "failure_message": None,
                         "refundable": True, "retryable": False, "voidable": False, "auto_refunded": False,
                         "three_ds_verified": False, "metadata": None, "checkout_configuration_id": None,
                         "card_brand": "visa", "card_last4": "4242", "payment_method_type": "card", "user": None,
                         "member": None, "membership": None, **common},
            "refunds": {"company": self.company, "amount": "0", "currency": "usd", "status": "pending",
                        "provider": "stripe", "provider_created_at": None, "reference_status": None,
                        "reference_type": None, "reference_value": None, "payment": None, "created_at": at},
            "disputes": {"company": self.company, "amount": "0", "currency": "usd", "status": "needs_response",
                         "reason": "Product not received", "needs_response_by": None, "editable": True,
                         "visa_rdr": False, "payment": None, "created_at": at},
            "checkout_configurations": {"company": self.company, "plan": None, "mode": "payment", "metadata": None,
                                        "redirect_url": None, "purchase_url": None, "created_at": at},
        }[kind]

    def put(self, kind, given, at=None):
        """Makes an object, or changes the one that has this id."""
        known = self.all[kind].get(given.get("id"))
        if known is not None:
            known.update(given)
            return known
        key = given.get("id") or self.new_id(kind)
        at = at or iso(START + datetime.timedelta(seconds=self.count))
        made = {"id": key, **self.usual(kind, at)}
        strange = set(given) - set(made)
        if strange:
            raise ValueError(f"{kind} have no {', '.join(sorted(strange))}; they have {', '.join(made)}")
        made.update(given)
        if kind == "plans" and not made["purchase_url"]:
            made["purchase_url"] = f"https://whop.com/checkout/{key}"
        self.all[kind][key] = made
        return made

    def make(self, kind, like):
        """One with those it hangs on: a membership with user and member, a payment with all three."""
        given = dict(like)
        if kind in ("memberships", "members", "payments") and "user" not in given:
            given["user"] = self.put("users", {})["id"]
        if kind in ("memberships", "payments") and "member" not in given:
            given["member"] = self.put("members", {"user": given["user"]})["id"]
        if kind == "payments" and "membership" not in given:
            given["membership"] = self.put("memberships", {"user": given["user"], "member": given["member"]})["id"]
        return self.put(kind, given)
