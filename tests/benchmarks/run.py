"""Measure this machine: ``make bench``.

Writes ``tests/benchmarks/report.json``, ``growth.json`` beside it, and from both the book's page
``book/performance.md`` with its pictures. Takes about ten minutes; nothing else should run.

``--tiny`` goes through everything in little time, and shows only that it works. ``--page`` writes
the page again from the reports there are. ``--machine NAME`` measures another machine: its rows go
into ``report_NAME.json``, from which the page takes a column, and the curves stay as they are.
"""

import argparse
import json
import tempfile
from pathlib import Path

from growth import growth
from measure import as_json
from page import write_page
from rows import TINY, Bench, Sizes

from wmlib.checkpoints import write_json

HERE = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--machine", default="", help="a second machine's name, one word")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the reports")
    parser.add_argument("--book", type=Path, default=HERE.parents[1] / "book")
    args = parser.parse_args(argv)
    name = f"report_{args.machine}.json" if args.machine else "report.json"
    report, curves = args.out / name, args.out / "growth.json"
    if not args.page:
        with tempfile.TemporaryDirectory() as scratch:
            bench = Bench(TINY if args.tiny else Sizes(), Path(scratch))
            rows = []
            for row in bench:
                print(json.dumps(as_json([row])[0]), flush=True)
                rows.append(row)
            write_json(report, as_json(bench.products.hold_against(rows)))
            if not args.machine:
                write_json(curves, growth(bench, args.tiny))
    write_page(args.out, args.book)


if __name__ == "__main__":  # the yardsticks' processes import this file again
    main()
