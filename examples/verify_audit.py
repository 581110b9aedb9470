#!/usr/bin/env python3
"""Checks the hash chain of an audit log exported as JSON lines, and a signed checkpoint against it.

    command-center audit export --format jsonl --all --out audit.jsonl
    python3 examples/verify_audit.py audit.jsonl
    python3 examples/verify_audit.py audit.jsonl --checkpoint kept.txt --key "$(cat kept.pub)"

Without --all an export holds the entries of one connector and those that concern none. A store with schedules
of several connectors is then checked by handing in one export of each; entries that are in both count once.
Needs nothing but the standard library: the signature is checked with the mathematics of RFC 8032 below.
Exit codes: 0 valid, 1 tampered or incomplete, 2 not readable.
"""

import argparse
import base64
import binascii
import hashlib
import json
import sys

START = "0" * 64
NOT_HASHED = ("hash", "ts")

# Ed25519: points (x, y) with y^2 - x^2 = 1 + D x^2 y^2 over the integers modulo P, of order ORDER.
P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
ORDER = 2**252 + 27742317777372353535851937790883648493


def x_of(y, is_odd):
    """The x to a y on the curve, of the two the odd or the even one; None where there is none."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P or (x == 0 and is_odd):
        return None
    return P - x if x % 2 != is_odd else x


# A point is held as (X, Y, Z) with x = X/Z and y = Y/Z, so that adding takes no division.
NEUTRAL = (0, 1, 1)
BASE_Y = 4 * pow(5, -1, P) % P
BASE = (x_of(BASE_Y, 0), BASE_Y, 1)


def add(a, b):
    z = a[2] * b[2] % P
    xx, yy = a[0] * b[0] % P, a[1] * b[1] % P
    cross = D * xx * yy % P
    minus, plus = (z * z - cross) % P, (z * z + cross) % P
    x = z * minus * (a[0] * b[1] + a[1] * b[0]) % P
    y = z * plus * (yy + xx) % P
    return x, y, minus * plus % P


def times(count, point):
    product = NEUTRAL
    while count:
        if count & 1:
            product = add(product, point)
        point = add(point, point)
        count >>= 1
    return product


def point_of(encoded):
    """A point from its 32 bytes: y, little end first, and in the highest bit whether x is odd."""
    number = int.from_bytes(encoded, "little")
    is_odd, y = number >> 255, number & (2**255 - 1)
    x = x_of(y, is_odd) if y < P else None
    return None if x is None else (x, y, 1)


def is_signed(key, text, signature):
    """Whether the signature over the text is the key's: S times the base is R plus the hash times the key."""
    if len(key) != 32 or len(signature) != 64:
        return False
    r, s = point_of(signature[:32]), int.from_bytes(signature[32:], "little")
    public = point_of(key)
    if r is None or public is None or s >= ORDER:
        return False
    hashed = int.from_bytes(hashlib.sha512(signature[:32] + key + text).digest(), "little") % ORDER
    left, right = times(s, BASE), add(r, times(hashed, public))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


def read_key(text):
    """NAME+HASH+KEY into the name, the four bytes of the hash, and the 32 bytes of the key."""
    name, hashed, blob = text.strip().split("+", 2)
    blob = base64.b64decode(blob, validate=True)
    if len(blob) != 33 or blob[0] != 1:
        raise ValueError("it is no Ed25519 key")
    expected = hashlib.sha256(name.encode() + b"\n" + blob).digest()[:4]
    if expected.hex() != hashed:
        raise ValueError("its hash is wrong: a character is")
    return name, expected, blob[1:]


def read_checkpoint(text, key):
    """Sequence number, hash in hex and time of a checkpoint that the key signed."""
    name, hashed, public = read_key(key)
    body, separator, signatures = text.replace("\r\n", "\n").strip().partition("\n\n")
    if not separator:
        raise ValueError("it is no signed note")
    body += "\n"
    for line in signatures.split("\n"):
        dash, signer, blob = line.split(" ")
        blob = base64.b64decode(blob, validate=True)
        if dash != "\u2014":
            raise ValueError("it is no signed note")
        if (signer, blob[:4]) == (name, hashed):
            break
    else:
        blob = None
    lines = body.split("\n")
    if lines[0] != name:
        raise ValueError(f"it is of {lines[0]}, the key is that of {name}")
    if blob is None:
        raise Tampered("the key did not sign the checkpoint: it was replaced, or somebody else signed that")
    if not is_signed(public, body.encode(), blob[4:]):
        raise Tampered("the checkpoint's signature is wrong")
    time = next((line[5:] for line in lines if line.startswith("time ")), "an unknown time")
    return int(lines[1]), base64.b64decode(lines[2], validate=True).hex(), time


class Tampered(Exception):
    """Something shows that it was changed after it was made."""


def digest(entry):
    """SHA-256 over the entry's canonical JSON (RFC 8785), without `hash` and `ts`."""
    hashed = {key: value for key, value in entry.items() if key not in NOT_HASHED}
    # Keys are ASCII and numbers are integers or short decimals, so that this is the canonical form.
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def read(paths):
    """All entries by sequence number; two different entries under one number are an error."""
    entries = {}
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    entry = json.loads(line)
                    seq = entry["seq"]
                    entry["hash"], entry["prev_hash"]
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(f"{path}:{number} is no audit entry: {error!r}") from error
                if entries.setdefault(seq, entry) != entry:
                    raise ValueError(f"{path}:{number} differs from another entry {seq}")
    return entries


def problem(entries, partial):
    """The first thing that is wrong, or None."""
    before = None
    for seq in sorted(entries):
        entry = entries[seq]
        expected = 1 if before is None else before["seq"] + 1
        if not partial and seq != expected:
            return f"entry {expected} is missing: the log goes on with {seq}"
        if entry["hash"] != digest(entry):
            return f"entry {seq} was changed after it was written"
        previous = START if seq == 1 else before["hash"] if before and seq == expected else None
        if previous is not None and entry["prev_hash"] != previous:
            return f"entry {seq} does not follow the entry before it"
        before = entry
    return None


def held_against(entries, checkpoint):
    """What a checkpoint shows to be wrong with the log, or None."""
    seq, signed, time = checkpoint
    if seq in entries:
        if entries[seq]["hash"] == signed:
            return None
        return f"entry {seq} has another hash than was signed at {time}: the log was rewritten"
    newest = max(entries, default=0)
    if newest < seq:
        return f"the log ends at entry {newest}, but entry {seq} was signed at {time}: its end is gone"
    return f"entry {seq}, which was signed at {time}, is not in the export"


def main():
    parser = argparse.ArgumentParser(description="Check the hash chain of an exported audit log.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="an export in the format jsonl")
    parser.add_argument("--partial", action="store_true", help="the export was filtered: gaps are no error")
    parser.add_argument("--last", metavar="HASH", help="the newest entry must have this hash: shows a cut end")
    parser.add_argument("--checkpoint", metavar="FILE", help="a signed checkpoint that the log must continue")
    parser.add_argument("--key", metavar="VKEY", help="what `command-center audit key` printed")
    args = parser.parse_args()
    if bool(args.checkpoint) != bool(args.key):
        parser.error("--checkpoint and --key go together")
    checkpoint = None
    try:
        entries = read(args.files)
        if args.checkpoint:
            with open(args.checkpoint, encoding="utf-8") as note:
                checkpoint = read_checkpoint(note.read(), args.key)
        found = problem(entries, args.partial)
    except Tampered as tampered:
        found = str(tampered)
    except (OSError, ValueError, IndexError, binascii.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if found is None and checkpoint:
        found = held_against(entries, checkpoint)
    newest = entries[max(entries)]["hash"] if entries else START
    if found is None and args.last and newest != args.last:
        found = f"the log ends with {newest}, not with {args.last}"
    if found:
        print(f"tampered or incomplete: {found}")
        return 1
    signed = f", which continues the checkpoint of entry {checkpoint[0]}" if checkpoint else ""
    print(f"valid: {len(entries)} entries, the last with hash {newest}{signed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
