#!/usr/bin/env python3
"""Checks the hash chain of an audit log exported as JSON lines.

    command-center audit export --format jsonl --out audit.jsonl
    python3 examples/verify_audit.py audit.jsonl

An export holds the entries of one connector and those that concern none. A store with schedules of
several connectors is checked by handing in one export of each; entries that are in both count once.
Needs nothing but the standard library. Exit codes: 0 valid, 1 tampered or incomplete, 2 not readable.
"""

import argparse
import hashlib
import json
import sys

START = "0" * 64
NOT_HASHED = ("hash", "ts")


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


def main():
    parser = argparse.ArgumentParser(description="Check the hash chain of an exported audit log.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="an export in the format jsonl")
    parser.add_argument("--partial", action="store_true", help="the export was filtered: gaps are no error")
    parser.add_argument("--last", metavar="HASH", help="the newest entry must have this hash: shows a cut end")
    args = parser.parse_args()
    try:
        entries = read(args.files)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = problem(entries, args.partial)
    newest = entries[max(entries)]["hash"] if entries else START
    if found is None and args.last and newest != args.last:
        found = f"the log ends with {newest}, not with {args.last}"
    if found:
        print(f"tampered or incomplete: {found}")
        return 1
    print(f"valid: {len(entries)} entries, the last with hash {newest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
