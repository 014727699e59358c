"""A verifier of the published log, written from the specifications alone: RFC 6962 and C2SP signed-note,
tlog-checkpoint, tlog-tiles and tlog-proof. It shares no code with the gateway.

    python tests/interop/python/transparency.py --url https://HOST:PORT --key KEY --certificate auditor.crt.pem \\
        --private-key auditor.key.pem --authority authority.crt.pem [--receipt FILE]

It fetches the checkpoint, every entry bundle and every tile, recomputes the root from the entries, and holds each of
these against the others and against the note's signature. Exit code 0 means that all of it agrees.
"""

import argparse
import base64
import hashlib
import http.client
import socket
import ssl
import struct
import sys
import urllib.parse
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TILE_WIDTH = 256
ED25519 = 0x01


class Fraud(Exception):
    """Something is not what the log's key signed, or not of the form that a specification gives it."""


class NoteKey:
    """An Ed25519 verifier key of signed-note: <name>+<8 hex digits>+<base64 of type byte and key>."""

    def __init__(self, text: str):
        self.name, key_hash, encoded = text.strip().split("+", 2)
        typed = base64.b64decode(encoded, validate=True)
        if len(typed) != 33 or typed[0] != ED25519:
            raise Fraud("not an Ed25519 key")
        self.key_hash = hashlib.sha256(self.name.encode() + b"\n" + typed).digest()[:4]
        if self.key_hash.hex() != key_hash:
            raise Fraud("the key's hash does not belong to it")
        self.public = Ed25519PublicKey.from_public_bytes(typed[1:])

    def open(self, note: str) -> str:
        """The text of a note that this key signed; signatures by others are passed over."""
        text, found, signatures = note.rpartition("\n\n")
        if not found or not signatures.endswith("\n"):
            raise Fraud("not a signed note")
        text += "\n"
        signed = False
        for line in signatures.removesuffix("\n").split("\n"):
            dash, name, encoded = line.split(" ")
            stamp = base64.b64decode(encoded, validate=True)
            if dash != "\u2014":
                raise Fraud("not a signature line")
            if name == self.name and stamp[:4] == self.key_hash:
                try:
                    self.public.verify(stamp[4:], text.encode())
                except InvalidSignature:
                    raise Fraud("the note's signature is false") from None
                signed = True
        if not signed:
            raise Fraud("the note is not signed by the log's key")
        return text


class Checkpoint:
    """A tlog-checkpoint: origin, size and root, one a line."""

    def __init__(self, note: str, key: NoteKey):
        origin, size, root, *_ = key.open(note).split("\n")
        if origin != key.name:
            raise Fraud("the checkpoint is of another log")
        self.size, self.root = decimal(size), base64.b64decode(root, validate=True)


class Log:
    """A published log behind HTTPS with a client certificate."""

    def __init__(self, url: str, authority: Path, certificate: Path, private_key: Path, server_name: str):
        parts = urllib.parse.urlsplit(url)
        context = ssl.create_default_context(cafile=str(authority))
        context.load_cert_chain(str(certificate), str(private_key))
        self.prefix = parts.path.rstrip("/")
        self.connection = http.client.HTTPSConnection(server_name, parts.port, context=context, timeout=10)
        # The name is that in the certificate, the address that of the URL.
        self.connection.sock = context.wrap_socket(
            socket.create_connection((parts.hostname, parts.port), timeout=10), server_hostname=server_name
        )

    def fetch(self, path: str, content_type: str) -> bytes:
        self.connection.request("GET", f"{self.prefix}/{path}")
        response = self.connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise Fraud(f"{path}: HTTP {response.status}: {body.decode(errors='replace').strip()}")
        if response.headers["Content-Type"] != content_type:
            raise Fraud(f"{path} has the content type {response.headers['Content-Type']}")
        return body

    def checkpoint(self, key: NoteKey) -> Checkpoint:
        return Checkpoint(self.fetch("checkpoint", "text/plain; charset=utf-8").decode(), key)

    def resource(self, kind: str, index: int, width: int) -> bytes:
        return self.fetch(f"tile/{kind}/{index_path(index)}{partial(width)}", "application/octet-stream")


def decimal(text: str) -> int:
    if not text.isascii() or not text.isdigit() or str(int(text)) != text:
        raise Fraud(f"{text!r} is not a decimal number")
    return int(text)


def index_path(index: int) -> str:
    """tlog-tiles: groups of three digits, all but the last after an x."""
    groups = [f"{index % 1000:03}"]
    while index >= 1000:
        index //= 1000
        groups.append(f"x{index % 1000:03}")
    return "/".join(reversed(groups))


def partial(width: int) -> str:
    return "" if width == TILE_WIDTH else f".p/{width}"


def bundle_entries(bundle: bytes) -> list[bytes]:
    """An entry bundle: each entry after its length, a big-endian uint16."""
    entries, at = [], 0
    while at < len(bundle):
        (length,) = struct.unpack_from(">H", bundle, at)
        at += 2
        entries.append(bundle[at : at + length])
        if len(entries[-1]) != length:
            raise Fraud("an entry bundle is cut off")
        at += length
    return entries


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree_hash(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, of leaves that are hashed already."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(tree_hash(leaves[:split]), tree_hash(leaves[split:]))


def root_by_path(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """The root that an audit path leads to: PATH of RFC 6962, section 2.1.1, taken apart from its end."""
    if size == 1:
        if path:
            raise Fraud("the proof is too long")
        return leaf
    if not path:
        raise Fraud("the proof is too short")
    split = 1 << (size - 1).bit_length() - 1
    *rest, sibling = path
    if index < split:
        return node_hash(root_by_path(leaf, index, split, rest), sibling)
    return node_hash(sibling, root_by_path(leaf, index - split, size - split, rest))


def verify_log(log: Log, key: NoteKey) -> tuple[Checkpoint, list[bytes]]:
    """Fetches all that is published and holds it together. Returns the checkpoint and the entries."""
    checkpoint = log.checkpoint(key)
    entries: list[bytes] = []
    for index in range(-(-checkpoint.size // TILE_WIDTH)):
        width = min(TILE_WIDTH, checkpoint.size - index * TILE_WIDTH)
        bundle = bundle_entries(log.resource("entries", index, width))
        if len(bundle) != width:
            raise Fraud(f"entry bundle {index} has {len(bundle)} entries, {width} are signed")
        entries.extend(bundle)
    level, row = 0, [leaf_hash(entry) for entry in entries]
    if tree_hash(row) != checkpoint.root:
        raise Fraud("the entries do not give the signed root")
    while row:
        for index in range(-(-len(row) // TILE_WIDTH)):
            wanted = row[index * TILE_WIDTH : (index + 1) * TILE_WIDTH]
            if log.resource(str(level), index, len(wanted)) != b"".join(wanted):
                raise Fraud(f"tile {index} of level {level} does not follow from the entries")
        full = len(row) // TILE_WIDTH
        row = [tree_hash(row[at * TILE_WIDTH : (at + 1) * TILE_WIDTH]) for at in range(full)]
        level += 1
    return checkpoint, entries


def verify_proof(proof: str, entry: bytes, key: NoteKey) -> tuple[int, Checkpoint]:
    """Checks a tlog-proof of an entry. Returns the entry's index and the checkpoint."""
    head, found, note = proof.partition("\n\n")
    first, *lines = head.split("\n")
    if first != "c2sp.org/tlog-proof@v1" or not found:
        raise Fraud("not a tlog-proof")
    if lines and lines[0].startswith("extra "):
        lines.pop(0)
    word, number = lines.pop(0).split(" ")
    if word != "index":
        raise Fraud("the proof has no index")
    index, checkpoint = decimal(number), Checkpoint(note, key)
    if index >= checkpoint.size:
        raise Fraud("the entry lies beyond the checkpoint")
    path = [base64.b64decode(line, validate=True) for line in lines]
    if root_by_path(leaf_hash(entry), index, checkpoint.size, path) != checkpoint.root:
        raise Fraud("the proof does not lead to the signed root")
    return index, checkpoint


def read_receipt(text: str) -> tuple[bytes, str]:
    """The entry and the tlog-proof in a receipt: line 2, and line 4 to the end."""
    first, entry, empty, proof = text.split("\n", 3)
    if first != "legal-aid-audit-receipt/1" or empty:
        raise Fraud("not a receipt")
    return entry.encode(), proof


def main() -> None:
    arguments = argparse.ArgumentParser(description="Verifies a published audit log, from its specifications.")
    arguments.add_argument("--url", required=True, help="where the log is published")
    arguments.add_argument("--key", required=True, help="the log's public key, as `audit key` prints it")
    arguments.add_argument("--certificate", type=Path, required=True)
    arguments.add_argument("--private-key", type=Path, required=True)
    arguments.add_argument("--authority", type=Path, required=True)
    arguments.add_argument("--server-name", default="localhost", help="the name in the gateway's certificate")
    arguments.add_argument("--receipt", type=Path)
    given = arguments.parse_args()
    key = NoteKey(given.key)
    log = Log(given.url, given.authority, given.certificate, given.private_key, given.server_name)
    checkpoint, entries = verify_log(log, key)
    print(f"{len(entries)} entries, their tiles and the signed root agree: {base64.b64encode(checkpoint.root).decode()}")
    if given.receipt:
        entry, proof = read_receipt(given.receipt.read_text(encoding="utf-8"))
        index, signed = verify_proof(proof, entry, key)
        print(f"the receipt proves entry {index} in the log of {signed.size}")


if __name__ == "__main__":
    try:
        main()
    except Fraud as fraud:
        sys.exit(f"transparency: {fraud}")
