PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE postrider_migrations (
            version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL
        ) STRICT;
INSERT INTO postrider_migrations VALUES(1,'foundation',1772445600000000);
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
INSERT INTO postrider_meta VALUES(1,14,1,1,NULL,NULL,NULL,NULL);
CREATE TABLE postrider_moves (
    name TEXT PRIMARY KEY NOT NULL,
    -- The key of the last row that was moved.
    reached TEXT NOT NULL,
    rows INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
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
INSERT INTO postrider_outbox VALUES(32,0,'01a2303c-0073-7fb3-9cac-a9f1337620a8','default','plain','{"of":"plain"}',NULL,NULL,NULL,NULL,NULL,'2026-12-01T06:12:48.371Z',NULL);
INSERT INTO postrider_outbox VALUES(33,0,'019cadfd-891f-7331-9bdf-4b70b41ba79f','default','plain','{"of":"plain"}',NULL,'once',NULL,NULL,NULL,'2026-12-01T06:12:48.373Z',NULL);
INSERT INTO postrider_outbox VALUES(34,0,'019cadfd-8920-7640-80d4-4e5b0ca25dc0','default','plain','{"of":"plain"}',NULL,NULL,'2026-03-02T11:00:05+00:00',NULL,'{"x-part":"1"}','2026-12-01T06:12:48.373Z',NULL);
INSERT INTO postrider_outbox VALUES(35,0,'019cadfd-8921-721a-b795-21d3f9c9e8be','default','ordered','{"of":"ordered"}','b',NULL,NULL,NULL,NULL,'2026-12-01T06:12:48.373Z',NULL);
INSERT INTO postrider_outbox VALUES(36,0,'019cadfd-8922-7326-8cb2-87fed574b5df','default','paused','{"of":"paused"}',NULL,NULL,NULL,NULL,NULL,'2026-12-01T06:12:48.373Z',NULL);
INSERT INTO postrider_outbox VALUES(37,0,'019cadfd-8923-7508-a8a1-d765b2fa31dc','default','gone','{"of":"gone"}',NULL,NULL,NULL,NULL,NULL,'2026-12-01T06:12:48.373Z',NULL);
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
INSERT INTO postrider_rejected VALUES(0,X'019cadfd891d7edbae4cd7f529f4d5f3','the event type "not a type" has white space, a control character or a "*"; use names such as "invoice.paid"',1772445605000000,'default','not a type','1',NULL,NULL,NULL,NULL,NULL);
CREATE TABLE postrider_dedup (
    slot INTEGER NOT NULL DEFAULT 0,
    account TEXT NOT NULL,
    key TEXT NOT NULL,
    day INTEGER NOT NULL,
    PRIMARY KEY (slot, account, key)
) STRICT, WITHOUT ROWID;
INSERT INTO postrider_dedup VALUES(0,'default','once',20514);
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
INSERT INTO postrider_hooks VALUES(X'019cadfd89007fc09c0f8f3e35920b3f',NULL,'default','https://receiver.example/hook','["plain"]','standard','active',NULL,NULL,NULL,'{"body":"envelope"}','v1.cBMwo5xj.3YY7yDJYbRLtmqB5QIjDFRmiKJOK7+UUQU2klAfhlynGjW5wRZMnsryCJggSlqS7ytmw3GTs+5w+awGxT9a6NcFyi3HdNfpfl1enUUiONljc8HGb44FRNALn/P7+1ymMatszxeGE5Sr0pv+/25WABP9hbdHs',1772445600000000,1772445600000000,NULL,1);
INSERT INTO postrider_hooks VALUES(X'019cadfd89007e01a4e26bf907d7a58c',NULL,'default','https://receiver.example/hook','["paused"]','standard','paused',NULL,NULL,NULL,'{"body":"envelope"}','v1.cBMwo5xj.nQVuRf0WKOYUe2yEMdYo0jEYOMCyElJDIY+6jS3E+SWUxOV08Rj0eBXq/eeghsaclZ3jNWHS46Ne5n0UxZ4jS9+g5Ql8L+/mle1SLfHEMh/r5YWE3DkfZ8M8tzh1AZ18IYsSrDmzZzoEgS1jsCXnGJSBlMU6',1772445600000000,1772445600000000,NULL,10);
INSERT INTO postrider_hooks VALUES(X'019cadfd890076e7b49052812f9fbc63',NULL,'default','https://receiver.example/hook','["failing"]','standard','disabled','failures',1772445600000000,'postrider','{"body":"envelope"}','v1.cBMwo5xj.v9r5LzDqSHrb32iyxfioUSvsAmkE+konTPajXNCfFwdRtFCgU6PCLa/IVvB6tnwKYX4ZEIA+mt/J8lmIDbZivDnHgY8DjHiTcVn4aEH/UyAy5WaDUsBmwdI6DJgF+TKxuYdDYGfaLW/EauChRw7JylmFnrbC',1772445600000000,1772445600000000,NULL,11);
INSERT INTO postrider_hooks VALUES(X'019cadfd890070649a2bdf8419f5ceb7',NULL,'default','https://receiver.example/hook','["gone"]','standard','disabled','gone',1772445600000000,'postrider','{"body":"envelope"}','v1.cBMwo5xj.d4lL3lzspJtDmDCTvcfFslfUHwS+EeYzpjTFpj8YcFD9LULFq9jBiWFojoKk1J42ZqV85NKZpofPfLTsdwh8bh5S5dLdhyfhewxy9gtIv13C0epwTZGflCVviync1dMYM6pBIhwvqrNMLyCcNwHIGt1Cf/hH',1772445600000000,1772445600000000,NULL,12);
INSERT INTO postrider_hooks VALUES(X'019cadfd89007e65bdf237f4922aa54b',NULL,'default','https://receiver.example/hook','["removed"]','standard','active',NULL,NULL,NULL,'{"body":"envelope"}','v1.cBMwo5xj.Ro3kZ1w2kbZQbsg4WAzPvldU1VKQHK5Lg3o8ozrA5VtiHbwfb02/dhWqyyQJ42F/y9YfJ/CXmk1h5sdlJNQP3x7aMpNUCkbeB4UY/UfsANfKLeN0kj1k0njjrXL2U+5VDXp1ZCbB4XHIZNzjw0J0esiQwv1L',1772445600000000,1772445605000000,1772445605000000,14);
INSERT INTO postrider_hooks VALUES(X'019cadfd89007019b7d7678d97c09bd8',NULL,'default','https://receiver.example/hook','["limited"]','standard','active',NULL,NULL,NULL,'{"body":"envelope","filter":"of == \"limited\"","in_flight":3,"rate":"20/s"}','v1.cBMwo5xj.nZbTWUtHga+Zy7NAOAG81qOupJqRdI9lecKoFgpjY5zzDcNQwO7y22KaSYcJBc91V5J3clQdRXq/cYWYqogBhWOC8SpFSSIHnO3uQjwniaV+DR/SEQj1Z84X6E51TCwSqrD4X7krFORAxlk05fFUOtUr4w2d',1772445600000000,1772445600000000,NULL,6);
INSERT INTO postrider_hooks VALUES(X'019cadfd89007b54b5fdaa7635804260',NULL,'default','https://receiver.example/hook','["ordered"]','standard','active',NULL,NULL,NULL,'{"body":"envelope","ordered":"key","on_failure":"hold"}','v1.cBMwo5xj.xZGA3yJ3jReOPU8e47BV1MYIw18stuX4rASpgfvXowlTPvPZXfMZSNLGY4gKChb5nGCuvB14obpsjBLBOP2Iqk/m8ADWWAD5Ar5ZMrPbRsL3MN84V2MDe/JB15JIOJRICArJ8kIg3X3yHVhM8KHo5q2nIAZ1',1772445600000000,1772445600000000,NULL,7);
INSERT INTO postrider_hooks VALUES(X'019cadfd89007b56b841253e2f552a80',NULL,'default','https://receiver.example/hook','["batched"]','standard','active',NULL,NULL,NULL,'{"body":"envelope"}','v1.cBMwo5xj.jLU98HUVlSVf7VSpeinKulWRCB9hruD8mwkSRtNYnAkx2LUqW/TP1avSOp4qCCLPDqQY2sl58aEVNeo7Vvp/fDaOpz4WNW+hj2kCA/jSkGuIhPvUZta4iECyyJL2pqXW3psNscxoFIsRpF83X33n109KPmf7',1772445600000000,1772445600000000,NULL,8);
INSERT INTO postrider_hooks VALUES(X'019cadfd89007d97b0b7a1478e444a09','9abc','acme ''ü''','https://second.example/hook','["kept"]','misskey','active',NULL,NULL,NULL,'{"body":"envelope"}','v1.cBMwo5xj.g6bLP9TO3KsZeg1G9rt+AqOVz4YAFVDLKVl103XMH+nhr60Vf4IoKGNWQMPsbSXdQfVsTb07QFY7/Pukt9oTJV9G1RU902TpubWfCaj+vpEDNyUR4BoWaRJchINcSQBztVdX45penorxVp6FCEcYGVUBFBalaFD/ehsVq1Lbk+khCl4QmA==',1772445600000000,1772445605000000,NULL,13);
CREATE TABLE postrider_aliases (
    profile TEXT PRIMARY KEY NOT NULL,
    last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE postrider_hook_latest (
    hook_id BLOB PRIMARY KEY NOT NULL,
    at INTEGER NOT NULL,
    status INTEGER
) STRICT, WITHOUT ROWID;
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
INSERT INTO postrider_hook_health VALUES(X'019cadfd89007019b7d7678d97c09bd8',1,1772445600020000,1772445600020000,'answered 500',NULL,NULL,NULL,0,NULL);
INSERT INTO postrider_hook_health VALUES(X'019cadfd890070649a2bdf8419f5ceb7',1,1772445600020000,1772445600020000,'answered 410',NULL,NULL,NULL,0,NULL);
INSERT INTO postrider_hook_health VALUES(X'019cadfd890076e7b49052812f9fbc63',2,1772445600020000,1772445600020000,'answered 500',NULL,NULL,NULL,0,1772445600020000);
INSERT INTO postrider_hook_health VALUES(X'019cadfd89007b54b5fdaa7635804260',2,1772445600020000,1772445600020000,'answered 500',NULL,NULL,NULL,0,NULL);
INSERT INTO postrider_hook_health VALUES(X'019cadfd89007b56b841253e2f552a80',1,1772445605020000,1772445605020000,'answered 500',NULL,NULL,NULL,0,NULL);
INSERT INTO postrider_hook_health VALUES(X'019cadfd89007d97b0b7a1478e444a09',1,1772445605020000,1772445605020000,'answered 500',NULL,NULL,NULL,0,NULL);
INSERT INTO postrider_hook_health VALUES(X'019cadfd89007fc09c0f8f3e35920b3f',3,1772445600020000,1772445600020000,'answered 500',NULL,NULL,NULL,0,NULL);
CREATE TABLE postrider_gauges (
    singleton INTEGER PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    due_at INTEGER NOT NULL,
    sampled_at INTEGER,
    sample TEXT
) STRICT;
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
INSERT INTO postrider_hook_history VALUES(1,X'019cadfd89007fc09c0f8f3e35920b3f',1772445600000000,'created','test',NULL,0,NULL,NULL);
INSERT INTO postrider_hook_history VALUES(2,X'019cadfd89007e01a4e26bf907d7a58c',1772445600000000,'created','test',NULL,0,NULL,NULL);
INSERT INTO postrider_hook_history VALUES(3,X'019cadfd890076e7b49052812f9fbc63',1772445600000000,'created','test',NULL,0,NULL,NULL);
INSERT INTO postrider_hook_history VALUES(4,X'019cadfd890070649a2bdf8419f5ceb7',1772445600000000,'created','test',NULL,0,NULL,NULL);
INSERT INTO postrider_hook_history VALUES(5,X'019cadfd89007e65bdf237f4922aa54b',1772445600000000,'created','test',NULL,0,NULL,NULL);
INSERT INTO postrider_hook_history VALUES(6,X'019cadfd89007019b7d7678d97c09bd8',1772445600000000,'created','test',NULL,0,NULL,NULL);
INSERT INTO postrider_hook_history VALUES(7,X'019cadfd89007b54b5fdaa7635804260',1772445600000000,'created','test',NULL,0,NULL,NULL);
INSERT INTO postrider_hook_history VALUES(8,X'019cadfd89007b56b841253e2f552a80',1772445600000000,'created','test',NULL,0,NULL,NULL);
INSERT INTO postrider_hook_history VALUES(9,X'019cadfd89007d97b0b7a1478e444a09',1772445600000000,'created','test',NULL,0,NULL,NULL);
INSERT INTO postrider_hook_history VALUES(10,X'019cadfd89007e01a4e26bf907d7a58c',1772445600000000,'paused','cli',NULL,0,NULL,NULL);
INSERT INTO postrider_hook_history VALUES(11,X'019cadfd890076e7b49052812f9fbc63',1772445600000000,'warned','postrider',NULL,1,'answered 500',NULL);
INSERT INTO postrider_hook_history VALUES(12,X'019cadfd890076e7b49052812f9fbc63',1772445600000000,'disabled','postrider','failures',2,'answered 500',NULL);
INSERT INTO postrider_hook_history VALUES(13,X'019cadfd890070649a2bdf8419f5ceb7',1772445600000000,'disabled','postrider','gone',1,'answered 410',NULL);
INSERT INTO postrider_hook_history VALUES(14,X'019cadfd89007d97b0b7a1478e444a09',1772445605000000,'changed','cli','url',1,'answered 500',NULL);
INSERT INTO postrider_hook_history VALUES(15,X'019cadfd89007e65bdf237f4922aa54b',1772445605000000,'removed','cli',NULL,0,NULL,NULL);
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
INSERT INTO postrider_keys VALUES(X'019cadfd9c887aad8a2ea3139de21729',NULL,'publish','default','shop',X'0707070707070707070707070707070707070707070707070707070707070707',NULL,NULL,1,1,1,1,1,1772445605000000,NULL,NULL);
INSERT INTO postrider_keys VALUES(X'019cadfd9c88782fae3d0a8625136135','solapi','register','acme ''ü''',NULL,NULL,'NCS','v1.cBMwo5xj.3MHQwKECql7jFpwj+C/qNcFVKNaREeYk23xgy+CO0VmWUDQ6cHpDVYF83lVm1GHAAONrT83+2+mk',1,1,1,1,1,1772445605000000,NULL,NULL);
CREATE TABLE postrider_signatures (
    key_id BLOB NOT NULL,
    signature BLOB NOT NULL,
    -- Until when the moment that it signs would still be taken.
    until INTEGER NOT NULL,
    PRIMARY KEY (key_id, signature)
) STRICT, WITHOUT ROWID;
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
INSERT INTO postrider_idempotency VALUES(X'019cadfd9c887aad8a2ea3139de21729','order 7',X'0909090909090909090909090909090909090909090909090909090909090909',X'01a2303c00737fb39caca9f1337620a8',1772445605000000);
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
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd89007846aebbc7273625b4fa',1,'default','plain',NULL,NULL,NULL,1796105568256000,1772445600000000,NULL,'{"of":"plain"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd89017e448597ef6cac1f4514',2,'default','plain',NULL,NULL,NULL,1796105568256000,1772445600000000,NULL,'{"of":"plain"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd89027a7da74a1592e6124c19',3,'default','plain',NULL,NULL,NULL,1796105568256000,1772445600000000,NULL,'{"of":"plain"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd89037d17b5a1bc4fbd830c7b',4,'default','plain',NULL,NULL,NULL,1796105568256000,1772445600000000,NULL,'{"of":"plain"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd89047c00afe9e6a2a0533c73',5,'default','plain',NULL,NULL,NULL,1796105568256000,1772445600000000,NULL,'{"of":"plain"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd8905762ba8ebb8764f6669d0',6,'default','plain',NULL,NULL,NULL,1796105568256000,1772445600000000,NULL,'{"of":"plain"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd89067a84855d8cc793193bd9',7,'default','paused',NULL,NULL,NULL,1796105568279000,1772445600000000,NULL,'{"of":"paused"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd890770b88ada80654553f0a0',8,'default','paused',NULL,NULL,NULL,1796105568279000,1772445600000000,NULL,'{"of":"paused"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd890874ffbb71d8846a812bc7',9,'default','failing',NULL,NULL,NULL,1796105568284000,1772445600000000,NULL,'{"of":"failing"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd8909769d93e1ad9ad4806409',10,'default','failing',NULL,NULL,NULL,1796105568284000,1772445600000000,NULL,'{"of":"failing"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd890a72fa8acea1d631e19fdb',11,'default','failing',NULL,NULL,NULL,1796105568284000,1772445600000000,NULL,'{"of":"failing"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd890b715bbd5b64831020ae24',12,'default','gone',NULL,NULL,NULL,1796105568315000,1772445600000000,NULL,'{"of":"gone"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd890c7051ba4483a5150b90e8',13,'default','limited',NULL,NULL,NULL,1796105568320000,1772445600000000,NULL,'{"of":"limited"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd890d7c5c9a08d6afa33d4e67',14,'default','limited',NULL,NULL,NULL,1796105568320000,1772445600000000,NULL,'{"of":"limited"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd890e756c85dbfb9f6c305815',15,'default','limited',NULL,NULL,NULL,1796105568320000,1772445600000000,NULL,'{"of":"limited"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd890f740393a3473ee35a72b6',16,'default','ordered','a',NULL,NULL,1796105568334000,1772445600000000,NULL,'{"of":"ordered"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd89107e2e9c19809bd8bd22a4',17,'default','ordered','a',NULL,NULL,1796105568334000,1772445600000000,NULL,'{"of":"ordered"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd891177f6b65f7e25c6c707ce',18,'default','ordered','b',NULL,NULL,1796105568334000,1772445600000000,NULL,'{"of":"ordered"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd89127b1cb67f15f08e4ea90d',19,'default','ordered','b',NULL,NULL,1796105568334000,1772445600000000,NULL,'{"of":"ordered"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd8913721fb72e45f16206e9b0',20,'default','ordered','c',NULL,NULL,1796105568334000,1772445600000000,NULL,'{"of":"ordered"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd89147b15af06f100bc7459cc',21,'default','ordered','c',NULL,NULL,1796105568334000,1772445600000000,NULL,'{"of":"ordered"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd89157c8e80c7ff9d50643c5b',22,'default','ordered',NULL,NULL,NULL,1796105568334000,1772445600000000,NULL,'{"of":"ordered"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd89167c92acadb84784f52383',23,'default','batched',NULL,NULL,NULL,1796105568347000,1772445600000000,NULL,'{"of":"batched"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd89177cdea4f10e83aac7f852',24,'default','batched',NULL,NULL,NULL,1796105568347000,1772445600000000,NULL,'{"of":"batched"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd8918737ca8f08dd8e98906ea',25,'default','batched',NULL,NULL,NULL,1796105568347000,1772445600000000,NULL,'{"of":"batched"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd89197155bcdd851ad8616942',26,'default','batched',NULL,NULL,NULL,1796105568355000,1772445605000000,NULL,'{"of":"batched"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd891a7aada70448128984081a',27,'default','batched',NULL,NULL,NULL,1796105568355000,1772445605000000,NULL,'{"of":"batched"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd891b7cc7be7fa72ff3d5b46a',28,'acme ''ü''','kept',NULL,NULL,NULL,1796105568358000,1772445605000000,NULL,'{"of":"kept"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd891c7fb690066f294783d009',29,'default','removed',NULL,NULL,NULL,1796105568362000,1772445605000000,NULL,'{"of":"removed"}');
INSERT INTO postrider_events VALUES(0,20514,X'019cadfd891e7590a60aac6778304877',31,'default','plain',NULL,'once',NULL,1796105568368000,1772445605000000,NULL,'{"of":"plain"}');
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
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd89028fdf8aeb8f94dfc65b5e',20514,X'019cadfd89027a7da74a1592e6124c19',X'019cadfd89007fc09c0f8f3e35920b3f',3,NULL,1,0,0,1772445900000000,NULL,0,NULL,NULL,NULL,NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd890489e4b75fa1a6af3f4ef7',20514,X'019cadfd89047c00afe9e6a2a0533c73',X'019cadfd89007fc09c0f8f3e35920b3f',5,NULL,0,0,0,1772445600000000,NULL,0,NULL,NULL,NULL,NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd8906800dbab72e34fe83cf61',20514,X'019cadfd89067a84855d8cc793193bd9',X'019cadfd89007e01a4e26bf907d7a58c',7,NULL,0,0,0,1772445600000000,NULL,0,NULL,NULL,NULL,NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd890782f78d9519b1b0076c2a',20514,X'019cadfd890770b88ada80654553f0a0',X'019cadfd89007e01a4e26bf907d7a58c',8,NULL,0,0,0,1772445600000000,NULL,0,NULL,NULL,NULL,NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd890885a483e74961e9dfc5ee',20514,X'019cadfd890874ffbb71d8846a812bc7',X'019cadfd890076e7b49052812f9fbc63',9,NULL,1,0,0,1772445660000000,NULL,0,NULL,NULL,NULL,NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd89098d11a6b6b354a1fa0045',20514,X'019cadfd8909769d93e1ad9ad4806409',X'019cadfd890076e7b49052812f9fbc63',10,NULL,1,0,0,1772445660000000,NULL,0,NULL,NULL,NULL,NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd890c8840bbf335fd3d78c26a',20514,X'019cadfd890c7051ba4483a5150b90e8',X'019cadfd89007019b7d7678d97c09bd8',13,NULL,1,0,0,1772445720000000,NULL,0,NULL,NULL,NULL,NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd890d8d22be3d84ba1495ee27',20514,X'019cadfd890d7c5c9a08d6afa33d4e67',X'019cadfd89007019b7d7678d97c09bd8',14,NULL,0,0,0,1772445600000000,NULL,0,X'019cadfd89007c1f936cd037699aeb29',1772445660000000,NULL,NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd890e83129b2b86f719fb8aaf',20514,X'019cadfd890e756c85dbfb9f6c305815',X'019cadfd89007019b7d7678d97c09bd8',15,NULL,0,0,0,1772445600000000,NULL,0,X'019cadfd89007c1f936cd037699aeb29',1772445660000000,NULL,NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd890f8644b53e0c5f2970cd68',20514,X'019cadfd890f740393a3473ee35a72b6',X'019cadfd89007b54b5fdaa7635804260',16,'a',1,0,0,253402214400000000,NULL,1,NULL,NULL,NULL,NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd89108a94ab5deb1fb26ac320',20514,X'019cadfd89107e2e9c19809bd8bd22a4',X'019cadfd89007b54b5fdaa7635804260',17,'a',0,0,0,253402214400000000,1772445600000000,0,NULL,NULL,NULL,NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd89118f2c833f48f657d5859e',20514,X'019cadfd891177f6b65f7e25c6c707ce',X'019cadfd89007b54b5fdaa7635804260',18,'b',1,0,0,1772445660000000,NULL,0,NULL,NULL,NULL,NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd8912805581a4d117f3e67a39',20514,X'019cadfd89127b1cb67f15f08e4ea90d',X'019cadfd89007b54b5fdaa7635804260',19,'b',0,0,0,253402214400000000,1772445600000000,0,NULL,NULL,NULL,NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd891380efa900e846739792d1',20514,X'019cadfd8913721fb72e45f16206e9b0',X'019cadfd89007b54b5fdaa7635804260',20,'c',0,0,0,1772445600000000,NULL,0,X'019cadfd890072d983cfcf72cc225058',1772445660000000,NULL,NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd89148cf39a97be7b778db518',20514,X'019cadfd89147b15af06f100bc7459cc',X'019cadfd89007b54b5fdaa7635804260',21,'c',0,0,0,253402214400000000,1772445600000000,0,NULL,NULL,NULL,NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd89158972ac5c79207aae3d1f',20514,X'019cadfd89157c8e80c7ff9d50643c5b',X'019cadfd89007b54b5fdaa7635804260',22,NULL,0,0,0,1772445600000000,NULL,0,X'019cadfd890072d983cfcf72cc225058',1772445660000000,NULL,NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd891682ab96c22fdbb4d83f62',20514,X'019cadfd89167c92acadb84784f52383',X'019cadfd89007b56b841253e2f552a80',23,NULL,1,0,0,1772445665000000,NULL,0,NULL,NULL,X'019cadfd891682ab96c22fdbb4d83f62',NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd89178c6fa29d7d595d8fe037',20514,X'019cadfd89177cdea4f10e83aac7f852',X'019cadfd89007b56b841253e2f552a80',24,NULL,1,0,0,253402128000000000,1772445665000000,0,NULL,NULL,X'019cadfd891682ab96c22fdbb4d83f62',NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd891885d5a57cb8ba3f9ff483',20514,X'019cadfd8918737ca8f08dd8e98906ea',X'019cadfd89007b56b841253e2f552a80',25,NULL,1,0,0,253402128000000000,1772445665000000,0,NULL,NULL,X'019cadfd891682ab96c22fdbb4d83f62',NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd8919840d81de2940dbfc4a53',20514,X'019cadfd89197155bcdd851ad8616942',X'019cadfd89007b56b841253e2f552a80',26,NULL,0,0,0,1772445610000000,1772445605000000,0,NULL,NULL,NULL,NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd891a8173a343f3ca8c19cd6a',20514,X'019cadfd891a7aada70448128984081a',X'019cadfd89007b56b841253e2f552a80',27,NULL,0,0,0,1772445610000000,1772445605000000,0,NULL,NULL,NULL,NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd891b8b0f8bef8d2c68b5b349',20514,X'019cadfd891b7cc7be7fa72ff3d5b46a',X'019cadfd89007d97b0b7a1478e444a09',28,NULL,1,0,0,1772445665000000,NULL,0,NULL,NULL,NULL,'v1.cBMwo5xj.oxkfk+53duTjEeZiHNvBMUBNL8pJOP4V2g5sVuRdDYQw0e3jXOUCMX40BdJlBMSAb7tHE5YcqTRs8xySo0GPLtx/VNZPqIBNaHEadN4tNIkc8LXKnWwPq8OF2IMwSS5P6uXiiBjFfxtdn7aFjqAaokkbQUp7I8KtXajsmexZDVPkFvqYAya54EOGiRXvOf/bwBLYfeIjj0ywV/8qWekEVY+IBCSEaHx1v55cTH+uTojfG1mprwod+E0BEg==');
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd891c8b7b8a8f9aaab7e4faca',20514,X'019cadfd891c7fb690066f294783d009',X'019cadfd89007e65bdf237f4922aa54b',29,NULL,0,0,0,1772445605000000,NULL,0,NULL,NULL,NULL,NULL);
INSERT INTO postrider_deliveries VALUES(0,X'019cadfd891e8262afe0c8aa1bbf3bea',20514,X'019cadfd891e7590a60aac6778304877',X'019cadfd89007fc09c0f8f3e35920b3f',31,NULL,0,0,0,1772445605000000,NULL,0,NULL,NULL,NULL,NULL);
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
INSERT INTO postrider_leases VALUES(0,X'019cadfd8900738aa952c32f97687dee',20514,1772445660000000,1,X'010100');
INSERT INTO postrider_leases VALUES(0,X'019cadfd890078fd85920a8a605cd811',20514,1772445660000000,1,X'010101010100');
CREATE TABLE postrider_lease_members (
    slot INTEGER NOT NULL DEFAULT 0,
    token BLOB NOT NULL,
    members BLOB NOT NULL,
    PRIMARY KEY (slot, token)
) STRICT, WITHOUT ROWID;
INSERT INTO postrider_lease_members VALUES(0,X'019cadfd8900738aa952c32f97687dee',X'019cadfd890885a483e74961e9dfc5ee019cadfd890874ffbb71d8846a812bc7019cadfd890076e7b49052812f9fbc63019cadfd89098d11a6b6b354a1fa0045019cadfd8909769d93e1ad9ad4806409019cadfd890076e7b49052812f9fbc63019cadfd890a81e187c57eb2cc8f03db019cadfd890a72fa8acea1d631e19fdb019cadfd890076e7b49052812f9fbc63');
INSERT INTO postrider_lease_members VALUES(0,X'019cadfd890078fd85920a8a605cd811',X'019cadfd8900838698441a88e160e4e3019cadfd89007846aebbc7273625b4fa019cadfd89007fc09c0f8f3e35920b3f019cadfd89018f80beee563aadf3e754019cadfd89017e448597ef6cac1f4514019cadfd89007fc09c0f8f3e35920b3f019cadfd89028fdf8aeb8f94dfc65b5e019cadfd89027a7da74a1592e6124c19019cadfd89007fc09c0f8f3e35920b3f019cadfd8903841892924724c7e00a46019cadfd89037d17b5a1bc4fbd830c7b019cadfd89007fc09c0f8f3e35920b3f019cadfd890489e4b75fa1a6af3f4ef7019cadfd89047c00afe9e6a2a0533c73019cadfd89007fc09c0f8f3e35920b3f019cadfd8905849790e51f633101a827019cadfd8905762ba8ebb8764f6669d0019cadfd89007fc09c0f8f3e35920b3f');
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
INSERT INTO postrider_attempts VALUES(0,20514,X'019cadfd8900838698441a88e160e4e3',X'019cadfd89007749956d82604410189f',X'019cadfd89007846aebbc7273625b4fa',X'019cadfd89007fc09c0f8f3e35920b3f',1,1772445600000000,20,'accepted',200,0,NULL,X'74686520726573706f6e7365');
INSERT INTO postrider_attempts VALUES(0,20514,X'019cadfd89018f80beee563aadf3e754',X'019cadfd890077b8bdaaeb291ad3b7b9',X'019cadfd89017e448597ef6cac1f4514',X'019cadfd89007fc09c0f8f3e35920b3f',1,1772445600000000,20,'refused',500,0,'answered 500',X'74686520726573706f6e7365');
INSERT INTO postrider_attempts VALUES(0,20514,X'019cadfd89028fdf8aeb8f94dfc65b5e',X'019cadfd890070b8ac9b86c45aea746b',X'019cadfd89027a7da74a1592e6124c19',X'019cadfd89007fc09c0f8f3e35920b3f',1,1772445600000000,20,'refused',500,0,'answered 500',X'74686520726573706f6e7365');
INSERT INTO postrider_attempts VALUES(0,20514,X'019cadfd8903841892924724c7e00a46',X'019cadfd890077eaa7e1732f81c586c2',X'019cadfd89037d17b5a1bc4fbd830c7b',X'019cadfd89007fc09c0f8f3e35920b3f',1,1772445600000000,20,'refused',500,0,'answered 500',X'74686520726573706f6e7365');
INSERT INTO postrider_attempts VALUES(0,20514,X'019cadfd890885a483e74961e9dfc5ee',X'019cadfd89007a788509153cac219c95',X'019cadfd890874ffbb71d8846a812bc7',X'019cadfd890076e7b49052812f9fbc63',1,1772445600000000,20,'refused',500,0,'answered 500',X'74686520726573706f6e7365');
INSERT INTO postrider_attempts VALUES(0,20514,X'019cadfd89098d11a6b6b354a1fa0045',X'019cadfd89007c6886f6498c12eef587',X'019cadfd8909769d93e1ad9ad4806409',X'019cadfd890076e7b49052812f9fbc63',1,1772445600000000,20,'refused',500,0,'answered 500',X'74686520726573706f6e7365');
INSERT INTO postrider_attempts VALUES(0,20514,X'019cadfd890b8001b27b2837cf0b5939',X'019cadfd890078c5ad36d3ef6e9fcddc',X'019cadfd890b715bbd5b64831020ae24',X'019cadfd890070649a2bdf8419f5ceb7',1,1772445600000000,20,'refused',410,0,'answered 410',X'74686520726573706f6e7365');
INSERT INTO postrider_attempts VALUES(0,20514,X'019cadfd890c8840bbf335fd3d78c26a',X'019cadfd8900783287e7bbce520c6363',X'019cadfd890c7051ba4483a5150b90e8',X'019cadfd89007019b7d7678d97c09bd8',1,1772445600000000,20,'refused',500,0,'answered 500',X'74686520726573706f6e7365');
INSERT INTO postrider_attempts VALUES(0,20514,X'019cadfd890f8644b53e0c5f2970cd68',X'019cadfd89007671ae3868cc8eb8ceea',X'019cadfd890f740393a3473ee35a72b6',X'019cadfd89007b54b5fdaa7635804260',1,1772445600000000,20,'refused',500,0,'answered 500',X'74686520726573706f6e7365');
INSERT INTO postrider_attempts VALUES(0,20514,X'019cadfd89118f2c833f48f657d5859e',X'019cadfd8900711fbf41994d9179fa89',X'019cadfd891177f6b65f7e25c6c707ce',X'019cadfd89007b54b5fdaa7635804260',1,1772445600000000,20,'refused',500,0,'answered 500',X'74686520726573706f6e7365');
INSERT INTO postrider_attempts VALUES(0,20514,X'019cadfd891682ab96c22fdbb4d83f62',X'019cadfd9c887768987a14b4a95e99e8',X'019cadfd89167c92acadb84784f52383',X'019cadfd89007b56b841253e2f552a80',1,1772445605000000,20,'refused',500,0,'answered 500',X'74686520726573706f6e7365');
INSERT INTO postrider_attempts VALUES(0,20514,X'019cadfd89178c6fa29d7d595d8fe037',X'019cadfd9c887e589a11a99c73bae8e3',X'019cadfd89177cdea4f10e83aac7f852',X'019cadfd89007b56b841253e2f552a80',1,1772445605000000,20,'refused',500,0,'answered 500',X'74686520726573706f6e7365');
INSERT INTO postrider_attempts VALUES(0,20514,X'019cadfd891885d5a57cb8ba3f9ff483',X'019cadfd9c887d039a4b5b2995f9275b',X'019cadfd8918737ca8f08dd8e98906ea',X'019cadfd89007b56b841253e2f552a80',1,1772445605000000,20,'refused',500,0,'answered 500',X'74686520726573706f6e7365');
INSERT INTO postrider_attempts VALUES(0,20514,X'019cadfd891b8b0f8bef8d2c68b5b349',X'019cadfd9c887ad4ab7366023865b57e',X'019cadfd891b7cc7be7fa72ff3d5b46a',X'019cadfd89007d97b0b7a1478e444a09',1,1772445605000000,20,'refused',500,0,'answered 500',X'74686520726573706f6e7365');
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
INSERT INTO postrider_ended VALUES(0,20514,X'019cadfd89018f80beee563aadf3e754',X'019cadfd89017e448597ef6cac1f4514',X'019cadfd89007fc09c0f8f3e35920b3f','failed','exhausted',1,1772445600000000);
INSERT INTO postrider_ended VALUES(0,20514,X'019cadfd8903841892924724c7e00a46',X'019cadfd89037d17b5a1bc4fbd830c7b',X'019cadfd89007fc09c0f8f3e35920b3f','cancelled','discarded',1,1772445600000000);
INSERT INTO postrider_ended VALUES(0,20514,X'019cadfd890b8001b27b2837cf0b5939',X'019cadfd890b715bbd5b64831020ae24',X'019cadfd890070649a2bdf8419f5ceb7','failed','gone',1,1772445600000000);
INSERT INTO postrider_ended VALUES(0,20514,X'019cadfd890f8644b53e0c5f2970cd68',X'019cadfd890f740393a3473ee35a72b6',X'019cadfd89007b54b5fdaa7635804260','failed','exhausted',1,1772445600000000);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('postrider_hook_history',15);
INSERT INTO sqlite_sequence VALUES('postrider_outbox',37);
CREATE INDEX postrider_dedup_by_day ON postrider_dedup (slot, day);
CREATE INDEX postrider_hooks_by_account ON postrider_hooks (account, id);
CREATE INDEX postrider_hooks_by_version ON postrider_hooks (version);
CREATE UNIQUE INDEX postrider_hooks_by_alias ON postrider_hooks (profile, alias)
    WHERE alias IS NOT NULL;
CREATE INDEX postrider_hook_history_by_hook ON postrider_hook_history (hook_id, number);
CREATE UNIQUE INDEX postrider_keys_by_hash ON postrider_keys (hash);
CREATE UNIQUE INDEX postrider_keys_by_public_id ON postrider_keys (system, public_id)
    WHERE public_id IS NOT NULL AND revoked_at IS NULL;
CREATE INDEX postrider_signatures_by_until ON postrider_signatures (until);
CREATE INDEX postrider_idempotency_by_time ON postrider_idempotency (created_at);
CREATE INDEX postrider_deliveries_waiting
    ON postrider_deliveries (slot, hook_id, next_attempt_at) WHERE lease_token IS NULL;
CREATE INDEX postrider_deliveries_leased
    ON postrider_deliveries (slot, lease_expires_at) WHERE lease_token IS NOT NULL;
CREATE INDEX postrider_deliveries_keyed
    ON postrider_deliveries (slot, hook_id, ordering_key, event_seq)
    WHERE ordering_key IS NOT NULL;
CREATE INDEX postrider_deliveries_keyed_leased
    ON postrider_deliveries (slot, hook_id, ordering_key)
    WHERE ordering_key IS NOT NULL AND lease_token IS NOT NULL;
CREATE INDEX postrider_deliveries_batched
    ON postrider_deliveries (slot, batch_id) WHERE batch_id IS NOT NULL;
CREATE UNIQUE INDEX postrider_attempts_by_hook
    ON postrider_attempts (slot, hook_id, delivery_id, day, number) WHERE late = 0;
CREATE INDEX postrider_ended_by_hook ON postrider_ended (slot, hook_id, delivery_id);
COMMIT;
