"""Every function that a header declares as returning struct err is MUST_CHECK.

The attribute cannot sit on the type: gcc ignores it there. Function types and pointers to functions
cannot carry it and are left alone.
"""
import re
import sys

import lint

PLANTED = {
    "common/io/a.h": "struct err pg_open(const char *url, struct pg **out);\n",
    "common/io/b.h": "MUST_CHECK struct err good(void);\nstruct err\nbad(int a,\n    int b);\n",
    "common/io/c.h": "static inline struct err bad(void)\n{\n    return ERR_NONE;\n}\n",
    "ingest/d.h": "extern struct err bad(void);\n",
}
GOOD = {
    "common/io/a.h": "MUST_CHECK struct err pg_open(const char *url, struct pg **out);\n"
                     "typedef struct err handler(struct slot *slot, const void *job);\n"
                     "struct ops {\n    struct err (*open)(void);\n    struct err last;\n};\n"
                     "const char *err_text(const struct err *err);\n"
                     "#define TRY(e) do { struct err x = (e); } while (0)\n",
}


def check(root):
    for path in lint.files(root, lint.PRODUCT, (".h",)):
        text = lint.without_strings(lint.without_comments(lint.read(root, path)))
        text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lint.blank, text, flags=re.M)
        for match in re.finditer(r"\bstruct\s+err\s+(\w+)\s*\(", text):
            start = max(text.rfind(c, 0, match.start()) for c in ";{}") + 1
            before = text[start:match.start()]
            if not re.search(r"\b(MUST_CHECK|typedef)\b", before) and before.count("(") == before.count(")"):
                yield (f"{path}:{lint.line_of(text, match.start())}: "
                       f"{match.group(1)} returns struct err and is not MUST_CHECK")


if __name__ == "__main__":
    lint.main(sys.modules[__name__])
