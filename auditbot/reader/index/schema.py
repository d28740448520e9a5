"""The tables of the index.

A record's row holds what it is found by; what it says is read from its object, by the place of
its frame and line. ``record.id`` counts through an object without a gap, so a record is found
by its number too. Events are known by 63 bits of the hash of their IDs: millions of names would
be most of the file. What belongs to one message (its edits, deletion, reactions, the deletion of
one of these, later decryption, attachment) has the same ``root``, in which the room counts too: nobody edits, deletes
or answers a message from another room, so what names one there stands alone; ``begins`` is 1 where
the record is of the message itself. A gap and its end have the same ``root`` too. ``first`` is the
record that a later decryption speaks of, or that carries the attachment of a ``media`` record;
``media`` is what became of an attachment, or that there is one; ``thread`` the message that a thread
begins with (MSC3440). Of an object's records
``content`` have a part that is sealed, ``of_day`` is whether the key of its day opened it; ``unopened`` names the keys to whose content the words of
the object lack (see ``unopened.py``), ``awaited`` those that were not in the archive when a manifest
listed them; ``erased`` are the keys that were destroyed; ``infected`` are attachments in which, by any
record, a scanner found something, so that none of their messages gives them out. ``room.label`` and ``person.label`` are what
one is called now, ``called`` holds every name that one ever had in the archive.
"""

VERSION = 9

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE name (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE manifest (
    key TEXT PRIMARY KEY, stream TEXT NOT NULL, number INTEGER NOT NULL, sha256 TEXT NOT NULL,
    created_ms INTEGER NOT NULL, key_id TEXT NOT NULL, size INTEGER NOT NULL,
    root TEXT NOT NULL, checkpoint TEXT NOT NULL, checkpoint_sha256 TEXT NOT NULL,
    not_covered TEXT NOT NULL, not_covered_count INTEGER NOT NULL, compared_ms INTEGER,
    from_ms INTEGER NOT NULL, interval_ms INTEGER NOT NULL, running_since_ms INTEGER NOT NULL,
    closed INTEGER NOT NULL, previous_stream TEXT, previous_stopped_ms INTEGER,
    previous_destination TEXT, receipts INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX manifest_number ON manifest (stream, number);
CREATE TABLE object (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, stream TEXT NOT NULL,
    first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, first_id INTEGER NOT NULL,
    size INTEGER NOT NULL, sha256 TEXT NOT NULL, version_id TEXT, manifest TEXT NOT NULL,
    first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, hashes BLOB NOT NULL,
    state TEXT NOT NULL, content INTEGER NOT NULL DEFAULT 0, of_day INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE unopened (
    object INTEGER NOT NULL, key TEXT NOT NULL, PRIMARY KEY (object, key)
) WITHOUT ROWID;
CREATE TABLE awaited (key TEXT PRIMARY KEY, sha256 TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX object_place ON object (stream, first_seq);
CREATE TABLE erased (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE file (
    key TEXT PRIMARY KEY, size INTEGER NOT NULL, sha256 TEXT NOT NULL, version_id TEXT,
    manifest TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE record (
    id INTEGER PRIMARY KEY, object INTEGER NOT NULL, frame INTEGER NOT NULL,
    place INTEGER NOT NULL, kind INTEGER NOT NULL, received_ms INTEGER NOT NULL,
    origin_ms INTEGER, room INTEGER, sender INTEGER, type INTEGER, event INTEGER, root INTEGER,
    status INTEGER, device INTEGER, why INTEGER, first INTEGER, thread INTEGER,
    begins INTEGER NOT NULL, media INTEGER
);
CREATE INDEX record_room ON record (room, received_ms);
CREATE INDEX record_sender ON record (sender, received_ms);
CREATE INDEX record_time ON record (received_ms);
CREATE INDEX record_root ON record (root) WHERE root IS NOT NULL;
CREATE INDEX record_event ON record (event) WHERE event IS NOT NULL;
CREATE INDEX record_late ON record (origin_ms)
    WHERE origin_ms NOT BETWEEN received_ms - 60000 AND received_ms + 60000;
CREATE INDEX record_open ON record (received_ms) WHERE status = 2;
CREATE INDEX record_first ON record (first) WHERE first IS NOT NULL;
CREATE INDEX record_media ON record (received_ms) WHERE media IS NOT NULL;
CREATE INDEX record_thread ON record (thread) WHERE thread IS NOT NULL;
CREATE TABLE room (
    id INTEGER PRIMARY KEY, label TEXT, alias TEXT, is_direct INTEGER, encrypted INTEGER,
    first_ms INTEGER, last_ms INTEGER, events INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE person (
    id INTEGER PRIMARY KEY, label TEXT, first_ms INTEGER, last_ms INTEGER,
    events INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE infected (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE called (
    id INTEGER NOT NULL, label TEXT NOT NULL, PRIMARY KEY (id, label)
) WITHOUT ROWID;
CREATE TABLE audience (
    hash TEXT NOT NULL, record INTEGER NOT NULL, PRIMARY KEY (hash, record)
) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5 (
    text, content = '', columnsize = 0, tokenize = 'unicode61 remove_diacritics 2'
);
"""

KINDS = (
    "event",
    "decryption",
    "media",
    "audience",
    "receipt",
    "gap",
    "gap_closed",
    "control",
    "graph",
)
CLEAR, DECRYPTED, UNDECRYPTABLE, LATE = range(4)
STATUSES = ("clear", "decrypted", "undecryptable", "late")
"""As ``enc_status`` says; ``record.status`` is the place in here."""

MEDIA_STATES = (
    "pending",
    "stored",
    "duplicate",
    "not_kept",
    "too_large",
    "missing",
    "hash_mismatch",
    "forbidden",
    "gave_up",
    "infected",
    "infected_kept",
)
"""As ``media_status`` says, the last with a ``media_key``; ``record.media`` is the place in here, one more
for any other."""
