"""Functions nobody calls here, and what to call instead."""
import re
import sys

import lint

BANNED = {
    "strcpy": "snprintf or memcpy with a checked length",
    "strcat": "struct buf",
    "stpcpy": "struct buf",
    "strncat": "struct buf",
    "sprintf": "snprintf or buf_printf",
    "vsprintf": "vsnprintf",
    "gets": "fgets",
    "strtok": "strcspn",
    "atoi": "strtol with errno and end checked",
    "atol": "strtol with errno and end checked",
    "atoll": "strtoll with errno and end checked",
    "atof": "no floating point for what others sent",
    "system": "fork and execve",
    "popen": "fork and execve",
    "alloca": "the arena",
    "rand": "base/random.h",
    "srand": "base/random.h",
    "random": "base/random.h",
    "tmpnam": "mkstemp",
    "mktemp": "mkstemp",
}
PATTERN = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")

PLANTED = {f"common/base/{name}.c": f"void f(void) {{ {name} (x); }}\n" for name in BANNED}
GOOD = {
    "common/base/a.c": '/* strcpy(a, b) */ const char *t = "atoi(x)"; my_system(1); x->random(2);\n',
    "common/base/b.c": "snprintf(a, 1, \"\"); strtok_r(a, b, c);\n",
}


def check(root):
    for path in lint.files(root, lint.PRODUCT + ("tests",), (".c", ".h")):
        text = lint.without_strings(lint.without_comments(lint.read(root, path)))
        for match in PATTERN.finditer(text):
            name = match.group(1)
            yield f"{path}:{lint.line_of(text, match.start())}: {name}: use {BANNED[name]}"


if __name__ == "__main__":
    lint.main(sys.modules[__name__])
