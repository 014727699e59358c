"""Reads the gateway's exports with what others wrote: fhir.resources for FHIR AuditEvent, Python's csv for CSV.

    cargo test --test exports
    python tests/interop/python/check_exports.py target/tmp/exports

Exit code 0 means that every line of both is what it says it is. fhir.resources has R4B, whose AuditEvent is R4's. OCSF
has no validator on PyPI that knows the schema offline: its required attributes are checked here once more.
"""

import argparse
import csv
import io
import json
from pathlib import Path

from fhir.resources.R4B.auditevent import AuditEvent

OCSF_REQUIRED = ["activity_id", "actor", "api", "category_uid", "class_uid", "metadata", "severity_id", "src_endpoint", "time", "type_uid"]


def main() -> None:
    arguments = argparse.ArgumentParser(description="The gateway's exports, read by what others wrote.")
    arguments.add_argument("folder", type=Path)
    folder = arguments.parse_args().folder
    fhir = fhir_lines(folder / "entries.fhir.jsonl")
    ocsf = ocsf_lines(folder / "entries.ocsf.jsonl")
    rows = csv_rows(folder / "entries.csv")
    print(f"ok   {fhir} FHIR resources, {ocsf} OCSF events, {rows} CSV rows")
    if min(fhir, ocsf, rows) == 0:
        raise SystemExit("exports: nothing to check; run cargo test --test exports")
    print("exports: all as specified")


def fhir_lines(path: Path) -> int:
    lines = path.read_text(encoding="utf-8").splitlines()
    for place, line in enumerate(lines):
        event = AuditEvent.model_validate_json(line)
        assert int(event.entity[0].what.identifier.value) == place, line
        assert event.outcome in (None, "0", "4", "8", "12"), line
        assert sum(agent.requestor for agent in event.agent) == 1, line
    return len(lines)


def ocsf_lines(path: Path) -> int:
    lines = path.read_text(encoding="utf-8").splitlines()
    for place, line in enumerate(lines):
        event = json.loads(line)
        missing = [name for name in OCSF_REQUIRED if name not in event]
        assert not missing, f"{missing} in {line}"
        assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"], line
        assert isinstance(event["time"], int) and len(str(event["time"])) == 13, "milliseconds"
        assert event["metadata"]["sequence"] == place, line
    return len(lines)


def csv_rows(path: Path) -> int:
    raw = path.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf") and raw.count(b"\n") == raw.count(b"\r\n"), "a mark, and CRLF"
    rows = list(csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True))
    for place, row in enumerate(rows):
        assert None not in row and None not in row.values() and int(row["index"]) == place, row
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row.values()), row
    return len(rows)


if __name__ == "__main__":
    main()
