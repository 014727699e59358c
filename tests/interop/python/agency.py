"""An agency as a client of the gateway: its certificate, its stubs, and what every request carries.

This file is what an integrator needs; it shares no code with the gateway. The stubs are generated from `proto/`.
"""

import datetime
import hashlib
import importlib
import sys
import tomllib
import uuid
from pathlib import Path

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from grpc_tools import protoc

PACKAGE = "legalaid.exchange.v1"
# Legal dates are those of the office, wherever the client runs.
SHANGHAI = datetime.timezone(datetime.timedelta(hours=8))
DEADLINE_SECONDS = 10


def generate_stubs(proto: Path, into: Path) -> None:
    """Compiles the contract, and nothing else, to Python modules in `into`."""
    files = sorted(str(path) for path in (proto / "legalaid").rglob("*.proto"))
    includes = [f"-I{proto}", f"-I{Path(protoc.__file__).parent / '_proto'}"]
    if protoc.main(["protoc", *includes, f"--python_out={into}", f"--grpc_python_out={into}", *files]) != 0:
        raise SystemExit("proto/ does not compile")
    sys.path.insert(0, str(into))


def contract(name: str):
    """A generated module, such as `envelope_pb2`. google.type.Date comes from googleapis-common-protos."""
    return importlib.import_module(f"{PACKAGE}.{name}")


class Agency:
    """Calls the gateway as the agency of a profile that `init` made, such as `centre.toml`."""

    def __init__(self, profile: Path):
        with profile.open("rb") as file:
            self.profile = tomllib.load(file)
        self.code = self.profile["agency"]
        files = self.profile["tls"]
        read = lambda name: (profile.parent / files[name]).read_bytes()
        self.channel = dial(
            self.profile["gateway"]["address"],
            self.profile["gateway"]["server_name"],
            trusted=read("authorities"),
            key=read("private_key"),
            certificate=read("certificate"),
        )
        self.verification = contract("verification_service_pb2_grpc").VerificationServiceStub(self.channel)
        self.exchanges = contract("exchange_service_pb2_grpc").ExchangeServiceStub(self.channel)
        self.audit = contract("audit_service_pb2_grpc").AuditServiceStub(self.channel)

    def envelope(self, kind: str, purpose: str, **fields):
        """The outside of a message: who asks whom, for which matter, on which legal ground."""
        pb = contract("envelope_pb2")
        return pb.Envelope(
            request_id=str(uuid.uuid4()),
            matter_id="LQ-2026-0042",
            kind=pb.Kind.Value(kind),
            schema_version=1,
            sender=self.code,
            region=self.profile["region"],
            operator=self.operator(),
            purpose=purpose,
            classification=pb.Classification(sensitive=True, minor_under_14=False),
            **fields,
        )

    def context(self, purpose: str):
        """The context of a call that carries no message."""
        pb = contract("envelope_pb2")
        return pb.CallContext(request_id=str(uuid.uuid4()), operator=self.operator(), purpose=purpose)

    def operator(self):
        pb = contract("envelope_pb2")
        return pb.Operator(**self.profile["operator"])


def dial(address: str, server_name: str, trusted: bytes, key: bytes | None, certificate: bytes | None):
    """A channel with mutual TLS. The name is given apart, because the address may be an IP address."""
    credentials = grpc.ssl_channel_credentials(trusted, key, certificate)
    return grpc.secure_channel(address, credentials, options=[("grpc.ssl_target_name_override", server_name)])


def details(error: grpc.RpcError) -> dict[str, object]:
    """The rich error details of a refusal by message name (google.rpc, in `grpc-status-details-bin`)."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            found = {}
            for detail in status_pb2.Status.FromString(value).details:
                name = detail.TypeName().rpartition(".")[2]
                message = getattr(error_details_pb2, name)()
                detail.Unpack(message)
                found.setdefault(name, message)
            return found
    return {}


def today() -> dict[str, int]:
    """Today's legal date, as the fields of a google.type.Date."""
    now = datetime.datetime.now(SHANGHAI)
    return {"year": now.year, "month": now.month, "day": now.day}


def now() -> Timestamp:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp


def root_of(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """The root that an inclusion proof leads to (RFC 9162, section 2.1.3.2)."""
    if index >= size:
        raise ValueError("the entry lies beyond the tree")
    node, last, root = index, size - 1, leaf
    for neighbour in path:
        if last == 0:
            raise ValueError("the proof is too long")
        if node & 1 or node == last:
            root = hashlib.sha256(b"\x01" + neighbour + root).digest()
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            root = hashlib.sha256(b"\x01" + root + neighbour).digest()
        node, last = node >> 1, last >> 1
    if last != 0:
        raise ValueError("the proof is too short")
    return root
