"""Checks what `demo --json` printed: all steps held in good time, the log was verified, the changed byte found."""

import json
import sys

STEPS = [
    "household_on_register", "household_not_on_register", "poverty_household", "registry_down", "answered_later",
    "batch_of_people", "eligibility_assessed", "fee_waiver", "decision_paper", "same_request_again", "judicial_relief",
    "clock_of_the_law", "appeal_referral", "counsel_notice", "direct_assignment_report", "cooperation_request",
    "changes_watched", "court_queries_registry", "no_certificate", "receipt_kept", "person_erased", "audit_verified_from_outside",
    "tampering_detected", "old_backup_refused",
]

LONGEST_MS = 15_000

with open(sys.argv[1], encoding="utf-8") as file:
    told = json.load(file)
for step in told["steps"]:
    print(f"{'ok  ' if step['ok'] else 'MISS'}  {step['name']}: {step['elapsed_ms']} ms, log index {step['log_index']}")
missing = [name for name in STEPS if not any(step["name"] == name and step["ok"] for step in told["steps"])]
audit = told["audit"]
if missing or not all(step["ok"] for step in told["steps"]):
    sys.exit(f"the demonstration missed: {missing}")
if not (audit["verified"] and audit["tamper_detected"] and audit["size"] > 0 and audit["root"]):
    sys.exit(f"the audit log was not verified: {audit}")
took = sum(step["elapsed_ms"] for step in told["steps"])
if took > LONGEST_MS:
    sys.exit(f"the demonstration took {took} ms; it is to stay below {LONGEST_MS} ms")
