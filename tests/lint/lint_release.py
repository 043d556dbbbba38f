"""Release programs hold no fault points: neither their names nor the code that reads FAULT.

Skipped (77) where there is no release build; `./dev lint` after `./dev build release` checks it.
"""
import os
import re
import sys

import lint

DEF = 'FAULT_POINT(before_accept, "meaning")\n'
PLANTED = {"name": {"schema/faults.def": DEF, "build/release/bin/x": "\0other\0before_accept\0"},
           "code": {"schema/faults.def": DEF, "build/release/bin/x": "\0fault_hit\0"}}
GOOD = {"clean": {"schema/faults.def": DEF, "build/release/bin/x": "\0on_before_accepting\0"}}


def check(root):
    names = re.findall(r"^FAULT_POINT\((\w+)", lint.read(root, "schema/faults.def"), re.M)
    names += ["fault_hit", "fault_load"]
    if len(names) < 3:
        yield "schema/faults.def: no fault points found"
    folder = os.path.join(root, "build/release/bin")
    for program in sorted(os.listdir(folder)):
        with open(os.path.join(folder, program), "rb") as file:
            content = file.read()
        for name in names:
            if b"\0" + name.encode() + b"\0" in content:
                yield f"build/release/bin/{program}: holds {name}"


if __name__ == "__main__":
    if sys.argv[1] != "--self-test" and not os.path.isdir(os.path.join(sys.argv[1], "build/release/bin")):
        print("no release build")
        sys.exit(77)
    lint.main(sys.modules[__name__])
