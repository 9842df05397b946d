#!/usr/bin/env python3
"""Verifies the envelopes and entries of an export with securesystemslib and CPython's json, and with no code of ours.

Every envelope must hold under a key of the export's `attest`, every recorded execution must have exactly its envelope, and
every entry must be what CPython's json module would write. Files named after the folder are SLSA views of its executions.
Exits 0 where all of it holds, 1 where anything does not.
"""

import base64
import hashlib
import json
import pathlib
import struct
import sys

from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

RECORDED = "execution_provenance_recorded"
COMPLETED = "EXECUTION_COMPLETED"


class Refused(Exception):
    """Something in the export does not hold."""


def attest_keys(folder: pathlib.Path) -> list:
    keys = []
    for vkey in (folder / "attest").read_text(encoding="ascii").splitlines():
        raw = base64.b64decode(vkey.split("+", 2)[2], validate=True)
        if len(raw) != 33 or raw[0] != 1:
            raise Refused(f"attest: {vkey} is no Ed25519 key")
        keys.append(SSlibKey(vkey, "ed25519", "ed25519", {"public": raw[1:].hex()}))
    return keys


def entries(folder: pathlib.Path):
    size = int((folder / "checkpoint").read_text(encoding="utf-8").split("\n")[1])
    for first in range(0, size, 256):
        width = min(256, size - first)
        data = (folder / "tile" / bundle_path(first // 256, width)).read_bytes()
        for index in range(first, first + width):
            (length,) = struct.unpack_from(">H", data)
            yield index, data[2 : 2 + length]
            data = data[2 + length :]


def bundle_path(index: int, width: int) -> str:
    groups = [f"{index % 1000:03}"]
    while index >= 1000:
        index //= 1000
        groups.insert(0, f"x{index % 1000:03}")
    return "entries/" + "/".join(groups) + ("" if width == 256 else f".p/{width}")


def canonical(value) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def recorded_statements(folder: pathlib.Path) -> tuple[int, dict]:
    recorded, count = {}, 0
    for index, entry in entries(folder):
        event = json.loads(entry)
        if canonical(event) != entry or event["event_id"] != index:
            raise Refused(f"entry {index} is not the canonical spelling of event {index}")
        seen = event["payload"]["observations"]
        if event["event_type"] == RECORDED or (event["event_type"] == COMPLETED and "statement_sha256" in seen):
            execution = event["subject"].removeprefix("execution:")
            if execution in recorded:
                raise Refused(f"{execution} is recorded twice")
            recorded[execution] = seen["statement_sha256"]
        count += 1
    return count, recorded


def check_envelope(path: pathlib.Path, keys: list, statement_sha256: str) -> None:
    envelope = Envelope.from_dict(json.loads(path.read_bytes()))
    envelope.verify(keys, 1)
    if envelope.payload_type != "application/vnd.in-toto+json":
        raise Refused(f"{path}: another type of payload")
    if hashlib.sha256(envelope.payload).hexdigest() != statement_sha256:
        raise Refused(f"{path}: not the statement that the log recorded")
    statement = json.loads(envelope.payload)
    if statement["_type"] != "https://in-toto.io/Statement/v1" or canonical(statement) != envelope.payload:
        raise Refused(f"{path}: no canonical in-toto Statement v1")


def check_slsa_view(folder: pathlib.Path, path: pathlib.Path, keys: list) -> None:
    envelope = Envelope.from_dict(json.loads(path.read_bytes()))
    envelope.verify(keys, 1)
    view = json.loads(envelope.payload)
    if view["_type"] != "https://in-toto.io/Statement/v1" or view["predicateType"] != "https://slsa.dev/provenance/v1":
        raise Refused(f"{path}: no SLSA v1 provenance statement")
    build, run = view["predicate"]["buildDefinition"], view["predicate"]["runDetails"]
    execution = run["metadata"]["invocationId"]
    record = json.loads((folder / "provenance" / f"{execution}.dsse.json").read_bytes())
    statement = json.loads(base64.b64decode(record["payload"], validate=True))
    if view["subject"] != statement["subject"]:
        raise Refused(f"{path}: other subjects than the recorded statement has")
    if not build["buildType"].endswith("/" + statement["predicate"]["contract_hash"]):
        raise Refused(f"{path}: another contract than the recorded statement names")
    if not run["builder"]["id"].endswith("/" + statement["predicate"]["node_id"]):
        raise Refused(f"{path}: another node than the recorded statement names")


def check(folder: pathlib.Path, views: list) -> str:
    keys = attest_keys(folder)
    count, recorded = recorded_statements(folder)
    envelopes = {path.name.removesuffix(".dsse.json"): path for path in (folder / "provenance").glob("*")}
    if envelopes.keys() != recorded.keys():
        raise Refused(f"envelopes and records differ: {sorted(envelopes.keys() ^ recorded.keys())[:3]}")
    for execution, path in sorted(envelopes.items()):
        check_envelope(path, keys, recorded[execution])
    for view in views:
        check_slsa_view(folder, view, keys)
    return f"{count} canonical entries, {len(recorded)} envelopes, {len(views)} SLSA views"


def main() -> int:
    if len(sys.argv) < 2:
        print("usage: dsse.py EXPORT_DIR [SLSA_VIEW...]", file=sys.stderr)
        return 2
    folder, *views = map(pathlib.Path, sys.argv[1:])
    try:
        print("OK securesystemslib:", check(folder, views))
    except Exception as why:  # Whatever goes wrong while reading hostile files is a refusal.
        print(f"REFUSED by securesystemslib: {type(why).__name__}: {why}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
