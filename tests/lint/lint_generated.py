"""Checked-in generated texts equal what the program writes now."""
import os
import subprocess
import sys

import lint

TEXTS = {"deploy/env.example": "example", "docs/settings.md": "reference",
         "docs/metrics.md": "metrics"}


def generate(program, verb):
    return subprocess.run([program, "config", verb], check=True, capture_output=True, text=True).stdout


def compare(root, path, fresh):
    try:
        kept = lint.read(root, path)
    except OSError:
        kept = None
    if not fresh:
        yield f"{path}: the program writes nothing"
    elif kept != fresh:
        yield f"{path}: is {'missing' if kept is None else 'out of date'}"


def check(root, program):
    for path, verb in TEXTS.items():
        for line in compare(root, path, generate(program, verb)):
            yield f"{line}; write it anew: build/dev/bin/whopline config {verb} >{path}"


def self_test():
    own = os.path.dirname(os.path.abspath(__file__))
    name = os.path.basename(__file__)
    kept = lint.read(own, name)
    if list(compare(own, name, kept)):
        yield "equal texts were called different"
    for what, found in (("a changed text", compare(own, name, kept + "\n")),
                        ("a missing file", compare(own, "no-such-file", kept)),
                        ("an empty text", compare(own, name, ""))):
        if not list(found):
            yield f"{what} was not found"


if __name__ == "__main__":
    found = list(self_test() if sys.argv[1:] == ["--self-test"] else check(*sys.argv[1:]))
    print("\n".join(found))
    sys.exit(1 if found else 0)
