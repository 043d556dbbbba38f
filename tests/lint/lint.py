"""What the lints share: the files, C without its comments, and the self-test.

A lint is a module with check(root) that yields "path:line: what is wrong", and PLANTED, a dict of
path -> content: files which break its rule. `lint_x.py ROOT` checks a tree; `lint_x.py --self-test`
plants each of the files, alone, in an empty tree and fails unless check() objects to it. GOOD is
the opposite: files that check() must let pass.
"""
import os
import re
import sys
import tempfile

PRODUCT = ("common", "ingest", "workers", "report", "cli")
SKIPPED = {".git", ".dev", "build", "__pycache__", ".pytest_cache"}


def files(root, folders=(".",), endings=("",)):
    """Paths below root, relative to it, in order."""
    for folder in folders:
        for here, below, names in os.walk(os.path.join(root, folder)):
            below[:] = sorted(set(below) - SKIPPED)
            for name in sorted(set(names) - SKIPPED):
                if name.endswith(tuple(endings)):
                    yield os.path.normpath(os.path.relpath(os.path.join(here, name), root))


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def blank(match):
    """Spaces for everything but line ends, so that lines and columns stay where they were."""
    return re.sub(r"[^\n]", " ", match.group(0))


def without_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*|(\"(?:\\.|[^\"\\\n])*\")",
                  lambda m: m.group(0) if m.group(1) else blank(m), text, flags=re.S)


def without_strings(text):
    return re.sub(r"\"(?:\\.|[^\"\\\n])*\"", blank, text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def self_test(module):
    failures = []
    cases = [(path, content, True) for path, content in module.PLANTED.items()]
    cases += [(path, content, False) for path, content in getattr(module, "GOOD", {}).items()]
    for path, content, wrong in cases:
        with tempfile.TemporaryDirectory(prefix="wl-lint-") as root:
            # Several files can make up one case: {"a.c": {"a.c": ..., "b.c": ...}}
            for name, text in (content if isinstance(content, dict) else {path: content}).items():
                os.makedirs(os.path.join(root, os.path.dirname(name)), exist_ok=True)
                with open(os.path.join(root, name), "w", encoding="utf-8") as file:
                    file.write(text)
            found = list(module.check(root))
            if bool(found) != wrong:
                failures.append(f"{path}: " + ("planted, not found" if wrong else f"wrongly: {found}"))
    return failures


def main(module):
    if sys.argv[1:] == ["--self-test"]:
        found = self_test(module)
    else:
        found = list(module.check(*sys.argv[1:]))
    for line in found:
        print(line)
    sys.exit(1 if found else 0)
