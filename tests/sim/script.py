"""What goes wrong, and when: rules that a test has set, in the order they were set.

A rule meets the calls that fit its method, path pattern, operation and credential. It lets the first
`skip` of them pass and then acts on `times` (0: on all of them). The first rule that acts is the only
one. See README.md for what a rule can do.
"""
import fnmatch

from server import Reply

FAULTS = (None, "answer", "close", "drop", "cut")
TEXTS = {
    401: ("unauthorized", "The API key is not valid."),
    403: ("forbidden", "You are missing the following permission: {permission}"),
    404: ("not_found", "That resource was not found."),
    408: ("timeout", "The request took too long."),
    409: ("conflict", "A request with this idempotency key is in progress."),
    422: ("unprocessable_entity", "That cannot be processed."),
    429: ("rate_limit_exceeded", "Try again in {seconds} seconds."),
}
DEFAULTS = {"method": "*", "path": "*", "operation": "*", "credential": "*", "reused": False, "skip": 0,
            "times": 1, "latency_ms": 0, "reply_ms": 0, "fault": None, "stuck": False, "status": 500,
            "seconds": 12, "permission": "member:basic:read", "headers": {}, "body": None}


class Script:
    def __init__(self):
        self.rules, self.count = [], 0

    def clear(self):
        self.rules = []

    def add(self, wanted):
        """Raises ValueError with a text that says what is wrong."""
        unknown = set(wanted) - set(DEFAULTS)
        if unknown:
            raise ValueError(f"a rule has no {', '.join(sorted(unknown))}; it has {', '.join(DEFAULTS)}")
        rule = {**DEFAULTS, **wanted}
        if "status" in wanted and "fault" not in wanted:
            rule["fault"] = "answer"
        if rule["fault"] not in FAULTS:
            raise ValueError(f"fault is one of {', '.join(map(str, FAULTS))}")
        self.count += 1
        rule.update(id=self.count, seen=0, acted=0)
        self.rules.append(rule)
        return rule

    def match(self, request, call):
        for rule in self.rules:
            if self.fits(rule, request, call):
                rule["seen"] += 1
                if rule["seen"] > rule["skip"] and (rule["times"] == 0 or rule["acted"] < rule["times"]):
                    rule["acted"] += 1
                    return rule
        return None

    @staticmethod
    def fits(rule, request, call):
        return (rule["method"] in ("*", request.method) and fnmatch.fnmatchcase(request.path, rule["path"])
                and fnmatch.fnmatchcase(call["operation"], rule["operation"])
                and rule["credential"] in ("*", call["credential"])
                and (not rule["reused"] or request.turn > 1))

    @staticmethod
    def reply(rule):
        body = rule["body"]
        if body is None:
            kind, text = TEXTS.get(rule["status"], ("api_error", "Something went wrong."))
            body = {"error": {"type": kind, "message": text.format(**rule)}}
        elif isinstance(body, str):
            body = body.encode()
        return Reply(rule["status"], body, rule["headers"])
