"""Whop's API v1, as much of it as is called, and its OAuth token and revoke endpoints.

Keys have a company and permissions; 600 calls a minute for each operation and key, counted in whole
minutes of the clock; Idempotency-Key on every authenticated POST; pages with opaque cursors. What each
permission, path and shape is taken from stands in README.md.
"""
import base64
import hashlib
import secrets
import time

from server import Reply
from whop_data import Data, now
from whop_shapes import ACCOUNT_NAMES, FLAT_DISPUTES, FLAT_MEMBERSHIPS, Shapes

BASE = "/api/v1/"
NEWEST_UNSAID = "2025-01-01"
VERSIONS = ("2025-01-01", "2026-06-08", "2026-06-09", "2026-06-20", "2026-07-01", "2026-07-08", "2026-07-08-1",
            "2026-07-18", "2026-07-20", "2026-07-22", "2026-07-23", "2026-07-25", "2026-07-26", "2026-07-27",
            "2026-07-29", "2026-07-29-1", "2026-07-31", "2026-08-03", "2026-08-05", "2026-08-05-1", "2026-08-10",
            "2026-08-12", "2026-08-13", "2026-08-14", "2026-08-21", "2026-08-21-1", "2026-08-25", "2026-08-25-1",
            "2026-08-25-2", "2026-09-09", "2026-09-23")
MEMBER = ("member:basic:read", "member:email:read")
PAYMENT = ("payment:basic:read", "plan:basic:read", "access_pass:basic:read", "member:email:read",
           "member:basic:read", "member:phone:read", "promo_code:basic:read")
# (method, path): (operation, permissions)
ROUTES = {
    ("GET", "products"): ("products.list", ("access_pass:basic:read",)),
    ("GET", "products/*"): ("products.get", ()),
    ("GET", "plans"): ("plans.list", ("plan:basic:read",)),
    ("GET", "plans/*"): ("plans.get", ("plan:basic:read",)),
    ("POST", "plans"): ("plans.create", ("plan:create", "access_pass:basic:read", "plan:basic:read")),
    ("PATCH", "plans/*"): ("plans.update", ("plan:update", "access_pass:basic:read", "plan:basic:read")),
    ("GET", "memberships"): ("memberships.list", MEMBER),
    ("GET", "memberships/*"): ("memberships.get", MEMBER),
    ("GET", "members"): ("members.list", (*MEMBER, "member:phone:read")),
    ("GET", "members/*"): ("members.get", (*MEMBER, "member:phone:read")),
    ("GET", "users/*"): ("users.get", ()),
    ("GET", "users/*/access/*"): ("users.access", ()),
    ("GET", "companies/*"): ("companies.get", ("company:basic:read",)),
    ("GET", "payments"): ("payments.list", PAYMENT),
    ("GET", "payments/*"): ("payments.get", (*PAYMENT, "payment:dispute:read")),
    ("POST", "payments/*/refund"): ("payments.refund", ("payment:manage", *PAYMENT)),
    ("GET", "refunds"): ("refunds.list", ("payment:basic:read",)),
    ("GET", "refunds/*"): ("refunds.get", ("payment:basic:read",)),
    ("GET", "disputes"): ("disputes.list", ("payment:dispute:read",)),
    ("GET", "disputes/*"): ("disputes.get", ("payment:dispute:read",)),
    ("POST", "checkout_configurations"): ("checkout_configurations.create", ("checkout_configuration:create",)),
    ("GET", "checkout_configurations"): ("checkout_configurations.list", ("checkout_configuration:basic:read",)),
    ("GET", "checkout_configurations/*"): ("checkout_configurations.get", ()),
}
ALL_PERMISSIONS = sorted({name for _, names in ROUTES.values() for name in names})
# Query filter -> the member of what is kept; each may come often, and with [] behind it.
FILTERS = {"statuses": "status", "status": "status", "substatuses": "substatus", "product_ids": "product",
           "product_id": "product", "plan_ids": "plan", "plan_id": "plan", "user_ids": "user", "user_id": "user",
           "payment_id": "payment", "billing_reasons": "billing_reason", "currencies": "currency",
           "plan_types": "plan_type", "visibilities": "visibility", "release_methods": "release_method",
           "access_level": "access_level", "checkout_configuration_ids": "checkout_configuration_id"}
IDEMPOTENCY_S = 24 * 3600


class Refusal(Exception):
    def __init__(self, status, kind, message):
        super().__init__(message)
        self.reply = Reply(status, {"error": {"type": kind, "message": message}})


def shape_of(path):
    """memberships/mem_1 -> memberships/*, users/u/access/p -> users/*/access/*"""
    return "/".join(part if i % 2 == 0 else "*" for i, part in enumerate(path.split("/")))


def amount(value, name):
    try:
        if isinstance(value, bool) or float(value) < 0:
            raise ValueError
    except (TypeError, ValueError):
        raise Refusal(400, "bad_request", f"{name} must be a non-negative number.") from None
    return str(value)


class Whop:
    NAME = "whop"

    def __init__(self, record, company):
        self.record, self.company = record, company
        self.reset()

    def reset(self):
        self.data = Data(self.company)
        self.shapes = Shapes(self.data.all)
        self.keys, self.grants, self.idempotent, self.spent = {}, {}, {}, {}
        self.settings = {"per_minute": 600, "window_s": 60, "page_default": 20, "page_max": 100,
                         "not_idempotent": [], "repeat_cursor": False}
        self.add_key("apik_sim", "sim")

    # ---- for tests

    def state(self):
        return self.data.all

    def put(self, collections):
        return {kind: [self.put_one(kind, it) for it in items] for kind, items in collections.items()}

    def put_one(self, kind, given):
        before = self.data.all[kind].get(given.get("id"), {}).get("status")
        it = self.data.put(kind, given)
        if kind == "refunds" and before == "pending" and it["status"] == "succeeded":
            self.give_back(it)
        return it

    def give_back(self, refund):
        """The payment tells of a refund once it has succeeded; of those in flight the list of refunds does."""
        payment = self.data.all["payments"][refund["payment"]]
        refunded = float(payment["refunded_amount"]) + float(refund["amount"])
        whole = refunded >= float(payment["total"]) - 1e-9
        payment.update(refunded_amount=f"{refunded:.2f}", refunded_at=now(), updated_at=now(),
                       substatus="refunded" if whole else "partially_refunded")

    def make_many(self, kind, count, like):
        return [self.data.make(kind, like)["id"] for _ in range(count)]

    def add_key(self, key, name, company=None, permissions=None, expires_in=None, without=()):
        """permissions: None for all there are, but for those in without."""
        allowed = set(ALL_PERMISSIONS if permissions is None else permissions) - set(without)
        self.keys[key] = {"name": name, "company": company or self.company, "permissions": allowed,
                          "until": time.monotonic() + expires_in if expires_in else None}
        self.record.name_secret(key, name)
        return {"name": name, "permissions": sorted(allowed)}

    def revoke(self, name):
        gone = [key for key, it in self.keys.items() if it["name"] == name]
        for key in gone:
            del self.keys[key]
        return len(gone)

    def add_grant(self, refresh_token, name, client_id="app_Sim", client_secret=None, expires_in=3600, company=None,
                  permissions=None):
        """What a user has allowed an app: a refresh token that works once."""
        self.grants[refresh_token] = {"name": name, "client_id": client_id, "client_secret": client_secret,
                                      "expires_in": expires_in, "company": company, "permissions": permissions}
        self.record.name_secret(refresh_token, f"{name}'s refresh token")
        if client_secret:
            self.record.name_secret(client_secret, f"{client_id}'s secret")
        return {"name": name}

    def change_settings(self, **wanted):
        strange = set(wanted) - set(self.settings)
        if strange:
            raise ValueError(f"no setting {', '.join(sorted(strange))}; there are {', '.join(self.settings)}")
        self.settings.update(wanted)
        return self.settings

    def forget_keys(self):
        count = len(self.idempotent)
        self.idempotent.clear()
        return count

    # ---- a call

    @staticmethod
    def owns(request):
        return request.path.startswith(BASE) or request.path in ("/oauth/token", "/oauth/revoke")

    @staticmethod
    def operation(request):
        if request.path.startswith("/oauth/"):
            return request.path[1:].replace("/", ".")
        route = ROUTES.get((request.method, shape_of(request.path.removeprefix(BASE))))
        return route[0] if route else ""

    def answer(self, request, call, stuck):
        try:
            if call["operation"] == "oauth.token":
                return self.token(request, call)
            if call["operation"] == "oauth.revoke":
                return self.revoke_token(request, call)
            return self.answer_api(request, call, stuck)
        except Refusal as refusal:
            return refusal.reply

    def answer_api(self, request, call, stuck):
        key = self.authenticate(request)
        version = request.headers.get("api-version-date", NEWEST_UNSAID)
        if version not in VERSIONS:
            raise Refusal(400, "bad_request", f"Unknown Api-Version-Date. Valid ones: {', '.join(VERSIONS)}")
        if not call["operation"]:
            raise Refusal(404, "not_found", f"No route matches {request.method} {request.path}")
        self.spend(key["name"], call["operation"])
        wanted = call["idempotency_key"]
        if request.method != "POST" or not wanted or call["operation"] in self.settings["not_idempotent"]:
            return self.perform(request, call, key, version)
        return self.once(request, call, key, version, stuck)

    def once(self, request, call, key, version, stuck):
        if len(call["idempotency_key"]) > 255:
            raise Refusal(400, "bad_request", "Idempotency-Key must have 1 to 255 bytes.")
        place = (key["name"], call["idempotency_key"])
        print_ = hashlib.sha256(repr((request.method, request.path, sorted(request.query.items()), request.body,
                                      version)).encode()).digest()
        known = self.idempotent.get(place)
        if known and time.monotonic() - known["at"] < IDEMPOTENCY_S:
            if known["print"] != print_:
                raise Refusal(400, "idempotency_key_reused", "This Idempotency-Key was used with another request.")
            if known["running"]:
                raise Refusal(409, "idempotency_in_progress", "A request with this Idempotency-Key is in progress.")
            call["replayed"] = True
            reply = known["reply"]
            return Reply(reply.status, reply.body, {**reply.headers, "Idempotent-Replayed": "true"})
        try:
            reply = self.perform(request, call, key, version)
        except Refusal as refusal:
            reply = refusal.reply
        self.idempotent[place] = {"print": print_, "reply": reply, "running": True, "stuck": stuck,
                                  "at": time.monotonic(), "call": call["number"]}
        return reply

    def settle(self, call):
        """The answer has left, or has been lost: from now on it is given again."""
        known = self.idempotent.get((call["credential"], call["idempotency_key"]))
        if known and known["call"] == call["number"]:
            known["running"] = known["stuck"]

    def authenticate(self, request):
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        key = self.keys.get(bearer)
        if key is None or (key["until"] and time.monotonic() > key["until"]):
            raise Refusal(401, "unauthorized", "The API key or token is not valid.")
        return key

    def spend(self, name, operation):
        window, limit = self.settings["window_s"], self.settings["per_minute"]
        turn, count = self.spent.get((name, operation), (0, 0))
        current = int(time.time() // window)
        count = count if turn == current else 0
        if limit and count >= limit:
            left = max(1, int((current + 1) * window - time.time() + 0.999))
            raise Refusal(429, "rate_limit_exceeded", f"Try again in {left} seconds.")
        self.spent[(name, operation)] = (current, count + 1)

    def perform(self, request, call, key, version):
        _, needed = ROUTES[(request.method, shape_of(request.path.removeprefix(BASE)))]
        missing = [name for name in needed if name not in key["permissions"]]
        if missing:
            raise Refusal(403, "forbidden", f"You are missing the following permission: {missing[0]}")
        kind, *rest = request.path.removeprefix(BASE).split("/")
        special = getattr(self, f"do_{call['operation'].replace('.', '_')}", None)
        if special:
            return special(request, call, key, version, *rest[:1], *rest[2:])
        if not rest:
            return self.list(kind, request, key, version)
        return self.show(kind, self.find(kind, rest[0], key), version)

    def show(self, kind, it, version, status=200):
        return Reply(status, getattr(self.shapes, kind)(it, version))

    def find(self, kind, wanted, key):
        it = self.data.all[kind].get(wanted)
        owner = it and it.get("company", it["id"] if kind == "companies" else key["company"])
        if it is None or owner != key["company"]:
            raise Refusal(404, "not_found", f"{kind.replace('_', ' ').capitalize()} not found.")
        return it

    # ---- lists

    def list(self, kind, request, key, version):
        self.check_owner(kind, request, key, version)
        rows = [it for it in self.data.all[kind].values() if it.get("company", key["company"]) == key["company"]]
        for name, values in request.query.items():
            rows = self.filtered(rows, name.removesuffix("[]"), values)
        rows.sort(key=lambda it: (it.get("created_at"), it["id"]), reverse=request.one("direction", "desc") != "asc")
        first = int(request.one("first", self.settings["page_default"]))
        if not 1 <= first <= self.settings["page_max"]:
            raise Refusal(400, "bad_request", f"first must be between 1 and {self.settings['page_max']}.")
        start = self.start_of(rows, request.one("after"))
        page = rows[start:start + first]
        show = getattr(self.shapes, kind)
        more = {"listed": True} if kind in ("refunds", "disputes") else {}
        end = self.cursor(page[-1]) if page else None
        if self.settings["repeat_cursor"] and request.one("after"):
            end = request.one("after")
        return Reply(200, {"data": [show(it, version, **more) for it in page], "page_info": {
            "end_cursor": end, "start_cursor": self.cursor(page[0]) if page else None,
            "has_next_page": start + first < len(rows), "has_previous_page": start > 0}})

    @staticmethod
    def check_owner(kind, request, key, version):
        names = ["company_id"]
        if kind in ("memberships", "members") and version >= FLAT_MEMBERSHIPS:
            names = ["account_id"]
        elif kind == "disputes" and version >= FLAT_DISPUTES:
            names = ["account_id"]
        elif kind in ("products", "plans", "checkout_configurations") and version >= ACCOUNT_NAMES:
            names = ["account_id", "company_id"]
        elif kind == "refunds":
            names = ["company_id", "payment_id", "user_id"]
        given = next((name for name in names if request.one(name)), None)
        if given is None:
            raise Refusal(400, "bad_request", f"{names[0]} is required.")
        if given in ("company_id", "account_id") and request.one(given) != key["company"]:
            raise Refusal(403, "forbidden", "You do not have access to this company.")

    @staticmethod
    def filtered(rows, name, values):
        if name in FILTERS and rows and FILTERS[name] in rows[0]:
            return [it for it in rows if it[FILTERS[name]] in values]
        for ending, keep in (("_after", lambda a, b: a > b), ("_before", lambda a, b: a < b)):
            if name in ("created" + ending, "updated" + ending):
                member = name.removesuffix(ending) + "_at"
                return [it for it in rows if keep(it[member], values[0])]
        return rows

    @staticmethod
    def cursor(it):
        return base64.urlsafe_b64encode(f"v1:{it['id']}".encode()).decode()

    @staticmethod
    def start_of(rows, after):
        if not after:
            return 0
        try:
            wanted = base64.urlsafe_b64decode(after).decode().removeprefix("v1:")
            return next(i for i, it in enumerate(rows) if it["id"] == wanted) + 1
        except (ValueError, StopIteration):
            raise Refusal(400, "bad_request", "Invalid cursor.") from None

    # ---- users

    def do_users_get(self, _request, _call, key, version, wanted):
        users = self.data.all["users"]
        it = users.get(wanted) or next((u for u in users.values() if u["username"] == wanted), None)
        return self.show("users", it or self.find("users", wanted, key), version)

    def do_users_access(self, _request, _call, key, _version, user, resource):
        self.find("users", user, key)
        level = "no_access"
        for it in self.data.all["memberships"].values():
            if it["user"] == user and resource in (it["product"], it["company"]) and it["status"] in (
                    "trialing", "active", "past_due", "completed", "canceling"):
                level = "customer"
        return Reply(200, {"has_access": level != "no_access", "access_level": level})

    # ---- what has an effect

    PLAN_INPUT = ("plan_type", "release_method", "billing_period", "currency", "trial_period_days", "expiration_days",
                  "stock", "unlimited_stock", "visibility", "title", "description", "internal_notes", "metadata")

    PLAN_WORDS = {"visibility": ("visible", "hidden", "archived", "quick_link"), "plan_type": ("renewal", "one_time"),
                  "release_method": ("buy_now", "waitlist")}

    def plan_terms(self, body):
        given = {name: body[name] for name in self.PLAN_INPUT if name in body}
        for name in ("initial_price", "renewal_price"):
            if name in body:
                given[name] = amount(body[name], name)
        if len(given.get("title") or "") > 30:
            raise Refusal(400, "bad_request", "title is too long (maximum is 30 characters).")
        for name, words in self.PLAN_WORDS.items():
            if name in given and given[name] not in words:
                raise Refusal(400, "bad_request", f"{name} must be one of {', '.join(words)}.")
        return given

    def read_plan(self, body, call, key):
        given = self.plan_terms(body)
        given["product"] = body.get("product_id")
        if given["product"]:
            self.find("products", given["product"], key)
        made = self.data.put("plans", {**given, "company": key["company"]}, now())
        self.record.effect(call, "plan.created", made["id"])
        return made

    @staticmethod
    def body_of(request):
        body = request.json()
        if not isinstance(body, dict):
            raise Refusal(400, "bad_request", "The body must be a JSON object.")
        return body

    def own(self, body, key):
        owner = body.get("account_id") or body.get("company_id")
        if owner is None:
            raise Refusal(400, "bad_request", "account_id is required.")
        if owner != key["company"]:
            raise Refusal(403, "forbidden", "You do not have access to this company.")

    def do_plans_create(self, request, call, key, version):
        body = self.body_of(request)
        self.own(body, key)
        if not body.get("product_id"):
            raise Refusal(400, "bad_request", "product_id is required.")
        return self.show("plans", self.read_plan(body, call, key), version)

    def do_plans_update(self, request, call, key, version, wanted):
        body, plan = self.body_of(request), self.find("plans", wanted, key)
        plan.update(self.plan_terms(body), updated_at=now())
        self.record.effect(call, "plan.updated", wanted)
        return self.show("plans", plan, version)

    def do_payments_refund(self, request, call, key, version, wanted):
        payment = self.find("payments", wanted, key)
        body = request.json() or {}
        in_flight = [float(it["amount"]) for it in self.data.all["refunds"].values()
                     if it["payment"] == wanted and it["status"] == "pending"]
        total, refunded = float(payment["total"]), float(payment["refunded_amount"]) + sum(in_flight)
        part = body.get("partial_amount")
        wish = total - refunded if part is None else float(amount(part, "partial_amount"))
        if not payment["refundable"] or total - refunded <= 0:
            raise Refusal(400, "bad_request", "This payment has already been refunded.")
        if wish <= 0 or wish > total - refunded + 1e-9:
            raise Refusal(400, "bad_request", "The amount is more than what is left to refund.")
        text = f"{wish:.2f}".rstrip("0").rstrip(".")
        refund = self.data.put("refunds", {"payment": wanted, "amount": text, "currency": payment["currency"],
                                           "company": key["company"]}, now())
        self.record.effect(call, "refund.created", refund["id"])
        payment.update(updated_at=now(), refundable=refunded + wish < total - 1e-9)
        return self.show("payments", payment, version)

    def do_checkout_configurations_create(self, request, call, key, version):
        body = self.body_of(request)
        plan = body.get("plan_id")
        if bool(plan) == bool(body.get("plan")):
            raise Refusal(400, "bad_request", "Give either plan_id or plan.")
        if (body.get("redirect_url") or "https://").split(":")[0] != "https":
            raise Refusal(400, "bad_request", "redirect_url must be https.")
        if plan:
            self.find("plans", plan, key)
        elif "plan:create" not in key["permissions"]:
            raise Refusal(403, "forbidden", "You are missing the following permission: plan:create")
        else:
            if version < ACCOUNT_NAMES and body.get("company_id"):
                raise Refusal(400, "bad_request", "company_id cannot be given together with plan.")
            self.own(body["plan"], key)
            plan = self.read_plan(body["plan"], call, key)["id"]
        made = self.data.put("checkout_configurations", {
            "plan": plan, "company": key["company"], "mode": body.get("mode") or "payment",
            "metadata": body.get("metadata"), "redirect_url": body.get("redirect_url")}, now())
        made["purchase_url"] = f"https://whop.com/checkout/{plan}?session={made['id']}"
        self.record.effect(call, "checkout_configuration.created", made["id"])
        return self.show("checkout_configurations", made, version)

    # ---- OAuth

    def token(self, request, call):
        if request.method != "POST":
            return Reply(405, {"error": "invalid_request", "error_description": "Only POST is allowed."})
        body = request.json()
        if not isinstance(body, dict) or body.get("grant_type") != "refresh_token":
            return Reply(400, {"error": "unsupported_grant_type", "error_description": "Only refresh_token is known."})
        offered = body.get("refresh_token")
        grant = self.grants.get(offered)
        if grant is None:
            return Reply(400, {"error": "invalid_grant", "error_description": "The refresh token is not valid."})
        call["credential"] = grant["name"]
        if grant["client_id"] != body.get("client_id") or (
                grant["client_secret"] and grant["client_secret"] != body.get("client_secret")):
            return Reply(401, {"error": "invalid_client", "error_description": "The client is not known."})
        del self.grants[offered]
        access, refresh = f"at_{secrets.token_hex(24)}", f"rt_{secrets.token_hex(24)}"
        self.add_grant(refresh, **grant)
        self.add_key(access, grant["name"], grant["company"], grant["permissions"], grant["expires_in"])
        self.record.effect(call, "token.refreshed", grant["name"])
        return Reply(200, {"access_token": access, "refresh_token": refresh, "token_type": "Bearer",
                           "expires_in": grant["expires_in"]})

    def revoke_token(self, request, call):
        """As RFC 7009 has it: a token that is not known is as good as revoked."""
        body = request.json()
        if request.method != "POST" or not isinstance(body, dict) or not body.get("client_id"):
            return Reply(400, {"error": "invalid_request", "error_description": "token and client_id are needed."})
        grant = self.grants.get(body.get("token"))
        if grant and grant["client_id"] != body["client_id"]:
            return Reply(401, {"error": "invalid_client", "error_description": "The client is not known."})
        gone = self.grants.pop(body.get("token"), None) or self.keys.pop(body.get("token"), None)
        if gone:
            call["credential"] = gone["name"]
            self.record.effect(call, "token.revoked", gone["name"])
        return Reply(200, {})
