"""Alerts ask for metrics that are declared, with labels they have, and say something to a person."""
import os
import re
import sys

import lint

RULES, DECLARED = "deploy/prometheus/rules.yml", "schema/metrics.def"
ENDINGS = ("_bucket", "_sum", "_count")
# From Prometheus itself or its target.
OWN_LABELS = {"job", "instance", "le"}

DEF = ('/* COUNTER(name, labels, help) */\nCOUNTER(a_total, "type,result",\n        "Help.")\n'
       'HISTOGRAM(b_seconds, "", "H.")\n')
RULE = 'groups:\n  - name: x\n    rules:\n      - alert: A\n        expr: {}\n        annotations:\n          summary: "s"\n'


def case(rules):
    return {RULES: rules, DECLARED: DEF}


PLANTED = {
    "an unknown metric": case(RULE.format("whopline_b_total > 0")),
    "an unknown label": case(RULE.format('whopline_a_total{kind="x"} > 0')),
    "an unknown label to sum by": case(RULE.format("sum by (kind) (whopline_a_total) > 0")),
    "a histogram's part of a counter": case(RULE.format("whopline_a_total_sum > 0")),
    "no summary": case(RULE.format("whopline_a_total > 0").replace("summary", "nothing")),
    "no expression": case(RULE.format("").replace("expr", "expression")),
    "no rules": case("groups: []\n"),
    "a tab": case(RULE.format("whopline_a_total > 0").replace("        expr", "\texpr")),
}
GOOD = {
    "all is well": case(RULE.format('sum by (type) (rate(whopline_a_total{result="x"}[5m])) > whopline_b_seconds_sum')),
    "other metrics": case(RULE.format('up{job="x"} == 0')),
    "no such file": {"README.md": ""},
}


def declared(root):
    """name -> (type, its labels)"""
    text = lint.without_comments(lint.read(root, DECLARED))
    found = re.findall(r'^(COUNTER|GAUGE|HISTOGRAM|LATENESS)\((\w+),\s*"([^"]*)"', text, re.MULTILINE)
    return {name: (kind, set(filter(None, labels.split(",")))) for kind, name, labels in found}


def labels_of(metrics, name):
    """None: there is no such metric."""
    if name in metrics:
        return metrics[name][1]
    for ending in ENDINGS:
        base = name.removesuffix(ending)
        if base != name and metrics.get(base, ("",))[0] in ("HISTOGRAM", "LATENESS"):
            return metrics[base][1]
    return None


def check_expression(metrics, text):
    made = set(re.findall(r'label_replace\(.*?,\s*"(\w+)"', text))
    known = OWN_LABELS | made
    for name, selector in re.findall(r"whopline_(\w+)(?:\{([^}]*)\})?", text):
        labels = labels_of(metrics, name)
        if labels is None:
            yield f"whopline_{name} is not in {DECLARED}"
            continue
        known |= labels
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector):
            if label not in labels | OWN_LABELS:
                yield f"whopline_{name} has no label {label}"
    for listed in re.findall(r"\bby \(([^)]*)\)", text):
        for label in re.split(r"[,\s]+", listed.strip()):
            if label not in known:
                yield f"by ({label}): none of the metrics has it"


def check(root):
    if not os.path.exists(os.path.join(root, RULES)):
        return
    metrics, text = declared(root), lint.read(root, RULES)
    if "\t" in text:
        yield f"{RULES}: YAML knows no tabs"
    blocks = re.split(r"^ *- alert: *", text, flags=re.MULTILINE)[1:]
    if not blocks:
        yield f"{RULES}: there are no alerts"
    for block in blocks:
        name = block.split("\n", 1)[0]
        expression = re.search(r"^ *expr: *(\S.*)$", block, re.MULTILINE)
        if expression is None:
            yield f"{RULES}: {name}: no expr on one line"
        elif re.search(r"^ *summary: *\S", block, re.MULTILINE) is None:
            yield f"{RULES}: {name}: no summary"
        else:
            for problem in check_expression(metrics, expression.group(1)):
                yield f"{RULES}: {name}: {problem}"


if __name__ == "__main__":
    lint.main(sys.modules[__name__])
