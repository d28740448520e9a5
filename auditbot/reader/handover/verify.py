#!/usr/bin/env python3
"""Check a hand-over from an archive: are these the records that were archived?

    python3 -I verify.py [--key FINGERPRINT] [--files HASH] [FOLDER]

Needs Python 3.8 or newer and nothing else: no network, no package. It reads the files beside it
and proves of each record that it is in the Merkle tree (RFC 6962, section 2.1) whose root was
signed (Ed25519, RFC 8032) by the archive's key, of each content that was sealed and is disclosed
here that its record names its hash, and of each attachment that a record names it.
What was made of them for reading (transcript.html, messages.*) no signature covers: that it is what
was handed over shows the hash of files.json, which whoever made the hand-over was shown.
Exit status: 0 all is right, 1 something is wrong.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import sys

# --- Ed25519 (RFC 8032, section 5.1), verification only -------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


def _recover_x(y, sign):
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if square == 0:
        return None if sign else 0
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P:
        return None
    return P - x if x & 1 != sign else x


def _point(data):
    """Return a point in extended coordinates, None if the bytes are none."""
    if len(data) != 32:
        return None
    number = int.from_bytes(data, "little")
    y = number & (1 << 255) - 1
    x = _recover_x(y, number >> 255)
    return None if x is None else (x, y, 1, x * y % P)


def _add(one, other):
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c = 2 * one[3] * other[3] * D % P
    d = 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _times(number, point):
    total = (0, 1, 1, 0)
    while number:
        if number & 1:
            total = _add(total, point)
        point = _add(point, point)
        number >>= 1
    return total


def _same(one, other):
    return (one[0] * other[2] - other[0] * one[2]) % P == 0 and (
        one[1] * other[2] - other[1] * one[2]
    ) % P == 0


_BASE_Y = 4 * pow(5, P - 2, P) % P
BASE = (_recover_x(_BASE_Y, 0), _BASE_Y, 1, _recover_x(_BASE_Y, 0) * _BASE_Y % P)


def is_signed(public_key, message, signature):
    """Return whether 64 bytes are the Ed25519 signature of a message by a key of 32 bytes."""
    if len(signature) != 64:
        return False
    key, start = _point(public_key), _point(signature[:32])
    number = int.from_bytes(signature[32:], "little")
    if key is None or start is None or number >= L:
        return False
    digest = hashlib.sha512(signature[:32] + public_key + message).digest()
    challenge = int.from_bytes(digest, "little") % L
    return _same(_times(number, BASE), _add(start, _times(challenge, key)))


# --- Merkle tree (RFC 6962, section 2.1; RFC 9162, section 2.1.3.2) ---------------------------


def leaf_hash(line):
    return hashlib.sha256(b"\x00" + line).digest()


def root_of_path(leaf, index, size, path):
    """Return the root to which a leaf's path leads, None if no such path can be."""
    if not 0 <= index < size:
        return None
    number, last, node = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return None
        if number & 1 or number == last:
            node = hashlib.sha256(b"\x01" + sibling + node).digest()
            while not number & 1 and number:
                number >>= 1
                last >>= 1
        else:
            node = hashlib.sha256(b"\x01" + node + sibling).digest()
        number >>= 1
        last >>= 1
    return node if last == 0 else None


# --- Checkpoints (c2sp.org/signed-note, c2sp.org/tlog-checkpoint) -----------------------------


class Wrong(Exception):
    """Something is not what it should be; the words say what."""


def read_checkpoint(body, keys):
    """Return origin, size and root of a checkpoint that one of the keys signed, and its end."""
    text, separator, below = body.partition(b"\n\n")
    if not separator:
        raise Wrong("a checkpoint has no signature")
    text += b"\n"
    lines = text.decode("utf-8").split("\n")
    origin, size, root = lines[0], int(lines[1]), base64.b64decode(lines[2])
    for line in below.decode("utf-8").splitlines():
        name, _, encoded = line[2:].rpartition(" ")
        if not line.startswith("\u2014 ") or name != origin:
            continue
        signature = base64.b64decode(encoded)
        for key, retired_ms in keys:
            hint = hashlib.sha256(origin.encode() + b"\n\x01" + key).digest()[:4]
            if signature[:4] == hint and is_signed(key, text, signature[4:]):
                return origin, size, root, retired_ms
    raise Wrong("the checkpoint of %s is not signed by a key that counts" % plain(origin))


# --- The hand-over ------------------------------------------------------------------------------

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}(/[A-Za-z0-9][A-Za-z0-9._-]{0,120})?")


# What Python itself puts beside a program that is imported.
_COMPILED = re.compile(r"__pycache__/verify\.[A-Za-z0-9-]+(\.opt-[12])?\.pyc")


def plain(text):
    """Return text that no terminal obeys."""
    return ascii(str(text))[1:-1][:500]


class Handover:
    """The files of a hand-over."""

    def __init__(self, folder):
        self.folder = folder

    def read(self, name):
        if not _NAME.fullmatch(name):
            raise Wrong("“%s” is no name of a file in here" % plain(name))
        path = os.path.join(self.folder, *name.split("/"))
        if os.path.islink(path) or not os.path.isfile(path):
            raise Wrong("the file %s is missing" % name)
        with open(path, "rb") as file:
            return file.read()

    def json(self, name):
        return json.loads(self.read(name).decode("utf-8"))


def trusted_keys(handover, fingerprint):
    """Return the keys that count: the one that is trusted, and those it vouches for.

    Each with the time from which on it signs nothing more, None for the last.
    """
    document = handover.json("keys.json")
    first = base64.b64decode(document["public_key"])
    found = hashlib.sha256(first).hexdigest()
    if fingerprint and found != fingerprint:
        raise Wrong("the archive's key is %s, not the one that you trust" % found)
    keys, retired = {found[:16]: first}, {}
    for rotation in document["rotations"]:
        body = base64.b64decode(rotation["document"])
        stated = json.loads(body.decode("utf-8"))
        old = keys.get(stated["old_key_id"])
        if old is None or not is_signed(old, body, base64.b64decode(rotation["signature"])):
            raise Wrong("a key rotation is not signed by the key before it")
        new = base64.b64decode(stated["new_public_key"])
        if hashlib.sha256(new).hexdigest()[:16] != stated["new_key_id"]:
            raise Wrong("a key rotation names another key than it holds")
        keys[stated["new_key_id"]] = new
        retired[stated["old_key_id"]] = int(stated["created_ms"])
    return found, [(key, retired.get(key_id)) for key_id, key in keys.items()]


def check_files(handover):
    """Check that the files are those that were handed over; return how many."""
    listed = handover.json("files.json")
    for name, digest in sorted(listed.items()):
        if hashlib.sha256(handover.read(name)).hexdigest() != digest:
            raise Wrong("the file %s was changed" % plain(name))
    for base, folders, names in os.walk(handover.folder, onerror=_refuse):
        inner = os.path.relpath(base, handover.folder)
        folders.sort()
        for name in sorted(folders + names):
            full = name if inner == "." else inner.replace(os.sep, "/") + "/" + name
            # A link to a folder is among the folders, and what is behind it is not walked through.
            if os.path.islink(os.path.join(base, name)):
                raise Wrong("%s is a link to something else: nothing handed over is" % plain(full))
            is_known = name in folders or full == "files.json" or full in listed
            if not is_known and not _COMPILED.fullmatch(full):
                raise Wrong("the file %s does not belong here" % plain(full))
    return len(listed)


def _refuse(error):
    raise error


def check_records(handover, keys):
    """Check each record's proof; return the records."""
    proofs = handover.json("proofs.json")
    trees = {}
    for stream, name in proofs["checkpoints"].items():
        origin, size, root, retired_ms = read_checkpoint(handover.read(name), keys)
        if origin.rpartition("/")[2] != stream:
            raise Wrong("the checkpoint of stream %s is of another one" % plain(stream))
        trees[stream] = (origin, size, root, retired_ms)
    lines = handover.read("records.jsonl").split(b"\n")
    if lines.pop() != b"" or len(lines) != len(proofs["records"]):
        raise Wrong("there are not as many records as proofs")
    records = []
    for line, proof in zip(lines, proofs["records"]):
        stream, seq = proof["stream"], proof["seq"]
        if stream not in trees:
            raise Wrong("record %s has no checkpoint" % plain(seq))
        origin, size, root, retired_ms = trees[stream]
        path = [bytes.fromhex(node) for node in proof["path"]]
        if root_of_path(leaf_hash(line), seq, size, path) != root:
            raise Wrong(
                "record %s of stream %s is not the archived one" % (plain(seq), plain(stream))
            )
        record = json.loads(line.decode("utf-8"))
        if record["seq"] != seq or record["stream"] != stream:
            raise Wrong("record %s says that it is another one" % plain(seq))
        if origin != "%s/steward/%s" % (record["server_name"], stream):
            raise Wrong("record %s is of another server than its checkpoint" % plain(seq))
        # A minute's grace: both times are of one machine's clock, which may be set.
        if retired_ms is not None and record["ts_received"] > retired_ms + 60000:
            raise Wrong("record %s is signed by a key that was replaced before it" % plain(seq))
        records.append(record)
    return records


SEALED_FIELDS = (
    "body",
    "detail_json",
    "event_json",
    "media_cipher_sha256",
    "media_mxc",
    "media_name",
    "media_sha256",
    "payload_sha256",
    "raw_b64",
    "reaction_key",
    "redaction_reason",
    "wire_json",
)


def check_opened(handover, records):
    """Check the contents that were sealed in the archive and are disclosed here.

    Each record says the SHA-256 of what is sealed of it, salt included: so a disclosed content is
    the archived one, and no key is needed. Returns the records with their contents, how many have
    been given theirs, and how many stay sealed.
    """
    sealed = {
        (record["stream"], record["seq"]): record for record in records if record.get("sealed")
    }
    opened = {}
    lines = []
    if "opened.jsonl" in handover.json("files.json"):
        lines = handover.read("opened.jsonl").split(b"\n")
        if lines.pop() != b"":
            raise Wrong("opened.jsonl ends in the middle of a line")
    for line in lines:
        said = json.loads(line.decode("utf-8"))
        place = (said.pop("stream"), said.pop("seq"))
        record = sealed.get(place)
        if record is None or hashlib.sha256(line).hexdigest() != record["sealed_sha256"]:
            raise Wrong("a content in opened.jsonl is not what its record says was sealed")
        said.pop("seal_salt")
        for name in said:
            open_before = record.get(name) is not None and name != "detail_json"
            if name not in SEALED_FIELDS or open_before:
                raise Wrong("the content of record %s says what is no content" % plain(place[1]))
        opened[place] = dict(record, **said)
        del opened[place]["sealed"]
    whole = [opened.get((record["stream"], record["seq"]), record) for record in records]
    return whole, len(opened), len(sealed) - len(opened)


def check_reading(handover, records):
    """Check that what is for programs to read is made of the records that are proved."""
    proved = {(record["stream"], record["seq"]): record for record in records}
    for number, line in enumerate(handover.read("messages.jsonl").splitlines(), start=1):
        for record in json.loads(line.decode("utf-8"))["records"]:
            record.pop("sealed_state", None)
            if proved.get((record["stream"], record["seq"])) != record:
                raise Wrong(
                    "line %d of messages.jsonl holds another record than is proved" % number
                )


def check_media(handover, records):
    """Check the attachments against the hashes in the records; return how many."""
    known = {record.get("media_sha256") for record in records} - {None}
    count = 0
    for name in handover.json("files.json"):
        if name.startswith("media/"):
            digest = hashlib.sha256(handover.read(name)).hexdigest()
            if digest not in known:
                raise Wrong("no record speaks of the attachment %s" % plain(name))
            if not name.startswith("media/" + digest):
                raise Wrong("the attachment %s is another one than its name says" % plain(name))
            count += 1
    return count


def main(words=None):
    parser = argparse.ArgumentParser(description="Check a hand-over from an archive.")
    parser.add_argument("folder", nargs="?", default=os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument(
        "--key", default="", help="the fingerprint that the archive's operator told you"
    )
    parser.add_argument(
        "--files", default="", help="the hash of files.json that whoever made this told you"
    )
    options = parser.parse_args(words)
    fingerprint = re.sub(r"[\s:-]", "", options.key).lower()
    handover = Handover(options.folder)
    try:
        files = check_files(handover)
        found, keys = trusted_keys(handover, fingerprint)
        records = check_records(handover, keys)
        records, opened, shut = check_opened(handover, records)
        check_reading(handover, records)
        media = check_media(handover, records)
        listed = hashlib.sha256(handover.read("files.json")).hexdigest()
        told = re.sub(r"[\s:-]", "", options.files).lower()
        if told and told != listed:
            raise Wrong("the hash of files.json is %s, not the one that you were told" % listed)
    except Wrong as error:
        print("WRONG: %s." % error)
        return 1
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        print("WRONG: a file is not of the form that it must have (%s)." % plain(error))
        return 1
    print(
        "RIGHT: %d records, each as it was archived; %d attachments; %d files."
        % (len(records), media, files)
    )
    if opened or shut:
        print(
            "Contents: %d disclosed in opened.jsonl, each what its record says was sealed; %d stay"
            " sealed." % (opened, shut)
        )
    print("Proved are records.jsonl%s and media/." % (", opened.jsonl" if opened else ""))
    if told:
        print("Every other file, the transcript too, is the one that was handed over.")
    else:
        print(
            "The transcript and the other files are for reading, and no signature covers them. They"
        )
        print("are what was handed over if whoever made this says that the hash of files.json is")
        print(listed)
    print("Signing key: %s" % " ".join(found[start : start + 4] for start in range(0, 64, 4)))
    if not fingerprint:
        print("Compare this fingerprint with the one that the archive's operator told you by")
        print("another way than this hand-over, or run: verify.py --key FINGERPRINT")
    return 0


if __name__ == "__main__":
    sys.exit(main())
