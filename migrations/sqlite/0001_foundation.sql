-- The outbox, the events and deliveries made from it, the hooks, the keys of the API, and the
-- history of attempts.
--
-- The same tables as on PostgreSQL. What is written by applications (the outbox) keeps to what
-- SQLite 3.38 has, however new the SQLite inside Postrider is: an application brings its own.
-- In our other tables an id is a BLOB of 16 bytes, a time is microseconds since 1970 in UTC,
-- and a day is days since 1970. There is one slot, 0; the column keeps the statements alike.

CREATE TABLE postrider_meta (
    singleton INTEGER PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    -- Grows with every change of a hook.
    hooks_version INTEGER NOT NULL DEFAULT 0,
    -- The oldest binary that can live with this database, as the number of the newest
    -- migration that binary knows.
    oldest_binary INTEGER NOT NULL,
    slots INTEGER NOT NULL DEFAULT 1 CHECK (slots = 1),
    -- Everything has moved to that database: nothing is done here any more.
    moved_to TEXT,
    -- A move from that database to this one has begun: nothing is done here yet.
    moving_from TEXT,
    -- When was last looked for what is past its retention. A clock that has gone much further
    -- since is doubted: nothing goes before that moment.
    pruned_at INTEGER,
    prune_from INTEGER
) STRICT;
INSERT INTO postrider_meta (oldest_binary) VALUES (1);

-- While everything moves here: how far each table has come.
CREATE TABLE postrider_moves (
    name TEXT PRIMARY KEY NOT NULL,
    -- The key of the last row that was moved.
    reached TEXT NOT NULL,
    rows INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The public contract: INSERT of the columns (slot, account, event_type, payload, ordering_key,
-- dedup_key, deliver_after, occurred_at, headers). No trigger, no foreign key. Whatever slot
-- is given, the row counts as one of slot 0.
CREATE TABLE postrider_outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    slot INTEGER NOT NULL DEFAULT 0,
    -- A uuid of version 7: 48 bits of milliseconds, then random bits. 2440587.5 is the Julian
    -- day of 1970-01-01.
    id TEXT NOT NULL DEFAULT (lower(
        printf('%08x', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) / 65536)
        || '-' || printf('%04x', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) % 65536)
        || '-7' || substr(hex(randomblob(2)), 2)
        || '-' || substr('89ab', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2)
        || '-' || hex(randomblob(6))
    )),
    account TEXT NOT NULL DEFAULT 'default',
    event_type TEXT NOT NULL,
    payload TEXT NOT NULL,
    ordering_key TEXT,
    dedup_key TEXT,
    -- ISO 8601, such as 2026-01-31T12:00:00Z or 2026-01-31 12:00:00; UTC unless it names an
    -- offset.
    deliver_after TEXT,
    occurred_at TEXT,
    headers TEXT,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    -- Events of our own: the hook that one is about. Not an application's to set, which is how
    -- the types postrider.* are known to be ours.
    about_hook TEXT,
    CONSTRAINT "postrider: the payload is larger than 512 KiB"
        CHECK (length(CAST(payload AS BLOB)) <= 524288),
    CONSTRAINT "postrider: the payload is not valid JSON"
        CHECK (json_valid(payload)),
    CONSTRAINT "postrider: the headers are not valid JSON"
        CHECK (headers IS NULL OR json_valid(headers)),
    CONSTRAINT "postrider: deliver_after is not a time such as 2026-01-31T12:00:00Z"
        CHECK (deliver_after IS NULL OR (deliver_after GLOB '????-??-??*'
            AND julianday(deliver_after) IS NOT NULL)),
    CONSTRAINT "postrider: occurred_at is not a time such as 2026-01-31T12:00:00Z"
        CHECK (occurred_at IS NULL OR (occurred_at GLOB '????-??-??*'
            AND julianday(occurred_at) IS NOT NULL))
) STRICT;

CREATE TABLE postrider_rejected (
    slot INTEGER NOT NULL DEFAULT 0,
    id BLOB NOT NULL,
    reason TEXT NOT NULL,
    rejected_at INTEGER NOT NULL,
    -- As they were, byte for byte, which may not be UTF-8.
    account TEXT,
    event_type TEXT,
    payload TEXT,
    ordering_key TEXT,
    dedup_key TEXT,
    deliver_after TEXT,
    occurred_at TEXT,
    headers TEXT,
    PRIMARY KEY (slot, id)
) STRICT;

CREATE TABLE postrider_dedup (
    slot INTEGER NOT NULL DEFAULT 0,
    account TEXT NOT NULL,
    key TEXT NOT NULL,
    day INTEGER NOT NULL,
    PRIMARY KEY (slot, account, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX postrider_dedup_by_day ON postrider_dedup (slot, day);

CREATE TABLE postrider_hooks (
    id BLOB PRIMARY KEY NOT NULL,
    -- The id under which the profile's own API knows the hook.
    alias TEXT,
    account TEXT NOT NULL,
    url TEXT NOT NULL,
    -- A JSON array of strings.
    events TEXT NOT NULL,
    profile TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('active', 'paused', 'disabled')),
    disabled_reason TEXT CHECK (disabled_reason IN ('failures', 'gone', 'manual')),
    disabled_at INTEGER,
    disabled_by TEXT,
    settings TEXT NOT NULL,
    -- Sealed: see the documentation of secrets.key.
    credentials TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    -- Deleting is a mark first; upkeep cancels what is left of the hook's deliveries.
    deleted_at INTEGER,
    version INTEGER NOT NULL,
    CHECK ((status = 'disabled') = (disabled_reason IS NOT NULL))
) STRICT;
CREATE INDEX postrider_hooks_by_account ON postrider_hooks (account, id);
CREATE INDEX postrider_hooks_by_version ON postrider_hooks (version);
-- Deleted hooks keep theirs: an alias is never given twice.
CREATE UNIQUE INDEX postrider_hooks_by_alias ON postrider_hooks (profile, alias)
    WHERE alias IS NOT NULL;

-- The last number that was given as an alias, for profiles whose aliases are numbers.
CREATE TABLE postrider_aliases (
    profile TEXT PRIMARY KEY NOT NULL,
    last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- When a hook was last sent to and what it answered, for profiles that show that. Written at
-- most once a second for a hook.
CREATE TABLE postrider_hook_latest (
    hook_id BLOB PRIMARY KEY NOT NULL,
    at INTEGER NOT NULL,
    status INTEGER
) STRICT, WITHOUT ROWID;

-- A hook without a row here has no failures. Written when something changes, never on a
-- success that finds the fail count at 0.
CREATE TABLE postrider_hook_health (
    hook_id BLOB PRIMARY KEY NOT NULL,
    fail_count INTEGER NOT NULL DEFAULT 0,
    first_failure_at INTEGER,
    last_failure_at INTEGER,
    last_error TEXT,
    -- When the attempt ended that last set the fail count back.
    succeeded_at INTEGER,
    -- Whether the hook is held back; each change of it is a change of the hook's version.
    phase TEXT CHECK (phase IN ('backed_off', 'ramping')),
    -- While it is backed off: no probe before then, and how many have failed.
    not_before INTEGER,
    probes INTEGER NOT NULL DEFAULT 0,
    -- When it was warned of, in this row of failures.
    warned_at INTEGER
) STRICT, WITHOUT ROWID;

-- The latest sample of how much waits and how the database is, for all processes to show, and
-- when the next one is to be taken. The process that takes it moves the time first.
CREATE TABLE postrider_gauges (
    singleton INTEGER PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    due_at INTEGER NOT NULL,
    sampled_at INTEGER,
    sample TEXT
) STRICT;

-- What happened to hooks, and by whom; the newest 500 entries of each hook are kept.
CREATE TABLE postrider_hook_history (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    hook_id BLOB NOT NULL,
    at INTEGER NOT NULL,
    action TEXT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT,
    -- How the hook stood until then.
    fail_count INTEGER NOT NULL,
    last_error TEXT,
    -- How many deliveries were discarded.
    deliveries INTEGER
) STRICT;
CREATE INDEX postrider_hook_history_by_hook ON postrider_hook_history (hook_id, number);

-- Keys of the API, and credentials of those who register hooks over a compatible API. A token is
-- nowhere, only its SHA-256: it is too long to be found by trying. A password is hashed slowly; a
-- secret that signs is needed again and sealed.
CREATE TABLE postrider_keys (
    id BLOB PRIMARY KEY NOT NULL,
    -- The compatible API that it is for, by its profile; NULL for Postrider's own.
    system TEXT,
    scope TEXT NOT NULL CHECK (scope IN ('admin', 'account', 'publish', 'register')),
    -- NULL for all accounts.
    account TEXT,
    name TEXT,
    -- What its holder shows: a token, by its hash, or an id or user and what proves it.
    hash BLOB,
    public_id TEXT,
    proof TEXT,
    -- What a registrant may do.
    may_read INTEGER NOT NULL DEFAULT 1,
    may_write INTEGER NOT NULL DEFAULT 1,
    account_active INTEGER NOT NULL DEFAULT 1,
    member_active INTEGER NOT NULL DEFAULT 1,
    verified INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER,
    revoked_at INTEGER,
    CHECK (scope <> 'admin' OR account IS NULL),
    CHECK (scope NOT IN ('account', 'register') OR account IS NOT NULL),
    CHECK ((scope = 'register') = (system IS NOT NULL)),
    CHECK ((hash IS NULL) = (public_id IS NOT NULL)),
    CHECK ((public_id IS NULL) = (proof IS NULL)),
    CHECK (public_id IS NULL OR system IS NOT NULL)
) STRICT;
CREATE UNIQUE INDEX postrider_keys_by_hash ON postrider_keys (hash);
CREATE UNIQUE INDEX postrider_keys_by_public_id ON postrider_keys (system, public_id)
    WHERE public_id IS NOT NULL AND revoked_at IS NULL;

-- Signatures that registrants have shown, so that none is taken twice.
CREATE TABLE postrider_signatures (
    key_id BLOB NOT NULL,
    signature BLOB NOT NULL,
    -- Until when the moment that it signs would still be taken.
    until INTEGER NOT NULL,
    PRIMARY KEY (key_id, signature)
) STRICT, WITHOUT ROWID;
CREATE INDEX postrider_signatures_by_until ON postrider_signatures (until);

-- Calls that published events under an Idempotency-Key, for a day: a repeat is answered with
-- the same ids.
CREATE TABLE postrider_idempotency (
    -- The key of the API that called.
    caller BLOB NOT NULL,
    key TEXT NOT NULL,
    -- The SHA-256 of what was asked for.
    digest BLOB NOT NULL,
    -- The ids, one after the other.
    ids BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (caller, key)
) STRICT;
CREATE INDEX postrider_idempotency_by_time ON postrider_idempotency (created_at);

CREATE TABLE postrider_events (
    slot INTEGER NOT NULL DEFAULT 0,
    day INTEGER NOT NULL,
    id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    account TEXT NOT NULL,
    event_type TEXT NOT NULL,
    ordering_key TEXT,
    dedup_key TEXT,
    headers TEXT,
    occurred_at INTEGER NOT NULL,
    fanned_out_at INTEGER NOT NULL,
    -- When its payload and headers were erased; nothing is sent of it any more.
    erased_at INTEGER,
    -- Last, so that a listing does not read through it.
    payload TEXT NOT NULL,
    PRIMARY KEY (slot, day, id)
) STRICT;

-- A delivery that has not ended and waits, or was leased after it waited. The row goes when the
-- delivery ends; history tells the rest.
--
-- State         | next_attempt_at     | turn_at             | batch_id  | moved on by
-- waiting       | due time            | null                | null      | lease
-- batching      | end of the window   | start of the window | null      | lease, which cuts a batch
-- blocked       | 9999-12-31          | due once unblocked  | null      | end of its predecessor
-- holds its key | 9999-12-31          | null                | null      | a person (holds_key is true)
-- batch leader  | due time            | null                | own id    | lease
-- batch member  | 9999-12-30          | due time            | leader    | lease of its leader
--
-- While a row is leased, next_attempt_at and turn_at stay as they were found and mean nothing.
CREATE TABLE postrider_deliveries (
    slot INTEGER NOT NULL DEFAULT 0,
    id BLOB NOT NULL,
    day INTEGER NOT NULL,
    event_id BLOB NOT NULL,
    hook_id BLOB NOT NULL,
    event_seq INTEGER NOT NULL,
    ordering_key TEXT,
    -- Attempts made, and how many of them belong to earlier rounds: sending a delivery again
    -- starts its schedule anew.
    attempts INTEGER NOT NULL DEFAULT 0,
    earlier_attempts INTEGER NOT NULL DEFAULT 0,
    -- Leases in a row that ended without a settlement.
    lost_leases INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER NOT NULL,
    -- The time that next_attempt_at does not tell: see the table of states.
    turn_at INTEGER,
    -- For ordered hooks: it has failed for good, has a row in postrider_ended as well, and blocks
    -- the later ones of its key until a person decides.
    holds_key INTEGER NOT NULL DEFAULT 0,
    lease_token BLOB,
    lease_expires_at INTEGER,
    -- For formats that send several events in one request: the leader of its batch.
    batch_id BLOB,
    -- For formats whose retries go where the attempts before them went, whatever happens to
    -- the hook: its URL and credentials as they were then, sealed.
    target TEXT,
    PRIMARY KEY (slot, id),
    CHECK ((lease_token IS NULL) = (lease_expires_at IS NULL))
) STRICT, WITHOUT ROWID;
-- Waiting deliveries by hook and due time, and leased ones by expiry.
CREATE INDEX postrider_deliveries_waiting
    ON postrider_deliveries (slot, hook_id, next_attempt_at) WHERE lease_token IS NULL;
CREATE INDEX postrider_deliveries_leased
    ON postrider_deliveries (slot, lease_expires_at) WHERE lease_token IS NOT NULL;
-- The deliveries of a key in their order, and which of them are on their way.
CREATE INDEX postrider_deliveries_keyed
    ON postrider_deliveries (slot, hook_id, ordering_key, event_seq)
    WHERE ordering_key IS NOT NULL;
CREATE INDEX postrider_deliveries_keyed_leased
    ON postrider_deliveries (slot, hook_id, ordering_key)
    WHERE ordering_key IS NOT NULL AND lease_token IS NOT NULL;
-- The deliveries of a batch.
CREATE INDEX postrider_deliveries_batched
    ON postrider_deliveries (slot, batch_id) WHERE batch_id IS NOT NULL;

-- Deliveries that started when their events were fanned out, all those of one fan-out in one
-- row. A member gets a row of its own in postrider_deliveries when it has to wait; one whose
-- first attempt ended it never does. The row goes when no member is open, or when the lease
-- has run out and the members without an attempt have become deliveries.
CREATE TABLE postrider_leases (
    slot INTEGER NOT NULL DEFAULT 0,
    token BLOB NOT NULL,
    day INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- Members neither settled nor given back; 0 when the lease has run out and holds for none.
    open INTEGER NOT NULL,
    -- Which those are: a byte for each member, 0 while it is open.
    closed BLOB NOT NULL,
    PRIMARY KEY (slot, token)
) STRICT, WITHOUT ROWID;

-- The members of a lease, apart from what changes with each settlement: 48 bytes each, the ids
-- of the delivery, its event and its hook.
CREATE TABLE postrider_lease_members (
    slot INTEGER NOT NULL DEFAULT 0,
    token BLOB NOT NULL,
    members BLOB NOT NULL,
    PRIMARY KEY (slot, token)
) STRICT, WITHOUT ROWID;

CREATE TABLE postrider_attempts (
    slot INTEGER NOT NULL DEFAULT 0,
    day INTEGER NOT NULL,
    delivery_id BLOB NOT NULL,
    id BLOB NOT NULL,
    event_id BLOB NOT NULL,
    hook_id BLOB NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    status INTEGER,
    -- The lease was lost by then: the attempt happened, and changed nothing.
    late INTEGER NOT NULL CHECK (late IN (0, 1)),
    error TEXT,
    response BLOB,
    PRIMARY KEY (slot, day, delivery_id, id)
) STRICT;
-- Those that count, by hook; each number of a delivery once. SQLite takes this index for every
-- statement that says `late = 0`; those that are to go by the primary key say `NOT late`.
CREATE UNIQUE INDEX postrider_attempts_by_hook
    ON postrider_attempts (slot, hook_id, delivery_id, day, number) WHERE late = 0;

-- Deliveries that ended otherwise than delivered, also those never attempted.
CREATE TABLE postrider_ended (
    slot INTEGER NOT NULL DEFAULT 0,
    day INTEGER NOT NULL,
    delivery_id BLOB NOT NULL,
    event_id BLOB NOT NULL,
    hook_id BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('failed', 'cancelled', 'expired')),
    reason TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    ended_at INTEGER NOT NULL,
    PRIMARY KEY (slot, day, delivery_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX postrider_ended_by_hook ON postrider_ended (slot, hook_id, delivery_id);
