-- The outbox, the events and deliveries made from it, the hooks, the keys of the API, and the
-- history of attempts.
--
-- Every table of the hot path begins its primary key and its indexes with `slot`, so that a
-- statement that names one slot touches one shard. History is partitioned by `day`, the day of
-- fan-out by the database's clock, so that retention drops partitions and a lease reads one.

CREATE TABLE postrider_meta (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- Grows with every change of a hook; a change holds this row until it commits, so that
    -- versions become visible in their order.
    hooks_version bigint NOT NULL DEFAULT 0,
    -- The oldest binary that can live with this database, as the number of the newest
    -- migration that binary knows.
    oldest_binary integer NOT NULL,
    slots smallint NOT NULL DEFAULT 1 CHECK (slots BETWEEN 1 AND 1024),
    -- Everything has moved to that database: nothing is done here any more.
    moved_to text,
    -- A move from that database to this one has begun: nothing is done here yet.
    moving_from text,
    -- When was last looked for what is past its retention. A clock that has gone much further
    -- since is doubted: nothing goes before that moment.
    pruned_at timestamptz,
    prune_from timestamptz
);
INSERT INTO postrider_meta (oldest_binary) VALUES (1);

-- While everything moves here: how far each table has come.
CREATE TABLE postrider_moves (
    name text PRIMARY KEY,
    -- The key of the last row that was moved.
    reached json NOT NULL,
    rows bigint NOT NULL
);

-- A uuid of version 7: 48 bits of milliseconds, then random bits. PostgreSQL has one of its own
-- from 18 on; this one serves all versions alike.
CREATE FUNCTION postrider_uuid_v7() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
AS $$
    -- Bits 52 and 53 turn the version nibble of gen_random_uuid(), 4, into 7.
    SELECT encode(
        set_bit(set_bit(
            overlay(
                uuid_send(gen_random_uuid())
                PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                FROM 1 FOR 6
            ), 52, 1), 53, 1),
        'hex'
    )::uuid
$$;

-- The slot of a key: the first two bytes of its SHA-256 as a big-endian number, modulo the
-- number of slots. `postrider migrate --slots N` replaces the 1.
CREATE FUNCTION postrider_slot(key text) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT ((get_byte(sha256(convert_to(key, 'UTF8')), 0) * 256
           + get_byte(sha256(convert_to(key, 'UTF8')), 1)) % 1)::smallint
$$;

-- The public contract. An application needs USAGE on the schema, INSERT on the columns
-- (slot, account, event_type, payload, ordering_key, dedup_key, deliver_after, occurred_at,
-- headers) and SELECT (id). No trigger, no foreign key, no NOTIFY.
CREATE TABLE postrider_outbox (
    slot smallint NOT NULL DEFAULT 0,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    id uuid NOT NULL DEFAULT postrider_uuid_v7(),
    account text NOT NULL DEFAULT 'default',
    event_type text NOT NULL,
    payload json NOT NULL,
    ordering_key text,
    dedup_key text,
    deliver_after timestamptz,
    occurred_at timestamptz,
    headers json,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Events of our own: the hook that one is about. Not an application's to set, which is how
    -- the types postrider.* are known to be ours.
    about_hook uuid,
    PRIMARY KEY (slot, seq),
    CONSTRAINT "postrider: the payload is larger than 512 KiB"
        CHECK (octet_length(payload::text) <= 524288)
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

CREATE TABLE postrider_rejected (
    slot smallint NOT NULL DEFAULT 0,
    id uuid NOT NULL,
    reason text NOT NULL,
    rejected_at timestamptz NOT NULL,
    account text,
    event_type text,
    payload text,
    ordering_key text,
    dedup_key text,
    deliver_after timestamptz,
    occurred_at timestamptz,
    headers text,
    PRIMARY KEY (slot, id)
);

CREATE TABLE postrider_dedup (
    slot smallint NOT NULL DEFAULT 0,
    account text NOT NULL,
    key text NOT NULL,
    day date NOT NULL,
    PRIMARY KEY (slot, account, key)
);
CREATE INDEX postrider_dedup_by_day ON postrider_dedup (slot, day);

CREATE TABLE postrider_hooks (
    id uuid PRIMARY KEY,
    -- The id under which the profile's own API knows the hook.
    alias text COLLATE "C",
    account text NOT NULL,
    url text NOT NULL,
    events text[] NOT NULL,
    profile text NOT NULL,
    status text NOT NULL CHECK (status IN ('active', 'paused', 'disabled')),
    disabled_reason text CHECK (disabled_reason IN ('failures', 'gone', 'manual')),
    disabled_at timestamptz,
    disabled_by text,
    settings json NOT NULL,
    -- Whether the settings have something that must hold over all workers together.
    limited boolean NOT NULL DEFAULT false,
    -- Whether the events of one key go one after another.
    ordered boolean NOT NULL DEFAULT false,
    -- Sealed: see the documentation of secrets.key.
    credentials text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    -- Deleting is a mark first; upkeep cancels what is left of the hook's deliveries.
    deleted_at timestamptz,
    version bigint NOT NULL,
    CHECK ((status = 'disabled') = (disabled_reason IS NOT NULL))
);
CREATE INDEX postrider_hooks_by_account ON postrider_hooks (account, id);
CREATE INDEX postrider_hooks_by_version ON postrider_hooks (version);
-- Deleted hooks keep theirs: an alias is never given twice.
CREATE UNIQUE INDEX postrider_hooks_by_alias ON postrider_hooks (profile, alias)
    WHERE alias IS NOT NULL;

-- The last number that was given as an alias, for profiles whose aliases are numbers.
CREATE TABLE postrider_aliases (
    profile text PRIMARY KEY,
    last bigint NOT NULL
);

-- When a hook was last sent to and what it answered, for profiles that show that. Written at
-- most once a second for a hook.
CREATE TABLE postrider_hook_latest (
    hook_id uuid PRIMARY KEY,
    at timestamptz NOT NULL,
    status smallint
) WITH (fillfactor = 50);

-- A hook without a row here has no failures. Written when something changes, never on a
-- success that finds the fail count at 0.
CREATE TABLE postrider_hook_health (
    hook_id uuid PRIMARY KEY,
    fail_count integer NOT NULL DEFAULT 0,
    first_failure_at timestamptz,
    last_failure_at timestamptz,
    last_error text,
    -- When the attempt ended that last set the fail count back.
    succeeded_at timestamptz,
    -- Whether the hook is held back; each change of it is a change of the hook's version.
    phase text CHECK (phase IN ('backed_off', 'ramping')),
    -- While it is backed off: no probe before then, and how many have failed.
    not_before timestamptz,
    probes integer NOT NULL DEFAULT 0,
    -- When it was warned of, in this row of failures.
    warned_at timestamptz
) WITH (fillfactor = 50);

-- What happened to hooks, and by whom; the newest 500 entries of each hook are kept.
CREATE TABLE postrider_hook_history (
    hook_id uuid NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL,
    action text NOT NULL,
    actor text NOT NULL,
    reason text,
    -- How the hook stood until then.
    fail_count integer NOT NULL,
    last_error text,
    -- How many deliveries were discarded.
    deliveries integer,
    PRIMARY KEY (hook_id, number)
);

-- Which worker alone starts the deliveries of a hook that is held back or has limits, and until
-- when. The worker renews it while there is something to do for the hook.
CREATE TABLE postrider_gates (
    hook_id uuid PRIMARY KEY,
    owner uuid NOT NULL,
    until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- The latest sample of how much waits and how the database is, for all processes to show, and
-- when the next one is to be taken. The process that takes it moves the time first.
CREATE TABLE postrider_gauges (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    due_at timestamptz NOT NULL,
    sampled_at timestamptz,
    sample json
) WITH (fillfactor = 50);

-- Keys of the API, and credentials of those who register hooks over a compatible API. A token is
-- nowhere, only its SHA-256: it is too long to be found by trying. A password is hashed slowly; a
-- secret that signs is needed again and sealed.
CREATE TABLE postrider_keys (
    id uuid PRIMARY KEY,
    -- The compatible API that it is for, by its profile; NULL for Postrider's own.
    system text,
    scope text NOT NULL CHECK (scope IN ('admin', 'account', 'publish', 'register')),
    -- NULL for all accounts.
    account text,
    name text,
    -- What its holder shows: a token, by its hash, or an id or user and what proves it.
    hash bytea,
    public_id text COLLATE "C",
    proof text,
    -- What a registrant may do.
    may_read boolean NOT NULL DEFAULT true,
    may_write boolean NOT NULL DEFAULT true,
    account_active boolean NOT NULL DEFAULT true,
    member_active boolean NOT NULL DEFAULT true,
    verified boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at timestamptz,
    CHECK (scope <> 'admin' OR account IS NULL),
    CHECK (scope NOT IN ('account', 'register') OR account IS NOT NULL),
    CHECK ((scope = 'register') = (system IS NOT NULL)),
    CHECK ((hash IS NULL) = (public_id IS NOT NULL)),
    CHECK ((public_id IS NULL) = (proof IS NULL)),
    CHECK (public_id IS NULL OR system IS NOT NULL)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX postrider_keys_by_hash ON postrider_keys (hash);
CREATE UNIQUE INDEX postrider_keys_by_public_id ON postrider_keys (system, public_id)
    WHERE public_id IS NOT NULL AND revoked_at IS NULL;

-- Signatures that registrants have shown, so that none is taken twice.
CREATE TABLE postrider_signatures (
    key_id uuid NOT NULL,
    signature bytea NOT NULL,
    -- Until when the moment that it signs would still be taken.
    until timestamptz NOT NULL,
    PRIMARY KEY (key_id, signature)
);
CREATE INDEX postrider_signatures_by_until ON postrider_signatures (until);

-- Calls that published events under an Idempotency-Key, for a day: a repeat is answered with
-- the same ids.
CREATE TABLE postrider_idempotency (
    -- The key of the API that called.
    caller uuid NOT NULL,
    key text NOT NULL,
    -- The SHA-256 of what was asked for.
    digest bytea NOT NULL,
    ids uuid[] NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (caller, key)
);
CREATE INDEX postrider_idempotency_by_time ON postrider_idempotency (created_at);

CREATE TABLE postrider_events (
    slot smallint NOT NULL DEFAULT 0,
    day date NOT NULL,
    id uuid NOT NULL,
    seq bigint NOT NULL,
    account text NOT NULL,
    event_type text NOT NULL,
    payload json NOT NULL,
    ordering_key text,
    dedup_key text,
    headers json,
    occurred_at timestamptz NOT NULL,
    fanned_out_at timestamptz NOT NULL,
    -- When its payload and headers were erased; nothing is sent of it any more.
    erased_at timestamptz,
    PRIMARY KEY (slot, day, id)
) PARTITION BY RANGE (day);

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
    slot smallint NOT NULL DEFAULT 0,
    id uuid NOT NULL,
    day date NOT NULL,
    event_id uuid NOT NULL,
    hook_id uuid NOT NULL,
    event_seq bigint NOT NULL,
    ordering_key text,
    -- Attempts made, and how many of them belong to earlier rounds: sending a delivery again
    -- starts its schedule anew.
    attempts integer NOT NULL DEFAULT 0,
    earlier_attempts integer NOT NULL DEFAULT 0,
    -- Leases in a row that ended without a settlement.
    lost_leases smallint NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    -- The time that next_attempt_at does not tell: see the table of states.
    turn_at timestamptz,
    -- For ordered hooks: it has failed for good, has a row in postrider_ended as well, and blocks
    -- the later ones of its key until a person decides.
    holds_key boolean NOT NULL DEFAULT false,
    lease_token uuid,
    lease_expires_at timestamptz,
    -- For formats that send several events in one request: the leader of its batch.
    batch_id uuid,
    -- For formats whose retries go where the attempts before them went, whatever happens to
    -- the hook: its URL and credentials as they were then, sealed.
    target text,
    PRIMARY KEY (slot, id),
    CHECK ((lease_token IS NULL) = (lease_expires_at IS NULL))
) WITH (
    fillfactor = 90,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);
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
-- has run out and the open members have become deliveries.
CREATE TABLE postrider_leases (
    slot smallint NOT NULL DEFAULT 0,
    token uuid NOT NULL,
    day date NOT NULL,
    expires_at timestamptz NOT NULL,
    -- Members neither settled nor given back, and which those are: their bits are 0.
    open integer NOT NULL,
    closed varbit NOT NULL,
    -- The members, at the same place in each.
    deliveries uuid[] NOT NULL,
    events uuid[] NOT NULL,
    hooks uuid[] NOT NULL,
    -- The token first: rows are always looked up by their tokens. Behind the slot, the planner
    -- takes a table that looks empty to be read faster from end to end, however many dead rows
    -- stand in it.
    PRIMARY KEY (token, slot)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);
-- Random ids cannot be compressed: it is not tried.
ALTER TABLE postrider_leases
    ALTER deliveries SET STORAGE EXTERNAL, ALTER events SET STORAGE EXTERNAL,
    ALTER hooks SET STORAGE EXTERNAL;

CREATE TABLE postrider_attempts (
    slot smallint NOT NULL DEFAULT 0,
    day date NOT NULL,
    delivery_id uuid NOT NULL,
    id uuid NOT NULL,
    event_id uuid NOT NULL,
    hook_id uuid NOT NULL,
    number integer NOT NULL,
    at timestamptz NOT NULL,
    duration_ms integer NOT NULL,
    outcome text NOT NULL,
    status smallint,
    error text,
    response bytea,
    -- The lease was lost by then: the attempt happened, and changed nothing.
    late boolean NOT NULL,
    PRIMARY KEY (slot, day, delivery_id, id)
) PARTITION BY RANGE (day);
-- Delivered ones, in the order they are listed in.
CREATE INDEX postrider_attempts_by_hook ON postrider_attempts (slot, hook_id, delivery_id)
    WHERE outcome = 'accepted' AND NOT late;

-- Deliveries that ended otherwise than delivered, also those never attempted.
CREATE TABLE postrider_ended (
    slot smallint NOT NULL DEFAULT 0,
    day date NOT NULL,
    delivery_id uuid NOT NULL,
    event_id uuid NOT NULL,
    hook_id uuid NOT NULL,
    state text NOT NULL CHECK (state IN ('failed', 'cancelled', 'expired')),
    reason text NOT NULL,
    attempts integer NOT NULL,
    ended_at timestamptz NOT NULL,
    PRIMARY KEY (slot, day, delivery_id)
) PARTITION BY RANGE (day);
CREATE INDEX postrider_ended_by_hook ON postrider_ended (slot, hook_id, delivery_id);
