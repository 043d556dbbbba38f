"""How Whop shows its objects: nested up to Api-Version-Date 2026-07-22, memberships and members flat from
2026-07-23 on, disputes from 2026-07-25 on, payments from 2026-09-09 on (where that one change lies exactly is not
published, nor how flat disputes look: they are shown as flat payments are).

What is kept is flat: references are ids, amounts decimal text in major units, times ISO 8601.
"""
ACCOUNT_NAMES, FLAT_MEMBERSHIPS, FLAT_DISPUTES, FLAT_PAYMENTS = "2026-07-18", "2026-07-23", "2026-07-25", "2026-09-09"


def number(text):
    """A JSON number: 49.99, 7500. Python's shortest float is the amount again."""
    if text is None:
        return None
    value = float(text)
    return int(value) if value.is_integer() and "." not in str(text) else value


def money(text, currency):
    return None if text is None else {"amount": str(text), "currency": currency}


class Shapes:
    def __init__(self, collections):
        self.all = collections

    def get(self, kind, key):
        return self.all[kind].get(key) if key else None

    def user(self, key, email=True):
        user = self.get("users", key)
        return user and {"id": user["id"], "username": user["username"], "name": user["name"],
                         **({"email": user["email"]} if email else {})}

    def company(self, key):
        company = self.get("companies", key)
        return company and {name: company[name] for name in ("id", "title", "route")}

    def part(self, kind, key, *names):
        it = self.get(kind, key)
        return it and {name: it.get(name) for name in ("id", *names)}

    # ---- one function a kind

    def companies(self, it, _version):
        return it

    def users(self, it, _version):
        return {name: it[name] for name in ("id", "username", "name", "bio", "created_at", "profile_picture")}

    def products(self, it, _version):
        return {**{k: v for k, v in it.items() if k != "company"}, "company": self.company(it["company"])}

    def plans(self, it, _version):
        shown = {k: v for k, v in it.items() if k not in ("product", "company")}
        return {**shown, "initial_price": number(it["initial_price"]), "renewal_price": number(it["renewal_price"]),
                "product": self.part("products", it["product"], "title"), "company": self.company(it["company"])}

    def memberships(self, it, version):
        if version >= FLAT_MEMBERSHIPS:
            return self.flat_membership(it)
        names = ("id", "status", "metadata", "license_key", "manage_url", "checkout_configuration_id", "currency",
                 "cancel_at_period_end", "cancel_option", "canceled_at", "cancellation_reason",
                 "renewal_period_start", "renewal_period_end", "joined_at", "payment_collection_paused",
                 "custom_field_responses", "created_at", "updated_at")
        return {**{name: it[name] for name in names},
                "user": self.user(it["user"]), "plan": self.part("plans", it["plan"], "metadata"),
                "product": self.part("products", it["product"], "title", "metadata"),
                "company": self.part("companies", it["company"], "title"),
                "member": self.part("members", it["member"]), "promo_code": None}

    def flat_membership(self, it):
        member = self.get("members", it["member"])
        status = "active" if it["status"] == "canceling" else it["status"]
        return {"id": it["id"], "account": {**self.company(it["company"]), "logo_url": None}, "status": status,
                "user_id": it["user"], "plan_id": it["plan"], "product_id": it["product"],
                "member": member and {"access_level": member["access_level"], "position": 1, "last_accessed_at": None},
                "metadata": it["metadata"], "license_key": it["license_key"],
                "current_period_end": it["renewal_period_end"], "created_at": it["created_at"],
                "cancel_at_period_end": it["cancel_at_period_end"] or it["status"] == "canceling"}

    def members(self, it, version):
        names = ("id", "access_level", "status", "joined_at", "created_at", "updated_at", "most_recent_action",
                 "most_recent_action_at", "phone", "usd_total_spent", "company_token_balance")
        shown = {**{name: it[name] for name in names}, "usd_total_spent": number(it["usd_total_spent"])}
        if version >= FLAT_MEMBERSHIPS:
            return {**shown, "user_id": it["user"], "account_id": it["company"]}
        return {**shown, "user": self.user(it["user"]), "company": self.company(it["company"])}

    AMOUNTS = ("total", "subtotal", "amount_after_fees", "refunded_amount", "tax_amount", "tax_refunded_amount",
               "usd_total")
    PAYMENT = ("id", "status", "substatus", "created_at", "updated_at", "paid_at", "refunded_at", "billing_reason",
               "failure_message", "refundable", "retryable", "voidable", "auto_refunded", "three_ds_verified",
               "metadata", "checkout_configuration_id", "card_brand", "card_last4", "payment_method_type")

    def payments(self, it, version):
        shown = {name: it[name] for name in self.PAYMENT}
        if version >= FLAT_PAYMENTS:
            amounts = {name: money(it[name], it["currency"]) for name in self.AMOUNTS}
            user = self.get("users", it["user"])
            return {**shown, **amounts, "account_id": it["company"], "member_id": it["member"],
                    "membership_id": it["membership"], "plan_id": it["plan"], "product_id": it["product"],
                    "customer_email": user and user["email"], "user": self.user(it["user"], email=False),
                    "promo_code_id": None, "payment_method_id": None}
        membership = self.get("memberships", it["membership"])
        return {**shown, **{name: number(it[name]) for name in self.AMOUNTS}, "currency": it["currency"],
                "user": self.user(it["user"]), "member": self.part("members", it["member"], "phone"),
                "membership": membership and {"id": membership["id"], "status": membership["status"]},
                "plan": self.part("plans", it["plan"], "metadata"),
                "product": self.part("products", it["product"], "title", "route", "metadata"),
                "company": self.company(it["company"]), "promo_code": None,
                "refunds": [{"id": r["id"], "amount": number(r["amount"]), "status": r["status"],
                             "currency": r["currency"], "created_at": r["created_at"]}
                            for r in self.all["refunds"].values() if r["payment"] == it["id"]]}

    def refunds(self, it, _version, listed=False):
        payment = self.get("payments", it["payment"])
        shown = {k: v for k, v in it.items() if k not in ("payment", "company", "user")}
        nested = payment and {"id": payment["id"]}
        if payment and not listed:
            nested.update(total=number(payment["total"]), subtotal=number(payment["subtotal"]),
                          currency=payment["currency"], billing_reason=payment["billing_reason"],
                          paid_at=payment["paid_at"], user=self.user(payment["user"]),
                          plan=self.part("plans", payment["plan"]), product=self.part("products", payment["product"]),
                          membership=self.part("memberships", payment["membership"], "status"))
        return {**shown, "amount": number(it["amount"]), "payment": nested}

    def disputes(self, it, version, listed=False):
        payment = self.get("payments", it["payment"])
        shown = {k: v for k, v in it.items() if k not in ("payment", "company")}
        plan, product = (payment and payment[name] for name in ("plan", "product"))
        if version >= FLAT_DISPUTES:
            return {**shown, "amount": money(it["amount"], it["currency"]), "account_id": it["company"],
                    "payment_id": it["payment"], "plan_id": plan, "product_id": product}
        nested = payment and {"id": payment["id"]}
        if payment and not listed:
            nested.update(total=number(payment["total"]), subtotal=number(payment["subtotal"]),
                          currency=payment["currency"], billing_reason=payment["billing_reason"],
                          paid_at=payment["paid_at"], user=self.user(payment["user"]),
                          member=self.part("members", payment["member"], "phone"),
                          membership=self.part("memberships", payment["membership"], "status"))
        return {**shown, "amount": number(it["amount"]), "payment": nested, "plan": self.part("plans", plan),
                "product": self.part("products", product, "title"),
                "company": self.part("companies", it["company"], "title")}

    def checkout_configurations(self, it, version):
        owner = "account_id" if version >= ACCOUNT_NAMES else "company_id"
        shown = {k: v for k, v in it.items() if k not in ("plan", "company")}
        plan = self.get("plans", it["plan"])
        return {**shown, owner: it["company"], "plan": plan and {
            "id": plan["id"], "currency": plan["currency"], "initial_price": number(plan["initial_price"]),
            "renewal_price": number(plan["renewal_price"])}}
