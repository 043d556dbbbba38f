"""Medians, ratios and tables."""
import json
import statistics


def median(values):
    return statistics.median(values)


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def table(columns, rows):
    """columns: (title, width, digits); rows: (name, values in the order of the columns)."""
    print(f"{'':24}" + "".join(f"{title:>{width}}" for title, width, _ in columns))
    for name, values in rows:
        cells = (" " * width if value is None else f"{value:{width},.{digits}f}"
                 for value, (_, width, digits) in zip(values, columns))
        print(f"{name:24}" + "".join(cells))
    print(flush=True)


def ratio(what, pairs):
    """pairs: (ours, theirs), one of each round."""
    values = sorted(ours / theirs for ours, theirs in pairs)
    print(f"{what}: {median(values):.2f}  ({values[0]:.2f} to {values[-1]:.2f})", flush=True)
    return median(values)


def finish(options, result):
    """For a program that reads: the result in one last line."""
    if options.json:
        print(json.dumps(result))
