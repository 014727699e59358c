"""Runs the gateway with its simulated agencies, and does a legal-aid centre's work against it from Python.

    python tests/interop/python/interop.py --gateway target/debug/legal-aid-gateway

Exit code 0 means that every line was met.
"""

import argparse
import base64
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import uuid
from pathlib import Path

import grpc

from agency import DEADLINE_SECONDS, Agency, contract, details, dial, generate_stubs, now, root_of, today
from transparency import Fraud, Log, NoteKey, read_receipt, verify_log, verify_proof

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_SECONDS = 30


def main() -> None:
    arguments = argparse.ArgumentParser(description="The gateway, asked by a client that shares no code with it.")
    arguments.add_argument("--gateway", type=Path, default=ROOT / "target/debug/legal-aid-gateway")
    gateway = arguments.parse_args().gateway.resolve()
    with tempfile.TemporaryDirectory(prefix="legal-aid-interop-") as scratch:
        scratch = Path(scratch)
        (scratch / "stubs").mkdir()
        generate_stubs(ROOT / "proto", scratch / "stubs")
        running = Running(gateway, scratch / "gw")
        with running as folder:
            centre, auditor = Agency(folder / "centre.toml"), Agency(folder / "auditor.toml")
            household_is_verified(centre)
            households_are_verified_on_one_stream(centre)
            fee_waiver_is_decided(centre, folder)
            everything_wrong_is_said_at_once(centre)
            strangers_are_refused(gateway, folder, scratch)
            refusals_are_in_the_log(auditor, folder)
            published_log_is_what_its_key_signed(gateway, folder, running.tiles_port)
    print("interop: all met")


def household_is_verified(centre: Agency) -> None:
    answer = centre.verification.VerifyLowIncome(low_income_request(centre), timeout=DEADLINE_SECONDS)
    result = contract("verification_service_pb2").VerificationResult.Name(answer.answer.result)
    met("a household on the register is a match", result == "VERIFICATION_RESULT_MATCH", result)
    met("the answer names its evidence", answer.HasField("audit"), f"log index {answer.audit.log_index}")


def households_are_verified_on_one_stream(centre: Agency) -> None:
    """BatchVerify: each question has its own answer and evidence; what is wrong with one is its result alone."""
    pb = contract("verification_service_pb2")
    known, unknown, broken = (low_income_request(centre) for _ in range(3))
    unknown.query.subject.name, unknown.query.subject.id_number = "测试乙", "331004199002020026"
    broken.query.subject.id_number = "331004198001010017"

    def questions():
        # The context goes with the first message.
        yield pb.BatchVerifyRequest(context=centre.context("AID_ELIGIBILITY"), low_income=known)
        yield pb.BatchVerifyRequest(low_income=broken)
        yield pb.BatchVerifyRequest(low_income=unknown)

    answers = {}
    for answer in centre.verification.BatchVerify(questions(), timeout=DEADLINE_SECONDS):
        answers[answer.number] = answer
    met("every question of a stream has its result", sorted(answers) == [1, 2, 3], sorted(answers))
    met("each under its own request id", answers[3].request_id == unknown.envelope.request_id)
    results = [pb.VerificationResult.Name(answers[number].low_income.answer.result) for number in (1, 3)]
    wanted = ["VERIFICATION_RESULT_MATCH", "VERIFICATION_RESULT_NO_MATCH"]
    met("one is on the register, one is not", results == wanted, ", ".join(results))
    rules = [violation.rule for violation in answers[2].refusal.violations]
    met("a broken one is refused by itself", rules == ["RESIDENT_ID_CHECK"], ", ".join(rules))
    entries = {answers[1].low_income.audit.log_index, answers[2].refusal.audit.log_index}
    entries.add(answers[3].low_income.audit.log_index)
    met("each has its own entry in the log", len(entries) == 3, sorted(entries))


def fee_waiver_is_decided(centre: Agency, folder: Path) -> None:
    pb = contract("exchange_service_pb2")
    request = fee_waiver_request(centre, court_of(folder))
    submitted = centre.exchanges.SubmitExchange(request, timeout=DEADLINE_SECONDS)
    exchange_id = submitted.exchange.exchange_id
    met("a fee waiver is taken", bool(exchange_id), f"exchange {exchange_id}, log index {submitted.audit.log_index}")

    again = centre.exchanges.SubmitExchange(request, timeout=DEADLINE_SECONDS)
    met("the same request again is the same exchange", again == submitted, again.exchange.exchange_id)

    seen = set()
    decision = None
    until = time.monotonic() + PATIENCE_SECONDS
    while decision is None and time.monotonic() < until:
        for message in take_deliveries(centre):
            if message.exchange_id != exchange_id:
                continue
            arm = message.response.WhichOneof("kind")
            seen.add(arm)
            if arm == "supplement_request":
                respond(centre, message, pb.Response(supplement=pb.Supplement(note="委托书已补交")))
            if arm == "fee_waiver_decision":
                decision = message.response.fee_waiver_decision
        time.sleep(0.1)
    met("the court's receipt was pulled", "receipt" in seen, ", ".join(sorted(seen)))
    met("the decision was pulled, and its digest is right", decision is not None, decision and decision.notice_number)

    asked = pb.GetExchangeRequest(context=centre.context("FEE_WAIVER"), exchange_id=exchange_id)
    exchange = centre.exchanges.GetExchange(asked, timeout=DEADLINE_SECONDS).exchange
    state = pb.ExchangeState.Name(exchange.state)
    met("the exchange is decided", state == "EXCHANGE_STATE_DECIDED", f"{state}, {len(exchange.thread)} messages")


def take_deliveries(centre: Agency):
    """Pulls what waits, checks each digest over the bytes, and acknowledges."""
    pb = contract("exchange_service_pb2")
    pull = pb.PullDeliveriesRequest(context=centre.context("FEE_WAIVER"))
    for delivery in centre.exchanges.PullDeliveries(pull, timeout=DEADLINE_SECONDS).deliveries:
        sha256 = hashlib.sha256(delivery.message).digest()
        if sha256 != delivery.message_sha256:
            raise Missed("a delivery's digest is not that of its bytes")
        acknowledge = pb.AcknowledgeDeliveryRequest(
            context=centre.context("FEE_WAIVER"), delivery_id=delivery.delivery_id, message_sha256=sha256
        )
        centre.exchanges.AcknowledgeDelivery(acknowledge, timeout=DEADLINE_SECONDS)
        yield pb.ExchangeMessage.FromString(delivery.message)


def respond(centre: Agency, to, response) -> None:
    envelope = centre.envelope(
        "KIND_FEE_WAIVER", "FEE_WAIVER", recipient=to.envelope.sender, in_reply_to=to.exchange_id,
        legal_basis=[{"law": "诉讼费用交纳办法", "article": "48"}],
    )
    request = contract("exchange_service_pb2").RespondToExchangeRequest(envelope=envelope, response=response)
    centre.exchanges.RespondToExchange(request, timeout=DEADLINE_SECONDS)


def everything_wrong_is_said_at_once(centre: Agency) -> None:
    request = low_income_request(centre)
    request.envelope.purpose = ""
    request.envelope.schema_version = 9
    request.query.subject.id_number = "331004198001010017"
    request.query.as_of.year += 1
    request.query.ClearField("authority")
    refused = refusal(lambda: centre.verification.VerifyLowIncome(request, timeout=DEADLINE_SECONDS))
    met("a bad request is refused as such", refused.code() == grpc.StatusCode.INVALID_ARGUMENT, refused.code().name)
    found = details(refused)
    paths = sorted(violation.field for violation in found["BadRequest"].field_violations)
    wanted = sorted([
        "envelope.purpose", "envelope.schema_version", "query.subject.id_number", "query.as_of", "query.authority",
    ])
    met("every violation is listed, by its path", paths == wanted, ", ".join(paths))
    met("the reason can be read by a machine", found["ErrorInfo"].reason == "INVALID_REQUEST", found["ErrorInfo"].domain)
    said = refused.details() + str(found)
    met("no personal value is repeated", "331004198001010017" not in said and "测试甲" not in said)


def strangers_are_refused(gateway: Path, folder: Path, scratch: Path) -> None:
    centre = tomllib.loads((folder / "centre.toml").read_text())
    address = centre["gateway"]["address"]
    trusted = (folder / "tls/authority.crt.pem").read_bytes()

    def turned_away(who: str, key: bytes | None, certificate: bytes | None) -> None:
        channel = dial(address, "localhost", trusted, key, certificate)
        stub = contract("verification_service_pb2_grpc").VerificationServiceStub(channel)
        request = contract("verification_service_pb2").VerifyLowIncomeRequest()
        error = refusal(lambda: stub.VerifyLowIncome(request, timeout=DEADLINE_SECONDS))
        # The connection was made and then ended by the gateway: it is not that nobody was there.
        by_the_gateway = error.code() == grpc.StatusCode.UNAVAILABLE and "refused" not in error.details().lower()
        met(f"{who}: refused", by_the_gateway, f"{error.code().name}, {error.details()}")

    turned_away("without a certificate", None, None)

    subprocess.run([gateway, "init", scratch / "other"], check=True, stdout=subprocess.DEVNULL)
    other = [(scratch / "other/tls" / name).read_bytes() for name in ("centre.key.pem", "centre.crt.pem")]
    turned_away("with a certificate of another authority", *other)

    stranger = [(folder / "tls" / name).read_bytes() for name in ("stranger.key.pem", "stranger.crt.pem")]
    turned_away("with a certificate of an agency that is not enrolled", *stranger)


def refusals_are_in_the_log(auditor: Agency, folder: Path) -> None:
    pb = contract("audit_service_pb2")
    request = pb.ListEntriesRequest(
        context=auditor.context("AUDIT_INSPECTION"), filter=pb.EntryFilter(phase="HANDSHAKE_REFUSED")
    )
    entries = []
    while True:
        page = auditor.audit.ListEntries(request, timeout=DEADLINE_SECONDS)
        entries.extend(page.entries)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
        request.context.request_id = str(uuid.uuid4())
    stranger = tomllib.loads((folder / "stranger.toml").read_text())["agency"]
    told = [(entry, json.loads(entry.entry)) for entry in entries]
    of_stranger = [(entry, text) for entry, text in told if text.get("caller") == stranger]
    reasons = {text["reason"] for _, text in of_stranger}
    met("the stranger is in the audit log", reasons == {"AGENCY_NOT_ENROLLED"}, ", ".join(sorted(reasons)))
    others = len(told) - len(of_stranger)
    met("who was not authenticated is not: nobody can fill the log from outside", others == 0, f"{others} others")

    entry = of_stranger[0][0]
    leaf = hashlib.sha256(b"\x00" + entry.entry).digest()
    request = pb.GetInclusionProofRequest(context=auditor.context("AUDIT_INSPECTION"), index=entry.index)
    proof = auditor.audit.GetInclusionProof(request, timeout=DEADLINE_SECONDS)
    root = root_of(leaf, proof.index, proof.tree_size, list(proof.hashes))
    signed_root = proof.checkpoint.split("\n")[2]
    met("its inclusion is proven against the checkpoint", base64.b64encode(root).decode() == signed_root, signed_root)


def published_log_is_what_its_key_signed(gateway: Path, folder: Path, port: int) -> None:
    """Checkpoint, tiles, entries and a receipt, by a verifier that was written from the specifications alone."""
    run = lambda *arguments: subprocess.run([gateway, *arguments], check=True, capture_output=True, text=True).stdout
    key = NoteKey(run("audit", "key", "--config", folder / "gateway.toml"))
    tls = folder / "tls"
    as_agency = lambda name: Log(
        f"https://127.0.0.1:{port}", tls / "authority.crt.pem", tls / f"{name}.crt.pem", tls / f"{name}.key.pem",
        "localhost",
    )
    log = as_agency("auditor")
    # More than a tile full, so that there is more than one level.
    while log.checkpoint(key).size <= 300:
        pass
    checkpoint, entries = verify_log(log, key)
    met("entries, tiles and the signed root agree", len(entries) == checkpoint.size, f"{checkpoint.size} entries")

    submitted = next(i for i, entry in enumerate(entries) if json.loads(entry)["method"] == "SubmitExchange")
    receipt = folder / "entry.receipt"
    run(
        "audit", "receipt", str(submitted), "--as", folder / "centre.toml", "--purpose", "FEE_WAIVER",
        "--out", receipt,
    )
    entry, proof = read_receipt(receipt.read_text(encoding="utf-8"))
    index, signed = verify_proof(proof, entry, key)
    met("a receipt proves its entry", (index, entry) == (submitted, entries[submitted]), f"{index} of {signed.size}")
    for what, changed_entry, changed_proof in [
        ("entry", entry.replace(b"SubmitExchange", b"submitExchange"), proof),
        ("index", entry, proof.replace(f"index {index}\n", f"index {index + 1}\n")),
        ("size", entry, proof.replace(f"\n{signed.size}\n", f"\n{signed.size + 1}\n")),
    ]:
        try:
            verify_proof(changed_proof, changed_entry, key)
            found = ""
        except Fraud as fraud:
            found = str(fraud)
        met(f"a receipt with another {what} proves nothing", bool(found), found)
    try:
        as_agency("centre").checkpoint(key)
        refused = ""
    except Fraud as fraud:
        refused = str(fraud)
    met("who has no agreement for it fetches nothing", "HTTP 403" in refused, refused)


def low_income_request(centre: Agency):
    pb = contract("verification_service_pb2")
    envelope = centre.envelope(
        "KIND_LOW_INCOME_QUERY", "AID_ELIGIBILITY", legal_basis=[{"law": "法律援助法", "article": "41"}]
    )
    query = pb.LowIncomeQuery(
        subject=pb.Subject(
            name="测试甲", id_kind="ID_KIND_RESIDENT_ID", id_number="331004198001010016", household_region="331004"
        ),
        household_scope="HOUSEHOLD_SCOPE_HOUSEHOLD",
        programmes=["PROGRAMME_MINIMUM_ALLOWANCE"],
        as_of=today(),
        authority=pb.Authority(kind="AUTHORITY_KIND_STATUTE"),
    )
    return pb.VerifyLowIncomeRequest(envelope=envelope, query=query)


def fee_waiver_request(centre: Agency, court: str):
    pb, envelopes, waivers = (contract(f"{name}_pb2") for name in ("exchange_service", "envelope", "fee_waiver"))
    envelope = centre.envelope(
        "KIND_FEE_WAIVER", "FEE_WAIVER", recipient=court, legal_basis=[{"law": "法律援助法", "article": "53"}]
    )
    fee_waiver = waivers.FeeWaiverRequest(
        applicant=envelopes.Person(
            name="测试甲", id_kind="ID_KIND_RESIDENT_ID", id_number="331004198001010016", household_region="331004",
            phone="13800000000", groups=["GROUP_MINIMUM_ALLOWANCE"],
        ),
        applicant_kind="APPLICANT_KIND_NATURAL_PERSON",
        court_case=waivers.CourtCase(
            court=court, cause_of_action="机动车交通事故责任纠纷", instance="INSTANCE_FIRST", role="PARTY_ROLE_PLAINTIFF"
        ),
        claim_kind="CLAIM_KIND_PROPERTY",
        claimed_sum_fen=10_000_000,
        fee_fen=230_000,
        relief="RELIEF_DEFER",
        ground="RELIEF_GROUND_47_3",
        aid_decision=waivers.AidDecision(
            centre=centre.code, number="2026-0042", decided_on=today(),
            document_sha256=hashlib.sha256("法律援助决定书".encode()).digest(),
        ),
        reason="正在接受法律援助，无力预交案件受理费",
        filed_at=now(),
    )
    return pb.SubmitExchangeRequest(envelope=envelope, content=pb.Content(fee_waiver=fee_waiver))


def court_of(folder: Path) -> str:
    return tomllib.loads((folder / "court.toml").read_text())["agency"]


class Running:
    """A folder from `init`, and the gateway, a registry and a court on it, each a process of its own."""

    def __init__(self, gateway: Path, folder: Path):
        self.gateway, self.folder, self.processes = gateway, folder, []
        # Where auditors' tools fetch the log.
        self.tiles_port = 0

    def __enter__(self) -> Path:
        port = free_ports(3)
        subprocess.run([self.gateway, "init", self.folder, "--port", str(port)], check=True, stdout=subprocess.DEVNULL)
        try:
            self.start("simulate", "registry", "--config", self.folder / "simulate-registry.toml")
            self.start("simulate", "court", "--config", self.folder / "simulate-court.toml")
            self.tiles_port = free_ports(1)
            listen = {"LEGAL_AID_GATEWAY__AUDIT__TILES__LISTEN": f"127.0.0.1:{self.tiles_port}"}
            self.start("serve", "--config", self.folder / "gateway.toml", environment=listen)
        except BaseException:
            self.__exit__()
            raise
        return self.folder

    def start(self, *arguments, environment: dict[str, str] | None = None) -> None:
        """Starts one, and waits until it says that it listens."""
        settings = os.environ | (environment or {})
        process = subprocess.Popen([self.gateway, *arguments], stdout=subprocess.PIPE, text=True, env=settings)
        self.processes.append(process)
        line = process.stdout.readline()
        if "listening" not in line:
            raise Missed(f"{arguments[0]} did not start: {line}")

    def __exit__(self, *_) -> None:
        for process in reversed(self.processes):
            process.send_signal(signal.SIGINT)
        for process in self.processes:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()


def free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            held = [socket.socket() for _ in range(count - 1)]
            try:
                for offset, other in enumerate(held, 1):
                    other.bind(("127.0.0.1", port + offset))
                return port
            except (OSError, OverflowError):
                continue
            finally:
                for other in held:
                    other.close()


class Missed(Exception):
    pass


def refusal(call) -> grpc.RpcError:
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise Missed("was let in, and should not have been")


def met(what: str, holds: bool, seen: object = "") -> None:
    print(f"{'ok  ' if holds else 'MISS'}  {what}" + (f": {seen}" if seen else ""), flush=True)
    if not holds:
        raise Missed(what)


if __name__ == "__main__":
    try:
        main()
    except Missed as missed:
        sys.exit(f"interop: missed: {missed}")
    except grpc.RpcError as error:
        sys.exit(f"interop: {error.code().name}: {error.details()} {details(error)}")
