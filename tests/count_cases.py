"""Counts cases in JUnit files: count_cases.py FILE... prints "PASSED FAILED SKIPPED".

CTest has one entry for a program; the cases that cmocka ran in it are taken from what it printed. A
file that is missing or unreadable counts as one failure: whoever should have written it died.
"""
import collections
import re
import sys
import xml.etree.ElementTree as xml

CMOCKA = re.compile(r"\[\s+(PASSED|FAILED|SKIPPED)\s+\]\s+(\d+) test\(s\)")


def count_program(case, total):
    """One entry of CTest."""
    failed = case.find("failure") is not None or case.get("status") == "fail"
    if case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
        total["SKIPPED"] += 1
        return
    inside = collections.Counter()
    for state, number in CMOCKA.findall(case.findtext("system-out") or ""):
        inside[state] += int(number)
    if not inside:
        inside["FAILED" if failed else "PASSED"] = 1
    elif failed and not inside["FAILED"]:
        inside["FAILED"] = 1  # crashed, leaked or ran out of time after the cases that it counted
    total.update(inside)


def count_pytest(cases, total):
    """A case may have two entries, when it failed and its clean-up did too."""
    states = {}
    for case in cases:
        name = (case.get("classname"), case.get("name"))
        if case.find("failure") is not None or case.find("error") is not None:
            states[name] = "FAILED"
        elif case.find("skipped") is not None:
            states.setdefault(name, "SKIPPED")
        else:
            states.setdefault(name, "PASSED")
    total.update(states.values())


def count(paths):
    total = collections.Counter()
    for path in paths:
        try:
            root = xml.parse(path).getroot()
        except (OSError, xml.ParseError):
            total["FAILED"] += 1
            continue
        if root.tag == "testsuites":
            count_pytest(root.iter("testcase"), total)
        else:
            for case in root.iter("testcase"):
                count_program(case, total)
    return total["PASSED"], total["FAILED"], total["SKIPPED"]


if __name__ == "__main__":
    print(*count(sys.argv[1:]))
