"""Compares the gateway's verdicts on resident numbers and credit codes with those of python-stdnum.

    cargo test --test check_digits
    python tests/interop/python/check_digits.py target/tmp/check-digits.tsv

Exit code 0 means that they agree on every number. What stdnum does not look at is asked here: a date of birth in the
future. What it asks beyond the standard, a region that it knows for the year of birth, is counted and no disagreement:
people keep the numbers of regions that are gone.
"""

import argparse
import datetime
from collections import Counter
from pathlib import Path

from stdnum.cn import ric, uscc
from stdnum.exceptions import InvalidComponent, ValidationError

LEAST = 10_000


def main() -> None:
    arguments = argparse.ArgumentParser(description="The gateway's verdicts beside those of python-stdnum.")
    arguments.add_argument("verdicts", type=Path)
    first, *lines = arguments.parse_args().verdicts.read_text(encoding="utf-8").splitlines()
    today = datetime.date.fromisoformat(first.split("\t")[1])
    counted, unknown_regions, disagreements = Counter(), 0, []
    for line in lines:
        kind, number, verdict = line.split("\t")
        if kind == "resident":
            sound, region_known = resident_number(number, today)
            unknown_regions += sound and not region_known
        else:
            sound = uscc.is_valid(number)
        counted[kind, sound] += 1
        if sound != (verdict == "true"):
            disagreements.append(line)
    for line in disagreements[:20]:
        print(f"DISAGREE {line}")
    for kind in ("resident", "credit"):
        right, broken = counted[kind, True], counted[kind, False]
        print(f"ok   {kind}: {right} right, {broken} broken" if min(right, broken) >= LEAST else f"TOO FEW {kind}")
    print(f"note {unknown_regions} right resident numbers have a region that stdnum does not know: a warning only")
    enough = all(counted[kind, sound] >= LEAST for kind in ("resident", "credit") for sound in (True, False))
    if disagreements or not enough:
        raise SystemExit(f"check digits: {len(disagreements)} disagreements")
    print("check digits: all agree")


def resident_number(number: str, today: datetime.date) -> tuple[bool, bool]:
    """Whether a number is sound, and whether its region is known for its year of birth."""
    try:
        region_known = bool(ric.validate(number))
    except (InvalidComponent, KeyError):
        # The check digit is right; the date or the region is not. A region of which stdnum knows the province but no
        # county is a KeyError there.
        region_known = False
    except ValidationError:
        return False, False
    try:
        return ric.get_birth_date(number) <= today, region_known
    except ValidationError:
        return False, False


if __name__ == "__main__":
    main()
