SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
CREATE FUNCTION public.postrider_slot(key text) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT ((get_byte(sha256(convert_to(key, 'UTF8')), 0) * 256
           + get_byte(sha256(convert_to(key, 'UTF8')), 1)) % 1)::smallint
$$;
CREATE FUNCTION public.postrider_uuid_v7() RETURNS uuid
    LANGUAGE sql PARALLEL SAFE
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
CREATE TABLE public.postrider_aliases (
    profile text NOT NULL,
    last bigint NOT NULL
);
CREATE TABLE public.postrider_attempts (
    slot smallint DEFAULT 0 NOT NULL,
    day date NOT NULL,
    delivery_id uuid NOT NULL,
    id uuid NOT NULL,
    event_id uuid NOT NULL,
    hook_id uuid NOT NULL,
    number integer NOT NULL,
    at timestamp with time zone NOT NULL,
    duration_ms integer NOT NULL,
    outcome text NOT NULL,
    status smallint,
    error text,
    response bytea,
    late boolean NOT NULL
)
PARTITION BY RANGE (day);
CREATE TABLE public.postrider_attempts_20260302 (
    slot smallint DEFAULT 0 NOT NULL,
    day date NOT NULL,
    delivery_id uuid NOT NULL,
    id uuid NOT NULL,
    event_id uuid NOT NULL,
    hook_id uuid NOT NULL,
    number integer NOT NULL,
    at timestamp with time zone NOT NULL,
    duration_ms integer NOT NULL,
    outcome text NOT NULL,
    status smallint,
    error text,
    response bytea,
    late boolean NOT NULL
);
CREATE TABLE public.postrider_attempts_20260303 (
    slot smallint DEFAULT 0 NOT NULL,
    day date NOT NULL,
    delivery_id uuid NOT NULL,
    id uuid NOT NULL,
    event_id uuid NOT NULL,
    hook_id uuid NOT NULL,
    number integer NOT NULL,
    at timestamp with time zone NOT NULL,
    duration_ms integer NOT NULL,
    outcome text NOT NULL,
    status smallint,
    error text,
    response bytea,
    late boolean NOT NULL
);
CREATE TABLE public.postrider_attempts_20260304 (
    slot smallint DEFAULT 0 NOT NULL,
    day date NOT NULL,
    delivery_id uuid NOT NULL,
    id uuid NOT NULL,
    event_id uuid NOT NULL,
    hook_id uuid NOT NULL,
    number integer NOT NULL,
    at timestamp with time zone NOT NULL,
    duration_ms integer NOT NULL,
    outcome text NOT NULL,
    status smallint,
    error text,
    response bytea,
    late boolean NOT NULL
);
CREATE TABLE public.postrider_attempts_20260305 (
    slot smallint DEFAULT 0 NOT NULL,
    day date NOT NULL,
    delivery_id uuid NOT NULL,
    id uuid NOT NULL,
    event_id uuid NOT NULL,
    hook_id uuid NOT NULL,
    number integer NOT NULL,
    at timestamp with time zone NOT NULL,
    duration_ms integer NOT NULL,
    outcome text NOT NULL,
    status smallint,
    error text,
    response bytea,
    late boolean NOT NULL
);
CREATE TABLE public.postrider_dedup (
    slot smallint DEFAULT 0 NOT NULL,
    account text NOT NULL,
    key text NOT NULL,
    day date NOT NULL
);
CREATE TABLE public.postrider_deliveries (
    slot smallint DEFAULT 0 NOT NULL,
    id uuid NOT NULL,
    day date NOT NULL,
    event_id uuid NOT NULL,
    hook_id uuid NOT NULL,
    event_seq bigint NOT NULL,
    ordering_key text,
    attempts integer DEFAULT 0 NOT NULL,
    earlier_attempts integer DEFAULT 0 NOT NULL,
    lost_leases smallint DEFAULT 0 NOT NULL,
    next_attempt_at timestamp with time zone NOT NULL,
    turn_at timestamp with time zone,
    holds_key boolean DEFAULT false NOT NULL,
    lease_token uuid,
    lease_expires_at timestamp with time zone,
    batch_id uuid,
    target text,
    CONSTRAINT postrider_deliveries_check CHECK (((lease_token IS NULL) = (lease_expires_at IS NULL)))
)
WITH (fillfactor='90', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='5000', autovacuum_vacuum_insert_scale_factor='0', autovacuum_vacuum_insert_threshold='100000', autovacuum_analyze_scale_factor='0', autovacuum_analyze_threshold='20000', autovacuum_vacuum_cost_delay='0', vacuum_truncate=off);
CREATE TABLE public.postrider_ended (
    slot smallint DEFAULT 0 NOT NULL,
    day date NOT NULL,
    delivery_id uuid NOT NULL,
    event_id uuid NOT NULL,
    hook_id uuid NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    attempts integer NOT NULL,
    ended_at timestamp with time zone NOT NULL,
    CONSTRAINT postrider_ended_state_check CHECK ((state = ANY (ARRAY['failed'::text, 'cancelled'::text, 'expired'::text])))
)
PARTITION BY RANGE (day);
CREATE TABLE public.postrider_ended_20260302 (
    slot smallint DEFAULT 0 NOT NULL,
    day date NOT NULL,
    delivery_id uuid NOT NULL,
    event_id uuid NOT NULL,
    hook_id uuid NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    attempts integer NOT NULL,
    ended_at timestamp with time zone NOT NULL,
    CONSTRAINT postrider_ended_state_check CHECK ((state = ANY (ARRAY['failed'::text, 'cancelled'::text, 'expired'::text])))
);
CREATE TABLE public.postrider_ended_20260303 (
    slot smallint DEFAULT 0 NOT NULL,
    day date NOT NULL,
    delivery_id uuid NOT NULL,
    event_id uuid NOT NULL,
    hook_id uuid NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    attempts integer NOT NULL,
    ended_at timestamp with time zone NOT NULL,
    CONSTRAINT postrider_ended_state_check CHECK ((state = ANY (ARRAY['failed'::text, 'cancelled'::text, 'expired'::text])))
);
CREATE TABLE public.postrider_ended_20260304 (
    slot smallint DEFAULT 0 NOT NULL,
    day date NOT NULL,
    delivery_id uuid NOT NULL,
    event_id uuid NOT NULL,
    hook_id uuid NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    attempts integer NOT NULL,
    ended_at timestamp with time zone NOT NULL,
    CONSTRAINT postrider_ended_state_check CHECK ((state = ANY (ARRAY['failed'::text, 'cancelled'::text, 'expired'::text])))
);
CREATE TABLE public.postrider_ended_20260305 (
    slot smallint DEFAULT 0 NOT NULL,
    day date NOT NULL,
    delivery_id uuid NOT NULL,
    event_id uuid NOT NULL,
    hook_id uuid NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    attempts integer NOT NULL,
    ended_at timestamp with time zone NOT NULL,
    CONSTRAINT postrider_ended_state_check CHECK ((state = ANY (ARRAY['failed'::text, 'cancelled'::text, 'expired'::text])))
);
CREATE TABLE public.postrider_events (
    slot smallint DEFAULT 0 NOT NULL,
    day date NOT NULL,
    id uuid NOT NULL,
    seq bigint NOT NULL,
    account text NOT NULL,
    event_type text NOT NULL,
    payload json NOT NULL,
    ordering_key text,
    dedup_key text,
    headers json,
    occurred_at timestamp with time zone NOT NULL,
    fanned_out_at timestamp with time zone NOT NULL,
    erased_at timestamp with time zone
)
PARTITION BY RANGE (day);
CREATE TABLE public.postrider_events_20260302 (
    slot smallint DEFAULT 0 NOT NULL,
    day date NOT NULL,
    id uuid NOT NULL,
    seq bigint NOT NULL,
    account text NOT NULL,
    event_type text NOT NULL,
    payload json NOT NULL,
    ordering_key text,
    dedup_key text,
    headers json,
    occurred_at timestamp with time zone NOT NULL,
    fanned_out_at timestamp with time zone NOT NULL,
    erased_at timestamp with time zone
);
CREATE TABLE public.postrider_events_20260303 (
    slot smallint DEFAULT 0 NOT NULL,
    day date NOT NULL,
    id uuid NOT NULL,
    seq bigint NOT NULL,
    account text NOT NULL,
    event_type text NOT NULL,
    payload json NOT NULL,
    ordering_key text,
    dedup_key text,
    headers json,
    occurred_at timestamp with time zone NOT NULL,
    fanned_out_at timestamp with time zone NOT NULL,
    erased_at timestamp with time zone
);
CREATE TABLE public.postrider_events_20260304 (
    slot smallint DEFAULT 0 NOT NULL,
    day date NOT NULL,
    id uuid NOT NULL,
    seq bigint NOT NULL,
    account text NOT NULL,
    event_type text NOT NULL,
    payload json NOT NULL,
    ordering_key text,
    dedup_key text,
    headers json,
    occurred_at timestamp with time zone NOT NULL,
    fanned_out_at timestamp with time zone NOT NULL,
    erased_at timestamp with time zone
);
CREATE TABLE public.postrider_events_20260305 (
    slot smallint DEFAULT 0 NOT NULL,
    day date NOT NULL,
    id uuid NOT NULL,
    seq bigint NOT NULL,
    account text NOT NULL,
    event_type text NOT NULL,
    payload json NOT NULL,
    ordering_key text,
    dedup_key text,
    headers json,
    occurred_at timestamp with time zone NOT NULL,
    fanned_out_at timestamp with time zone NOT NULL,
    erased_at timestamp with time zone
);
CREATE TABLE public.postrider_gates (
    hook_id uuid NOT NULL,
    owner uuid NOT NULL,
    until timestamp with time zone NOT NULL
)
WITH (fillfactor='50');
CREATE TABLE public.postrider_gauges (
    singleton boolean DEFAULT true NOT NULL,
    due_at timestamp with time zone NOT NULL,
    sampled_at timestamp with time zone,
    sample json,
    CONSTRAINT postrider_gauges_singleton_check CHECK (singleton)
)
WITH (fillfactor='50');
CREATE TABLE public.postrider_hook_health (
    hook_id uuid NOT NULL,
    fail_count integer DEFAULT 0 NOT NULL,
    first_failure_at timestamp with time zone,
    last_failure_at timestamp with time zone,
    last_error text,
    succeeded_at timestamp with time zone,
    phase text,
    not_before timestamp with time zone,
    probes integer DEFAULT 0 NOT NULL,
    warned_at timestamp with time zone,
    CONSTRAINT postrider_hook_health_phase_check CHECK ((phase = ANY (ARRAY['backed_off'::text, 'ramping'::text])))
)
WITH (fillfactor='50');
CREATE TABLE public.postrider_hook_history (
    hook_id uuid NOT NULL,
    number bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    action text NOT NULL,
    actor text NOT NULL,
    reason text,
    fail_count integer NOT NULL,
    last_error text,
    deliveries integer
);
ALTER TABLE public.postrider_hook_history ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.postrider_hook_history_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.postrider_hook_latest (
    hook_id uuid NOT NULL,
    at timestamp with time zone NOT NULL,
    status smallint
)
WITH (fillfactor='50');
CREATE TABLE public.postrider_hooks (
    id uuid NOT NULL,
    alias text COLLATE pg_catalog."C",
    account text NOT NULL,
    url text NOT NULL,
    events text[] NOT NULL,
    profile text NOT NULL,
    status text NOT NULL,
    disabled_reason text,
    disabled_at timestamp with time zone,
    disabled_by text,
    settings json NOT NULL,
    limited boolean DEFAULT false NOT NULL,
    ordered boolean DEFAULT false NOT NULL,
    credentials text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    deleted_at timestamp with time zone,
    version bigint NOT NULL,
    CONSTRAINT postrider_hooks_check CHECK (((status = 'disabled'::text) = (disabled_reason IS NOT NULL))),
    CONSTRAINT postrider_hooks_disabled_reason_check CHECK ((disabled_reason = ANY (ARRAY['failures'::text, 'gone'::text, 'manual'::text]))),
    CONSTRAINT postrider_hooks_status_check CHECK ((status = ANY (ARRAY['active'::text, 'paused'::text, 'disabled'::text])))
);
CREATE TABLE public.postrider_idempotency (
    caller uuid NOT NULL,
    key text NOT NULL,
    digest bytea NOT NULL,
    ids uuid[] NOT NULL,
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE public.postrider_keys (
    id uuid NOT NULL,
    system text,
    scope text NOT NULL,
    account text,
    name text,
    hash bytea,
    public_id text COLLATE pg_catalog."C",
    proof text,
    may_read boolean DEFAULT true NOT NULL,
    may_write boolean DEFAULT true NOT NULL,
    account_active boolean DEFAULT true NOT NULL,
    member_active boolean DEFAULT true NOT NULL,
    verified boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone NOT NULL,
    last_used_at timestamp with time zone,
    revoked_at timestamp with time zone,
    CONSTRAINT postrider_keys_check CHECK (((scope <> 'admin'::text) OR (account IS NULL))),
    CONSTRAINT postrider_keys_check1 CHECK (((scope <> ALL (ARRAY['account'::text, 'register'::text])) OR (account IS NOT NULL))),
    CONSTRAINT postrider_keys_check2 CHECK (((scope = 'register'::text) = (system IS NOT NULL))),
    CONSTRAINT postrider_keys_check3 CHECK (((hash IS NULL) = (public_id IS NOT NULL))),
    CONSTRAINT postrider_keys_check4 CHECK (((public_id IS NULL) = (proof IS NULL))),
    CONSTRAINT postrider_keys_check5 CHECK (((public_id IS NULL) OR (system IS NOT NULL))),
    CONSTRAINT postrider_keys_scope_check CHECK ((scope = ANY (ARRAY['admin'::text, 'account'::text, 'publish'::text, 'register'::text])))
)
WITH (fillfactor='50');
CREATE TABLE public.postrider_leases (
    slot smallint DEFAULT 0 NOT NULL,
    token uuid NOT NULL,
    day date NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    open integer NOT NULL,
    closed bit varying NOT NULL,
    deliveries uuid[] NOT NULL,
    events uuid[] NOT NULL,
    hooks uuid[] NOT NULL
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000', autovacuum_vacuum_cost_delay='0', vacuum_truncate=off);
ALTER TABLE ONLY public.postrider_leases ALTER COLUMN deliveries SET STORAGE EXTERNAL;
ALTER TABLE ONLY public.postrider_leases ALTER COLUMN events SET STORAGE EXTERNAL;
ALTER TABLE ONLY public.postrider_leases ALTER COLUMN hooks SET STORAGE EXTERNAL;
CREATE TABLE public.postrider_meta (
    singleton boolean DEFAULT true NOT NULL,
    hooks_version bigint DEFAULT 0 NOT NULL,
    oldest_binary integer NOT NULL,
    slots smallint DEFAULT 1 NOT NULL,
    moved_to text,
    moving_from text,
    pruned_at timestamp with time zone,
    prune_from timestamp with time zone,
    CONSTRAINT postrider_meta_singleton_check CHECK (singleton),
    CONSTRAINT postrider_meta_slots_check CHECK (((slots >= 1) AND (slots <= 1024)))
);
CREATE TABLE public.postrider_migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL,
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);
CREATE TABLE public.postrider_moves (
    name text NOT NULL,
    reached json NOT NULL,
    rows bigint NOT NULL
);
CREATE TABLE public.postrider_outbox (
    slot smallint DEFAULT 0 NOT NULL,
    seq bigint NOT NULL,
    id uuid DEFAULT public.postrider_uuid_v7() NOT NULL,
    account text DEFAULT 'default'::text NOT NULL,
    event_type text NOT NULL,
    payload json NOT NULL,
    ordering_key text,
    dedup_key text,
    deliver_after timestamp with time zone,
    occurred_at timestamp with time zone,
    headers json,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    about_hook uuid,
    CONSTRAINT "postrider: the payload is larger than 512 KiB" CHECK ((octet_length((payload)::text) <= 524288))
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='5000', autovacuum_vacuum_insert_scale_factor='0', autovacuum_vacuum_insert_threshold='100000', autovacuum_vacuum_cost_delay='0', vacuum_truncate=off);
ALTER TABLE public.postrider_outbox ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.postrider_outbox_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.postrider_rejected (
    slot smallint DEFAULT 0 NOT NULL,
    id uuid NOT NULL,
    reason text NOT NULL,
    rejected_at timestamp with time zone NOT NULL,
    account text,
    event_type text,
    payload text,
    ordering_key text,
    dedup_key text,
    deliver_after timestamp with time zone,
    occurred_at timestamp with time zone,
    headers text
);
CREATE TABLE public.postrider_signatures (
    key_id uuid NOT NULL,
    signature bytea NOT NULL,
    until timestamp with time zone NOT NULL
);
ALTER TABLE ONLY public.postrider_attempts ATTACH PARTITION public.postrider_attempts_20260302 FOR VALUES FROM ('2026-03-02') TO ('2026-03-03');
ALTER TABLE ONLY public.postrider_attempts ATTACH PARTITION public.postrider_attempts_20260303 FOR VALUES FROM ('2026-03-03') TO ('2026-03-04');
ALTER TABLE ONLY public.postrider_attempts ATTACH PARTITION public.postrider_attempts_20260304 FOR VALUES FROM ('2026-03-04') TO ('2026-03-05');
ALTER TABLE ONLY public.postrider_attempts ATTACH PARTITION public.postrider_attempts_20260305 FOR VALUES FROM ('2026-03-05') TO ('2026-03-06');
ALTER TABLE ONLY public.postrider_ended ATTACH PARTITION public.postrider_ended_20260302 FOR VALUES FROM ('2026-03-02') TO ('2026-03-03');
ALTER TABLE ONLY public.postrider_ended ATTACH PARTITION public.postrider_ended_20260303 FOR VALUES FROM ('2026-03-03') TO ('2026-03-04');
ALTER TABLE ONLY public.postrider_ended ATTACH PARTITION public.postrider_ended_20260304 FOR VALUES FROM ('2026-03-04') TO ('2026-03-05');
ALTER TABLE ONLY public.postrider_ended ATTACH PARTITION public.postrider_ended_20260305 FOR VALUES FROM ('2026-03-05') TO ('2026-03-06');
ALTER TABLE ONLY public.postrider_events ATTACH PARTITION public.postrider_events_20260302 FOR VALUES FROM ('2026-03-02') TO ('2026-03-03');
ALTER TABLE ONLY public.postrider_events ATTACH PARTITION public.postrider_events_20260303 FOR VALUES FROM ('2026-03-03') TO ('2026-03-04');
ALTER TABLE ONLY public.postrider_events ATTACH PARTITION public.postrider_events_20260304 FOR VALUES FROM ('2026-03-04') TO ('2026-03-05');
ALTER TABLE ONLY public.postrider_events ATTACH PARTITION public.postrider_events_20260305 FOR VALUES FROM ('2026-03-05') TO ('2026-03-06');
INSERT INTO public.postrider_attempts_20260302 VALUES (0, '2026-03-02', '019cadfd-8900-8abb-9dfc-7667724ce479', '019cadfd-8900-7fb5-9f5d-652ee7febde7', '019cadfd-8900-7a60-9b35-7c13b0101000', '019cadfd-8900-7710-b915-9801a9492fa5', 1, '2026-03-02 10:00:00+00', 20, 'accepted', 200, NULL, '\x74686520726573706f6e7365', false);
INSERT INTO public.postrider_attempts_20260302 VALUES (0, '2026-03-02', '019cadfd-8901-898a-bd4e-1c3ca56bb5af', '019cadfd-8900-7986-893a-93257ff58046', '019cadfd-8901-712d-8279-8e7dd09935a2', '019cadfd-8900-7710-b915-9801a9492fa5', 1, '2026-03-02 10:00:00+00', 20, 'refused', 500, 'answered 500', '\x74686520726573706f6e7365', false);
INSERT INTO public.postrider_attempts_20260302 VALUES (0, '2026-03-02', '019cadfd-8902-8dd8-861e-47337747f94a', '019cadfd-8900-79be-97e7-884c988eef5c', '019cadfd-8902-74d0-a202-04366ecbc19c', '019cadfd-8900-7710-b915-9801a9492fa5', 1, '2026-03-02 10:00:00+00', 20, 'refused', 500, 'answered 500', '\x74686520726573706f6e7365', false);
INSERT INTO public.postrider_attempts_20260302 VALUES (0, '2026-03-02', '019cadfd-8903-8c26-a1cc-f91ab53fa63b', '019cadfd-8900-7c2e-9241-9ed69702c7a7', '019cadfd-8903-7936-92b2-3a41716900b0', '019cadfd-8900-7710-b915-9801a9492fa5', 1, '2026-03-02 10:00:00+00', 20, 'refused', 500, 'answered 500', '\x74686520726573706f6e7365', false);
INSERT INTO public.postrider_attempts_20260302 VALUES (0, '2026-03-02', '019cadfd-8908-8d0e-8fb4-7aa9bfd616eb', '019cadfd-8900-73d7-bb6f-0555bb1fd9f1', '019cadfd-8908-7c49-a3e2-929af045df92', '019cadfd-8900-765b-9ae8-e062627d1053', 1, '2026-03-02 10:00:00+00', 20, 'refused', 500, 'answered 500', '\x74686520726573706f6e7365', false);
INSERT INTO public.postrider_attempts_20260302 VALUES (0, '2026-03-02', '019cadfd-8909-8861-8fd2-a258c2b31579', '019cadfd-8900-7465-9bab-12b2a4f86dba', '019cadfd-8909-7d5a-8cbc-cf2c932f6725', '019cadfd-8900-765b-9ae8-e062627d1053', 1, '2026-03-02 10:00:00+00', 20, 'refused', 500, 'answered 500', '\x74686520726573706f6e7365', false);
INSERT INTO public.postrider_attempts_20260302 VALUES (0, '2026-03-02', '019cadfd-890b-86ba-a0d6-8c2af6e28e52', '019cadfd-8900-782d-acc1-67e7faebeb0c', '019cadfd-890b-76ad-8ab3-e9b95695e7a4', '019cadfd-8900-7436-aa02-9f28cc0a7700', 1, '2026-03-02 10:00:00+00', 20, 'refused', 410, 'answered 410', '\x74686520726573706f6e7365', false);
INSERT INTO public.postrider_attempts_20260302 VALUES (0, '2026-03-02', '019cadfd-890c-84ef-90bc-f5b9ed0e8e22', '019cadfd-8900-75e1-baf3-9e330d332917', '019cadfd-890c-7772-b444-6a16bf791680', '019cadfd-8900-725e-b05f-40fc59b24557', 1, '2026-03-02 10:00:00+00', 20, 'refused', 500, 'answered 500', '\x74686520726573706f6e7365', false);
INSERT INTO public.postrider_attempts_20260302 VALUES (0, '2026-03-02', '019cadfd-890f-871e-9410-19f02f395afa', '019cadfd-8900-7ce1-b22c-b8ca37636004', '019cadfd-890f-763e-90f5-a4cbe5c11703', '019cadfd-8900-72bd-8580-1ef016b674e5', 1, '2026-03-02 10:00:00+00', 20, 'refused', 500, 'answered 500', '\x74686520726573706f6e7365', false);
INSERT INTO public.postrider_attempts_20260302 VALUES (0, '2026-03-02', '019cadfd-8911-8726-813f-c1db1e0b9791', '019cadfd-8900-7f0f-88bb-a332b200a9b0', '019cadfd-8911-7e67-900c-55a8bda4a4bd', '019cadfd-8900-72bd-8580-1ef016b674e5', 1, '2026-03-02 10:00:00+00', 20, 'refused', 500, 'answered 500', '\x74686520726573706f6e7365', false);
INSERT INTO public.postrider_attempts_20260302 VALUES (0, '2026-03-02', '019cadfd-8916-8b7a-9c4a-13743261d577', '019cadfd-9c88-7a78-9c87-ffc59572448e', '019cadfd-8916-7e66-8544-74bb8ebe363c', '019cadfd-8900-74ba-96f0-9f58ade475b3', 1, '2026-03-02 10:00:05+00', 20, 'refused', 500, 'answered 500', '\x74686520726573706f6e7365', false);
INSERT INTO public.postrider_attempts_20260302 VALUES (0, '2026-03-02', '019cadfd-8917-8c7c-9431-63845a4ff27a', '019cadfd-9c88-78f5-b49e-d7a520ac8b7c', '019cadfd-8917-7246-91a6-c480133001cc', '019cadfd-8900-74ba-96f0-9f58ade475b3', 1, '2026-03-02 10:00:05+00', 20, 'refused', 500, 'answered 500', '\x74686520726573706f6e7365', false);
INSERT INTO public.postrider_attempts_20260302 VALUES (0, '2026-03-02', '019cadfd-8918-88ae-afcd-45e3cf32a4e5', '019cadfd-9c88-7574-b36b-5e0f3ff46e6a', '019cadfd-8918-763f-9ac7-857359ad7942', '019cadfd-8900-74ba-96f0-9f58ade475b3', 1, '2026-03-02 10:00:05+00', 20, 'refused', 500, 'answered 500', '\x74686520726573706f6e7365', false);
INSERT INTO public.postrider_attempts_20260302 VALUES (0, '2026-03-02', '019cadfd-891b-89ec-b373-9a907fe707c4', '019cadfd-9c88-79e7-b487-1906d900ba48', '019cadfd-891b-7bd3-9485-3354771da355', '019cadfd-8900-75de-ad96-56b22aa54a3b', 1, '2026-03-02 10:00:05+00', 20, 'refused', 500, 'answered 500', '\x74686520726573706f6e7365', false);
INSERT INTO public.postrider_dedup VALUES (0, 'default', 'once', '2026-03-02');
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-8902-8dd8-861e-47337747f94a', '2026-03-02', '019cadfd-8902-74d0-a202-04366ecbc19c', '019cadfd-8900-7710-b915-9801a9492fa5', 3, NULL, 1, 0, 0, '2026-03-02 10:05:00+00', NULL, false, NULL, NULL, NULL, NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-8904-82f0-a6dd-d5817bcc22c5', '2026-03-02', '019cadfd-8904-7a3e-a53e-ad285068a55b', '019cadfd-8900-7710-b915-9801a9492fa5', 5, NULL, 0, 0, 0, '2026-03-02 10:00:00+00', NULL, false, NULL, NULL, NULL, NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-8906-8d70-9628-b768eef50bbc', '2026-03-02', '019cadfd-8906-7465-ba79-34f4b9641f0c', '019cadfd-8900-7cdf-b7fa-b6bcf3d1ef16', 7, NULL, 0, 0, 0, '2026-03-02 10:00:00+00', NULL, false, NULL, NULL, NULL, NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-8907-8daa-b97d-c6d6d29c1813', '2026-03-02', '019cadfd-8907-7b9d-a42c-6cff4017948b', '019cadfd-8900-7cdf-b7fa-b6bcf3d1ef16', 8, NULL, 0, 0, 0, '2026-03-02 10:00:00+00', NULL, false, NULL, NULL, NULL, NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-8908-8d0e-8fb4-7aa9bfd616eb', '2026-03-02', '019cadfd-8908-7c49-a3e2-929af045df92', '019cadfd-8900-765b-9ae8-e062627d1053', 9, NULL, 1, 0, 0, '2026-03-02 10:01:00+00', NULL, false, NULL, NULL, NULL, NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-8909-8861-8fd2-a258c2b31579', '2026-03-02', '019cadfd-8909-7d5a-8cbc-cf2c932f6725', '019cadfd-8900-765b-9ae8-e062627d1053', 10, NULL, 1, 0, 0, '2026-03-02 10:01:00+00', NULL, false, NULL, NULL, NULL, NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-890d-8bc7-b8f1-b1610e87e592', '2026-03-02', '019cadfd-890d-79f3-b3b2-ab6d25dbee2b', '019cadfd-8900-725e-b05f-40fc59b24557', 14, NULL, 0, 0, 0, '2026-03-02 10:00:00+00', NULL, false, '019cadfd-8900-7de0-9888-66fa3be2fcc4', '2026-03-02 10:01:00+00', NULL, NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-890e-8816-b447-4cf56b5e7e26', '2026-03-02', '019cadfd-890e-7825-86ae-c141f42db87d', '019cadfd-8900-725e-b05f-40fc59b24557', 15, NULL, 0, 0, 0, '2026-03-02 10:00:00+00', NULL, false, '019cadfd-8900-7de0-9888-66fa3be2fcc4', '2026-03-02 10:01:00+00', NULL, NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-890c-84ef-90bc-f5b9ed0e8e22', '2026-03-02', '019cadfd-890c-7772-b444-6a16bf791680', '019cadfd-8900-725e-b05f-40fc59b24557', 13, NULL, 1, 0, 0, '2026-03-02 10:02:00+00', NULL, false, NULL, NULL, NULL, NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-8910-8e9d-8af7-08f07fb354a2', '2026-03-02', '019cadfd-8910-7e2c-8f8f-c66145e25578', '019cadfd-8900-72bd-8580-1ef016b674e5', 17, 'a', 0, 0, 0, '9999-12-31 00:00:00+00', '2026-03-02 10:00:00+00', false, NULL, NULL, NULL, NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-8912-8e8e-801c-3eae92332c5b', '2026-03-02', '019cadfd-8912-763b-a75c-4c33d4c9100b', '019cadfd-8900-72bd-8580-1ef016b674e5', 19, 'b', 0, 0, 0, '9999-12-31 00:00:00+00', '2026-03-02 10:00:00+00', false, NULL, NULL, NULL, NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-8914-89d7-8883-b94d30b5ee6e', '2026-03-02', '019cadfd-8914-7a95-8b6b-04b82c3d4888', '019cadfd-8900-72bd-8580-1ef016b674e5', 21, 'c', 0, 0, 0, '9999-12-31 00:00:00+00', '2026-03-02 10:00:00+00', false, NULL, NULL, NULL, NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-8913-8688-b219-458ad3f34f61', '2026-03-02', '019cadfd-8913-70f9-b55d-6760f52625d2', '019cadfd-8900-72bd-8580-1ef016b674e5', 20, 'c', 0, 0, 0, '2026-03-02 10:00:00+00', NULL, false, '019cadfd-8900-7dbe-ab2b-46dc30f86482', '2026-03-02 10:01:00+00', NULL, NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-8915-8dab-85a4-0f6fde0da962', '2026-03-02', '019cadfd-8915-7c20-8d35-33b128dfc9ad', '019cadfd-8900-72bd-8580-1ef016b674e5', 22, NULL, 0, 0, 0, '2026-03-02 10:00:00+00', NULL, false, '019cadfd-8900-7dbe-ab2b-46dc30f86482', '2026-03-02 10:01:00+00', NULL, NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-890f-871e-9410-19f02f395afa', '2026-03-02', '019cadfd-890f-763e-90f5-a4cbe5c11703', '019cadfd-8900-72bd-8580-1ef016b674e5', 16, 'a', 1, 0, 0, '9999-12-31 00:00:00+00', NULL, true, NULL, NULL, NULL, NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-8911-8726-813f-c1db1e0b9791', '2026-03-02', '019cadfd-8911-7e67-900c-55a8bda4a4bd', '019cadfd-8900-72bd-8580-1ef016b674e5', 18, 'b', 1, 0, 0, '2026-03-02 10:01:00+00', NULL, false, NULL, NULL, NULL, NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-8916-8b7a-9c4a-13743261d577', '2026-03-02', '019cadfd-8916-7e66-8544-74bb8ebe363c', '019cadfd-8900-74ba-96f0-9f58ade475b3', 23, NULL, 1, 0, 0, '2026-03-02 10:01:05+00', NULL, false, NULL, NULL, '019cadfd-8916-8b7a-9c4a-13743261d577', NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-8917-8c7c-9431-63845a4ff27a', '2026-03-02', '019cadfd-8917-7246-91a6-c480133001cc', '019cadfd-8900-74ba-96f0-9f58ade475b3', 24, NULL, 1, 0, 0, '9999-12-30 00:00:00+00', '2026-03-02 10:01:05+00', false, NULL, NULL, '019cadfd-8916-8b7a-9c4a-13743261d577', NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-8918-88ae-afcd-45e3cf32a4e5', '2026-03-02', '019cadfd-8918-763f-9ac7-857359ad7942', '019cadfd-8900-74ba-96f0-9f58ade475b3', 25, NULL, 1, 0, 0, '9999-12-30 00:00:00+00', '2026-03-02 10:01:05+00', false, NULL, NULL, '019cadfd-8916-8b7a-9c4a-13743261d577', NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-8919-8f3e-96f2-fe8139849b2d', '2026-03-02', '019cadfd-8919-76f1-8595-fbb5eb392b30', '019cadfd-8900-74ba-96f0-9f58ade475b3', 26, NULL, 0, 0, 0, '2026-03-02 10:00:10+00', '2026-03-02 10:00:05+00', false, NULL, NULL, NULL, NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-891a-8044-b1a3-239c9260530e', '2026-03-02', '019cadfd-891a-750f-88a8-37bbcc2ffadd', '019cadfd-8900-74ba-96f0-9f58ade475b3', 27, NULL, 0, 0, 0, '2026-03-02 10:00:10+00', '2026-03-02 10:00:05+00', false, NULL, NULL, NULL, NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-891b-89ec-b373-9a907fe707c4', '2026-03-02', '019cadfd-891b-7bd3-9485-3354771da355', '019cadfd-8900-75de-ad96-56b22aa54a3b', 28, NULL, 1, 0, 0, '2026-03-02 10:01:05+00', NULL, false, NULL, NULL, NULL, 'v1.cBMwo5xj.cP6FvJlx3D1AXQMegDDhTkW5Nh02bpsiTH38fU25F8nuKQffaHugwYVGqv8qtidZDGkKjjGJHUxROZLLV7XaquuH0yZD3H2Sp6MVS4kcrs4DS8XnmlzHey3ZCLhKHmNbEqHtOuBNlUjB0XTYNt3WucDmPa02qv74ni9M+QpFyvjsZ10PPVHKm7e8OQAwx4V6e4/TjqDJd9zg+AdCBWn7ZbbGqDrNpT+SUXnb++3oXcv2p6ciRKc82USd4A==');
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-891c-848f-98be-ef03b084eb3d', '2026-03-02', '019cadfd-891c-756a-b48d-3b847d99a427', '019cadfd-8900-72c3-9b86-c194768ff639', 29, NULL, 0, 0, 0, '2026-03-02 10:00:05+00', NULL, false, NULL, NULL, NULL, NULL);
INSERT INTO public.postrider_deliveries VALUES (0, '019cadfd-891e-8b1e-bdee-2404146c31b3', '2026-03-02', '019cadfd-891e-7f33-90a8-acc3b01009c4', '019cadfd-8900-7710-b915-9801a9492fa5', 31, NULL, 0, 0, 0, '2026-03-02 10:00:05+00', NULL, false, NULL, NULL, NULL, NULL);
INSERT INTO public.postrider_ended_20260302 VALUES (0, '2026-03-02', '019cadfd-8901-898a-bd4e-1c3ca56bb5af', '019cadfd-8901-712d-8279-8e7dd09935a2', '019cadfd-8900-7710-b915-9801a9492fa5', 'failed', 'exhausted', 1, '2026-03-02 10:00:00+00');
INSERT INTO public.postrider_ended_20260302 VALUES (0, '2026-03-02', '019cadfd-8903-8c26-a1cc-f91ab53fa63b', '019cadfd-8903-7936-92b2-3a41716900b0', '019cadfd-8900-7710-b915-9801a9492fa5', 'cancelled', 'discarded', 1, '2026-03-02 10:00:00+00');
INSERT INTO public.postrider_ended_20260302 VALUES (0, '2026-03-02', '019cadfd-890b-86ba-a0d6-8c2af6e28e52', '019cadfd-890b-76ad-8ab3-e9b95695e7a4', '019cadfd-8900-7436-aa02-9f28cc0a7700', 'failed', 'gone', 1, '2026-03-02 10:00:00+00');
INSERT INTO public.postrider_ended_20260302 VALUES (0, '2026-03-02', '019cadfd-890f-871e-9410-19f02f395afa', '019cadfd-890f-763e-90f5-a4cbe5c11703', '019cadfd-8900-72bd-8580-1ef016b674e5', 'failed', 'exhausted', 1, '2026-03-02 10:00:00+00');
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8900-7a60-9b35-7c13b0101000', 1, 'default', 'plain', '{"of":"plain"}', NULL, NULL, NULL, '2026-12-01 06:12:48.590082+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8901-712d-8279-8e7dd09935a2', 2, 'default', 'plain', '{"of":"plain"}', NULL, NULL, NULL, '2026-12-01 06:12:48.590082+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8902-74d0-a202-04366ecbc19c', 3, 'default', 'plain', '{"of":"plain"}', NULL, NULL, NULL, '2026-12-01 06:12:48.590082+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8903-7936-92b2-3a41716900b0', 4, 'default', 'plain', '{"of":"plain"}', NULL, NULL, NULL, '2026-12-01 06:12:48.590082+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8904-7a3e-a53e-ad285068a55b', 5, 'default', 'plain', '{"of":"plain"}', NULL, NULL, NULL, '2026-12-01 06:12:48.590082+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8905-768e-9e4b-1c9c367062fe', 6, 'default', 'plain', '{"of":"plain"}', NULL, NULL, NULL, '2026-12-01 06:12:48.590082+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8906-7465-ba79-34f4b9641f0c', 7, 'default', 'paused', '{"of":"paused"}', NULL, NULL, NULL, '2026-12-01 06:12:48.65459+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8907-7b9d-a42c-6cff4017948b', 8, 'default', 'paused', '{"of":"paused"}', NULL, NULL, NULL, '2026-12-01 06:12:48.65459+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8908-7c49-a3e2-929af045df92', 9, 'default', 'failing', '{"of":"failing"}', NULL, NULL, NULL, '2026-12-01 06:12:48.664102+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8909-7d5a-8cbc-cf2c932f6725', 10, 'default', 'failing', '{"of":"failing"}', NULL, NULL, NULL, '2026-12-01 06:12:48.664102+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-890a-70bf-ae4e-aa58f2b4aa5c', 11, 'default', 'failing', '{"of":"failing"}', NULL, NULL, NULL, '2026-12-01 06:12:48.664102+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-890b-76ad-8ab3-e9b95695e7a4', 12, 'default', 'gone', '{"of":"gone"}', NULL, NULL, NULL, '2026-12-01 06:12:48.686101+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-890c-7772-b444-6a16bf791680', 13, 'default', 'limited', '{"of":"limited"}', NULL, NULL, NULL, '2026-12-01 06:12:48.702085+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-890d-79f3-b3b2-ab6d25dbee2b', 14, 'default', 'limited', '{"of":"limited"}', NULL, NULL, NULL, '2026-12-01 06:12:48.702085+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-890e-7825-86ae-c141f42db87d', 15, 'default', 'limited', '{"of":"limited"}', NULL, NULL, NULL, '2026-12-01 06:12:48.702085+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-890f-763e-90f5-a4cbe5c11703', 16, 'default', 'ordered', '{"of":"ordered"}', 'a', NULL, NULL, '2026-12-01 06:12:48.728261+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8910-7e2c-8f8f-c66145e25578', 17, 'default', 'ordered', '{"of":"ordered"}', 'a', NULL, NULL, '2026-12-01 06:12:48.728261+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8911-7e67-900c-55a8bda4a4bd', 18, 'default', 'ordered', '{"of":"ordered"}', 'b', NULL, NULL, '2026-12-01 06:12:48.728261+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8912-763b-a75c-4c33d4c9100b', 19, 'default', 'ordered', '{"of":"ordered"}', 'b', NULL, NULL, '2026-12-01 06:12:48.728261+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8913-70f9-b55d-6760f52625d2', 20, 'default', 'ordered', '{"of":"ordered"}', 'c', NULL, NULL, '2026-12-01 06:12:48.728261+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8914-7a95-8b6b-04b82c3d4888', 21, 'default', 'ordered', '{"of":"ordered"}', 'c', NULL, NULL, '2026-12-01 06:12:48.728261+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8915-7c20-8d35-33b128dfc9ad', 22, 'default', 'ordered', '{"of":"ordered"}', NULL, NULL, NULL, '2026-12-01 06:12:48.728261+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8916-7e66-8544-74bb8ebe363c', 23, 'default', 'batched', '{"of":"batched"}', NULL, NULL, NULL, '2026-12-01 06:12:48.754444+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8917-7246-91a6-c480133001cc', 24, 'default', 'batched', '{"of":"batched"}', NULL, NULL, NULL, '2026-12-01 06:12:48.754444+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8918-763f-9ac7-857359ad7942', 25, 'default', 'batched', '{"of":"batched"}', NULL, NULL, NULL, '2026-12-01 06:12:48.754444+00', '2026-03-02 10:00:00+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-8919-76f1-8595-fbb5eb392b30', 26, 'default', 'batched', '{"of":"batched"}', NULL, NULL, NULL, '2026-12-01 06:12:48.773117+00', '2026-03-02 10:00:05+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-891a-750f-88a8-37bbcc2ffadd', 27, 'default', 'batched', '{"of":"batched"}', NULL, NULL, NULL, '2026-12-01 06:12:48.773117+00', '2026-03-02 10:00:05+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-891b-7bd3-9485-3354771da355', 28, 'acme ''ü''', 'kept', '{"of":"kept"}', NULL, NULL, NULL, '2026-12-01 06:12:48.779901+00', '2026-03-02 10:00:05+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-891c-756a-b48d-3b847d99a427', 29, 'default', 'removed', '{"of":"removed"}', NULL, NULL, NULL, '2026-12-01 06:12:48.793498+00', '2026-03-02 10:00:05+00', NULL);
INSERT INTO public.postrider_events_20260302 VALUES (0, '2026-03-02', '019cadfd-891e-7f33-90a8-acc3b01009c4', 31, 'default', 'plain', '{"of":"plain"}', NULL, 'once', NULL, '2026-12-01 06:12:48.826488+00', '2026-03-02 10:00:05+00', NULL);
INSERT INTO public.postrider_gates VALUES ('019cadfd-8900-725e-b05f-40fc59b24557', '019cadfd-8900-7db9-8d3e-48ac6c06270c', '2026-03-02 10:00:10+00');
INSERT INTO public.postrider_gates VALUES ('019cadfd-8900-72bd-8580-1ef016b674e5', '019cadfd-8900-7db9-8d3e-48ac6c06270c', '2026-03-02 10:00:10+00');
INSERT INTO public.postrider_gates VALUES ('019cadfd-8900-74ba-96f0-9f58ade475b3', '019cadfd-8900-7db9-8d3e-48ac6c06270c', '2026-03-02 10:00:15+00');
INSERT INTO public.postrider_hook_health VALUES ('019cadfd-8900-7710-b915-9801a9492fa5', 3, '2026-03-02 10:00:00.02+00', '2026-03-02 10:00:00.02+00', 'answered 500', NULL, NULL, NULL, 0, NULL);
INSERT INTO public.postrider_hook_health VALUES ('019cadfd-8900-765b-9ae8-e062627d1053', 2, '2026-03-02 10:00:00.02+00', '2026-03-02 10:00:00.02+00', 'answered 500', NULL, NULL, NULL, 0, '2026-03-02 10:00:00.02+00');
INSERT INTO public.postrider_hook_health VALUES ('019cadfd-8900-7436-aa02-9f28cc0a7700', 1, '2026-03-02 10:00:00.02+00', '2026-03-02 10:00:00.02+00', 'answered 410', NULL, NULL, NULL, 0, NULL);
INSERT INTO public.postrider_hook_health VALUES ('019cadfd-8900-725e-b05f-40fc59b24557', 1, '2026-03-02 10:00:00.02+00', '2026-03-02 10:00:00.02+00', 'answered 500', NULL, NULL, NULL, 0, NULL);
INSERT INTO public.postrider_hook_health VALUES ('019cadfd-8900-72bd-8580-1ef016b674e5', 2, '2026-03-02 10:00:00.02+00', '2026-03-02 10:00:00.02+00', 'answered 500', NULL, NULL, NULL, 0, NULL);
INSERT INTO public.postrider_hook_health VALUES ('019cadfd-8900-74ba-96f0-9f58ade475b3', 1, '2026-03-02 10:00:05.02+00', '2026-03-02 10:00:05.02+00', 'answered 500', NULL, NULL, NULL, 0, NULL);
INSERT INTO public.postrider_hook_health VALUES ('019cadfd-8900-75de-ad96-56b22aa54a3b', 1, '2026-03-02 10:00:05.02+00', '2026-03-02 10:00:05.02+00', 'answered 500', NULL, NULL, NULL, 0, NULL);
INSERT INTO public.postrider_hook_history OVERRIDING SYSTEM VALUE VALUES ('019cadfd-8900-7710-b915-9801a9492fa5', 1, '2026-03-02 10:00:00+00', 'created', 'test', NULL, 0, NULL, NULL);
INSERT INTO public.postrider_hook_history OVERRIDING SYSTEM VALUE VALUES ('019cadfd-8900-7cdf-b7fa-b6bcf3d1ef16', 2, '2026-03-02 10:00:00+00', 'created', 'test', NULL, 0, NULL, NULL);
INSERT INTO public.postrider_hook_history OVERRIDING SYSTEM VALUE VALUES ('019cadfd-8900-765b-9ae8-e062627d1053', 3, '2026-03-02 10:00:00+00', 'created', 'test', NULL, 0, NULL, NULL);
INSERT INTO public.postrider_hook_history OVERRIDING SYSTEM VALUE VALUES ('019cadfd-8900-7436-aa02-9f28cc0a7700', 4, '2026-03-02 10:00:00+00', 'created', 'test', NULL, 0, NULL, NULL);
INSERT INTO public.postrider_hook_history OVERRIDING SYSTEM VALUE VALUES ('019cadfd-8900-72c3-9b86-c194768ff639', 5, '2026-03-02 10:00:00+00', 'created', 'test', NULL, 0, NULL, NULL);
INSERT INTO public.postrider_hook_history OVERRIDING SYSTEM VALUE VALUES ('019cadfd-8900-725e-b05f-40fc59b24557', 6, '2026-03-02 10:00:00+00', 'created', 'test', NULL, 0, NULL, NULL);
INSERT INTO public.postrider_hook_history OVERRIDING SYSTEM VALUE VALUES ('019cadfd-8900-72bd-8580-1ef016b674e5', 7, '2026-03-02 10:00:00+00', 'created', 'test', NULL, 0, NULL, NULL);
INSERT INTO public.postrider_hook_history OVERRIDING SYSTEM VALUE VALUES ('019cadfd-8900-74ba-96f0-9f58ade475b3', 8, '2026-03-02 10:00:00+00', 'created', 'test', NULL, 0, NULL, NULL);
INSERT INTO public.postrider_hook_history OVERRIDING SYSTEM VALUE VALUES ('019cadfd-8900-75de-ad96-56b22aa54a3b', 9, '2026-03-02 10:00:00+00', 'created', 'test', NULL, 0, NULL, NULL);
INSERT INTO public.postrider_hook_history OVERRIDING SYSTEM VALUE VALUES ('019cadfd-8900-7cdf-b7fa-b6bcf3d1ef16', 10, '2026-03-02 10:00:00+00', 'paused', 'cli', NULL, 0, NULL, NULL);
INSERT INTO public.postrider_hook_history OVERRIDING SYSTEM VALUE VALUES ('019cadfd-8900-765b-9ae8-e062627d1053', 11, '2026-03-02 10:00:00+00', 'warned', 'postrider', NULL, 1, 'answered 500', NULL);
INSERT INTO public.postrider_hook_history OVERRIDING SYSTEM VALUE VALUES ('019cadfd-8900-765b-9ae8-e062627d1053', 12, '2026-03-02 10:00:00+00', 'disabled', 'postrider', 'failures', 2, 'answered 500', NULL);
INSERT INTO public.postrider_hook_history OVERRIDING SYSTEM VALUE VALUES ('019cadfd-8900-7436-aa02-9f28cc0a7700', 13, '2026-03-02 10:00:00+00', 'disabled', 'postrider', 'gone', 1, 'answered 410', NULL);
INSERT INTO public.postrider_hook_history OVERRIDING SYSTEM VALUE VALUES ('019cadfd-8900-75de-ad96-56b22aa54a3b', 14, '2026-03-02 10:00:05+00', 'changed', 'cli', 'url', 1, 'answered 500', NULL);
INSERT INTO public.postrider_hook_history OVERRIDING SYSTEM VALUE VALUES ('019cadfd-8900-72c3-9b86-c194768ff639', 15, '2026-03-02 10:00:05+00', 'removed', 'cli', NULL, 0, NULL, NULL);
INSERT INTO public.postrider_hooks VALUES ('019cadfd-8900-7710-b915-9801a9492fa5', NULL, 'default', 'https://receiver.example/hook', '{plain}', 'standard', 'active', NULL, NULL, NULL, '{"body":"envelope"}', false, false, 'v1.cBMwo5xj.oPCJqVqWi+TeQaOA9lhlb5UxzbgYxQijpeguAeWEOxamiz5tuwawPXWYMV6eULTXj2Jq+hrE6V2e7IwnvAIg5rs5WA3su+jJ+1lQ3MW1Iq/k3EbVIDamkNNV/tqMryp+V1W1OcR3o80pbujWOhu7gPzF5ooG', '2026-03-02 10:00:00+00', '2026-03-02 10:00:00+00', NULL, 1);
INSERT INTO public.postrider_hooks VALUES ('019cadfd-8900-725e-b05f-40fc59b24557', NULL, 'default', 'https://receiver.example/hook', '{limited}', 'standard', 'active', NULL, NULL, NULL, '{"body":"envelope","filter":"of == \"limited\"","in_flight":3,"rate":"20/s"}', true, false, 'v1.cBMwo5xj.MPXguiYQDXUTr74+Kctimgs49dW0YI1j/3svjeJJrHt/O8eaR84YVesIf80W6aYxuzzUXh8Tnap8gmuU+NAV2JLbi33KbKvPpR0kVGWUjbXdzZLeeVSIqNb6/ueybD0NJpQ1JtRtOSvMmr7RI5ZEyOkIHald', '2026-03-02 10:00:00+00', '2026-03-02 10:00:00+00', NULL, 6);
INSERT INTO public.postrider_hooks VALUES ('019cadfd-8900-72bd-8580-1ef016b674e5', NULL, 'default', 'https://receiver.example/hook', '{ordered}', 'standard', 'active', NULL, NULL, NULL, '{"body":"envelope","ordered":"key","on_failure":"hold"}', true, true, 'v1.cBMwo5xj.WHAfDIfcvOBBKloX+J1Y5k/Uzw6mMN+JmTRK8Qmv8C0M6Y6Ns+LUIeHUE5gKdko1GrEO5lFMSnVN7znfEuw3bAM0sJgjfGTEfLJpSAPUXYhMkFiGpLlu4u1wigqtfEESkZB34QTqJKpXqZ+soOx0Uc87b9fv', '2026-03-02 10:00:00+00', '2026-03-02 10:00:00+00', NULL, 7);
INSERT INTO public.postrider_hooks VALUES ('019cadfd-8900-74ba-96f0-9f58ade475b3', NULL, 'default', 'https://receiver.example/hook', '{batched}', 'standard', 'active', NULL, NULL, NULL, '{"body":"envelope"}', false, false, 'v1.cBMwo5xj.Bh8cWmyHJSUJpe9hgMGRCkzXvAxvJxjvZAtdnjfiqdIoV1gpO2RFSmTqYXpCRDjfKtxqOUGF4YPkIKQZ43D3bNQqFK04IH5v+sOdN6AyoZdVJROGNELAzKvCZkXLeYlN8GdZlpBl95V95xDoLCwYINpwKBPP', '2026-03-02 10:00:00+00', '2026-03-02 10:00:00+00', NULL, 8);
INSERT INTO public.postrider_hooks VALUES ('019cadfd-8900-7cdf-b7fa-b6bcf3d1ef16', NULL, 'default', 'https://receiver.example/hook', '{paused}', 'standard', 'paused', NULL, NULL, NULL, '{"body":"envelope"}', false, false, 'v1.cBMwo5xj.qkzHxBQe8J7oM72Ku3Ao69c6SIsaJK/nQP6DN26HuJ5OGpX//tmP1EBIQ6tQ1MlegsusG8psjnCkfE3z1bNekaVacb48MVt74co0hX0yBH9CX7n1scCHHF2hhwnHKgoMPDOdLzd5iPyzppPbF5yBVF1Qs+6i', '2026-03-02 10:00:00+00', '2026-03-02 10:00:00+00', NULL, 10);
INSERT INTO public.postrider_hooks VALUES ('019cadfd-8900-765b-9ae8-e062627d1053', NULL, 'default', 'https://receiver.example/hook', '{failing}', 'standard', 'disabled', 'failures', '2026-03-02 10:00:00+00', 'postrider', '{"body":"envelope"}', false, false, 'v1.cBMwo5xj.7gNRTrhc7kNZ83bVvWIRs3pxn18i9yHQAf/+x13is2Heti85yv2j7ojUDqexgpmyn7nY1JXmVoac6mVhXn/m4DYcUYgBfO4SfoA0ZOWIuL4JF59HvEL82h2pxwaNGOOr1AYYEABpdS+aAcvKguCT94KrYKQG', '2026-03-02 10:00:00+00', '2026-03-02 10:00:00+00', NULL, 11);
INSERT INTO public.postrider_hooks VALUES ('019cadfd-8900-7436-aa02-9f28cc0a7700', NULL, 'default', 'https://receiver.example/hook', '{gone}', 'standard', 'disabled', 'gone', '2026-03-02 10:00:00+00', 'postrider', '{"body":"envelope"}', false, false, 'v1.cBMwo5xj.6RmflrVQPocytKU6GwrC0iD/718GcUj7BuzEcEyQ96i7B/KLtr3jpGIeXn1KtSriltL/oXkE+jvEWk5/kp/62+drylp7L6yZAgz1AW/nscf68uIaMglE/p0CejFKKVj533fSSS+TdeGAZxPnLJ3lZV8S5nZX', '2026-03-02 10:00:00+00', '2026-03-02 10:00:00+00', NULL, 12);
INSERT INTO public.postrider_hooks VALUES ('019cadfd-8900-75de-ad96-56b22aa54a3b', '9abc', 'acme ''ü''', 'https://second.example/hook', '{kept}', 'misskey', 'active', NULL, NULL, NULL, '{"body":"envelope"}', false, false, 'v1.cBMwo5xj.uS/LftnDwj+WKmsmeNX/Z24vaus0rlVJhE1dzQERn24PPDOMvfWZJkHkOSI1fNQIYQcehI/9LEFnNKdBuei/bVDiM+LTIfz4mLiOPIzd0OUqcxPQKNeWoenekp011iLC18e4kgXOHyC71mtN6mXFlKcEJWhbOoERtSAPgE2tmhqEMIza2w==', '2026-03-02 10:00:00+00', '2026-03-02 10:00:05+00', NULL, 13);
INSERT INTO public.postrider_hooks VALUES ('019cadfd-8900-72c3-9b86-c194768ff639', NULL, 'default', 'https://receiver.example/hook', '{removed}', 'standard', 'active', NULL, NULL, NULL, '{"body":"envelope"}', false, false, 'v1.cBMwo5xj.HW9m3Zi88KPlGsYAB4UFS0SgkVUo5aakX1G3JbE0OWAffVaPo8DQPCYiIFoQtr7HwSzggHGbCwVR7LAV3Rc+CS1hlUwDJag3X3p1pVB8I7AJO0a/fDv1hTTU18v9AtWiIj2DHgGXHIgdHYJEiaC4R9OKwPkW', '2026-03-02 10:00:00+00', '2026-03-02 10:00:05+00', '2026-03-02 10:00:05+00', 14);
INSERT INTO public.postrider_idempotency VALUES ('019cadfd-9c88-7d8c-a01e-b1dc8f5c1af2', 'order 7', '\x0909090909090909090909090909090909090909090909090909090909090909', '{01a2303c-0253-7ef5-be6d-143fd7461dc0}', '2026-03-02 10:00:05+00');
INSERT INTO public.postrider_keys VALUES ('019cadfd-9c88-7d8c-a01e-b1dc8f5c1af2', NULL, 'publish', 'default', 'shop', '\x0707070707070707070707070707070707070707070707070707070707070707', NULL, NULL, true, true, true, true, true, '2026-03-02 10:00:05+00', NULL, NULL);
INSERT INTO public.postrider_keys VALUES ('019cadfd-9c88-71db-a0f7-4063ecba5f72', 'solapi', 'register', 'acme ''ü''', NULL, NULL, 'NCS', 'v1.cBMwo5xj.G5hrU6sFLTWuUBs4TsLjp8IgEcDQ5nXXV6XeoDhIc+vfil7Ph0eNgC9MSdrxLUDuUZPpb1TmL/px', true, true, true, true, true, '2026-03-02 10:00:05+00', NULL, NULL);
INSERT INTO public.postrider_leases VALUES (0, '019cadfd-8900-71af-86a0-0160c6cc1d82', '2026-03-02', '2026-03-02 10:01:00+00', 1, B'111110', '{019cadfd-8900-8abb-9dfc-7667724ce479,019cadfd-8901-898a-bd4e-1c3ca56bb5af,019cadfd-8902-8dd8-861e-47337747f94a,019cadfd-8903-8c26-a1cc-f91ab53fa63b,019cadfd-8904-82f0-a6dd-d5817bcc22c5,019cadfd-8905-88f5-a5d1-5a05c6a6250c}', '{019cadfd-8900-7a60-9b35-7c13b0101000,019cadfd-8901-712d-8279-8e7dd09935a2,019cadfd-8902-74d0-a202-04366ecbc19c,019cadfd-8903-7936-92b2-3a41716900b0,019cadfd-8904-7a3e-a53e-ad285068a55b,019cadfd-8905-768e-9e4b-1c9c367062fe}', '{019cadfd-8900-7710-b915-9801a9492fa5,019cadfd-8900-7710-b915-9801a9492fa5,019cadfd-8900-7710-b915-9801a9492fa5,019cadfd-8900-7710-b915-9801a9492fa5,019cadfd-8900-7710-b915-9801a9492fa5,019cadfd-8900-7710-b915-9801a9492fa5}');
INSERT INTO public.postrider_leases VALUES (0, '019cadfd-8900-7821-b83f-636faea010ad', '2026-03-02', '2026-03-02 10:01:00+00', 1, B'110', '{019cadfd-8908-8d0e-8fb4-7aa9bfd616eb,019cadfd-8909-8861-8fd2-a258c2b31579,019cadfd-890a-814d-b2da-e8233754ab37}', '{019cadfd-8908-7c49-a3e2-929af045df92,019cadfd-8909-7d5a-8cbc-cf2c932f6725,019cadfd-890a-70bf-ae4e-aa58f2b4aa5c}', '{019cadfd-8900-765b-9ae8-e062627d1053,019cadfd-8900-765b-9ae8-e062627d1053,019cadfd-8900-765b-9ae8-e062627d1053}');
INSERT INTO public.postrider_meta VALUES (true, 14, 1, 1, NULL, NULL, NULL, NULL);
INSERT INTO public.postrider_migrations VALUES (1, 'foundation', '2026-12-01 06:12:48.270809+00', true, '\x4c8d0e446c969b27eb600d7124f3a6838b5729fce8c1c50bbad5aa09a4600ac8621fc46171f796fbe2ebe1f2001ce40a', 43178910);
INSERT INTO public.postrider_outbox OVERRIDING SYSTEM VALUE VALUES (0, 32, '01a2303c-0253-7ef5-be6d-143fd7461dc0', 'default', 'plain', '{"of":"plain"}', NULL, NULL, NULL, NULL, NULL, '2026-12-01 06:12:48.844411+00', NULL);
INSERT INTO public.postrider_outbox OVERRIDING SYSTEM VALUE VALUES (0, 33, '019cadfd-891f-7abb-b838-64c1cce5dd5d', 'default', 'plain', '{"of":"plain"}', NULL, 'once', NULL, NULL, NULL, '2026-12-01 06:12:48.858091+00', NULL);
INSERT INTO public.postrider_outbox OVERRIDING SYSTEM VALUE VALUES (0, 34, '019cadfd-8920-7610-b221-f61d98e65b5e', 'default', 'plain', '{"of":"plain"}', NULL, NULL, '2026-03-02 11:00:05+00', NULL, '{"x-part":"1"}', '2026-12-01 06:12:48.858091+00', NULL);
INSERT INTO public.postrider_outbox OVERRIDING SYSTEM VALUE VALUES (0, 35, '019cadfd-8921-7ce2-bba9-c72acca21b04', 'default', 'ordered', '{"of":"ordered"}', 'b', NULL, NULL, NULL, NULL, '2026-12-01 06:12:48.858091+00', NULL);
INSERT INTO public.postrider_outbox OVERRIDING SYSTEM VALUE VALUES (0, 36, '019cadfd-8922-7f0f-b5c8-09541c8da0e9', 'default', 'paused', '{"of":"paused"}', NULL, NULL, NULL, NULL, NULL, '2026-12-01 06:12:48.858091+00', NULL);
INSERT INTO public.postrider_outbox OVERRIDING SYSTEM VALUE VALUES (0, 37, '019cadfd-8923-76de-99bf-03592dbdb44b', 'default', 'gone', '{"of":"gone"}', NULL, NULL, NULL, NULL, NULL, '2026-12-01 06:12:48.858091+00', NULL);
INSERT INTO public.postrider_rejected VALUES (0, '019cadfd-891d-7cd0-881d-120bbaf45e1c', 'the event type "not a type" has white space, a control character or a "*"; use names such as "invoice.paid"', '2026-03-02 10:00:05+00', 'default', 'not a type', '1', NULL, NULL, NULL, '2026-12-01 06:12:48.815997+00', NULL);
SELECT pg_catalog.setval('public.postrider_hook_history_number_seq', 15, true);
SELECT pg_catalog.setval('public.postrider_outbox_seq_seq', 37, true);
ALTER TABLE ONLY public.postrider_aliases
    ADD CONSTRAINT postrider_aliases_pkey PRIMARY KEY (profile);
ALTER TABLE ONLY public.postrider_attempts
    ADD CONSTRAINT postrider_attempts_pkey PRIMARY KEY (slot, day, delivery_id, id);
ALTER TABLE ONLY public.postrider_attempts_20260302
    ADD CONSTRAINT postrider_attempts_20260302_pkey PRIMARY KEY (slot, day, delivery_id, id);
ALTER TABLE ONLY public.postrider_attempts_20260303
    ADD CONSTRAINT postrider_attempts_20260303_pkey PRIMARY KEY (slot, day, delivery_id, id);
ALTER TABLE ONLY public.postrider_attempts_20260304
    ADD CONSTRAINT postrider_attempts_20260304_pkey PRIMARY KEY (slot, day, delivery_id, id);
ALTER TABLE ONLY public.postrider_attempts_20260305
    ADD CONSTRAINT postrider_attempts_20260305_pkey PRIMARY KEY (slot, day, delivery_id, id);
ALTER TABLE ONLY public.postrider_dedup
    ADD CONSTRAINT postrider_dedup_pkey PRIMARY KEY (slot, account, key);
ALTER TABLE ONLY public.postrider_deliveries
    ADD CONSTRAINT postrider_deliveries_pkey PRIMARY KEY (slot, id);
ALTER TABLE ONLY public.postrider_ended
    ADD CONSTRAINT postrider_ended_pkey PRIMARY KEY (slot, day, delivery_id);
ALTER TABLE ONLY public.postrider_ended_20260302
    ADD CONSTRAINT postrider_ended_20260302_pkey PRIMARY KEY (slot, day, delivery_id);
ALTER TABLE ONLY public.postrider_ended_20260303
    ADD CONSTRAINT postrider_ended_20260303_pkey PRIMARY KEY (slot, day, delivery_id);
ALTER TABLE ONLY public.postrider_ended_20260304
    ADD CONSTRAINT postrider_ended_20260304_pkey PRIMARY KEY (slot, day, delivery_id);
ALTER TABLE ONLY public.postrider_ended_20260305
    ADD CONSTRAINT postrider_ended_20260305_pkey PRIMARY KEY (slot, day, delivery_id);
ALTER TABLE ONLY public.postrider_events
    ADD CONSTRAINT postrider_events_pkey PRIMARY KEY (slot, day, id);
ALTER TABLE ONLY public.postrider_events_20260302
    ADD CONSTRAINT postrider_events_20260302_pkey PRIMARY KEY (slot, day, id);
ALTER TABLE ONLY public.postrider_events_20260303
    ADD CONSTRAINT postrider_events_20260303_pkey PRIMARY KEY (slot, day, id);
ALTER TABLE ONLY public.postrider_events_20260304
    ADD CONSTRAINT postrider_events_20260304_pkey PRIMARY KEY (slot, day, id);
ALTER TABLE ONLY public.postrider_events_20260305
    ADD CONSTRAINT postrider_events_20260305_pkey PRIMARY KEY (slot, day, id);
ALTER TABLE ONLY public.postrider_gates
    ADD CONSTRAINT postrider_gates_pkey PRIMARY KEY (hook_id);
ALTER TABLE ONLY public.postrider_gauges
    ADD CONSTRAINT postrider_gauges_pkey PRIMARY KEY (singleton);
ALTER TABLE ONLY public.postrider_hook_health
    ADD CONSTRAINT postrider_hook_health_pkey PRIMARY KEY (hook_id);
ALTER TABLE ONLY public.postrider_hook_history
    ADD CONSTRAINT postrider_hook_history_pkey PRIMARY KEY (hook_id, number);
ALTER TABLE ONLY public.postrider_hook_latest
    ADD CONSTRAINT postrider_hook_latest_pkey PRIMARY KEY (hook_id);
ALTER TABLE ONLY public.postrider_hooks
    ADD CONSTRAINT postrider_hooks_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.postrider_idempotency
    ADD CONSTRAINT postrider_idempotency_pkey PRIMARY KEY (caller, key);
ALTER TABLE ONLY public.postrider_keys
    ADD CONSTRAINT postrider_keys_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.postrider_leases
    ADD CONSTRAINT postrider_leases_pkey PRIMARY KEY (token, slot);
ALTER TABLE ONLY public.postrider_meta
    ADD CONSTRAINT postrider_meta_pkey PRIMARY KEY (singleton);
ALTER TABLE ONLY public.postrider_migrations
    ADD CONSTRAINT postrider_migrations_pkey PRIMARY KEY (version);
ALTER TABLE ONLY public.postrider_moves
    ADD CONSTRAINT postrider_moves_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.postrider_outbox
    ADD CONSTRAINT postrider_outbox_pkey PRIMARY KEY (slot, seq);
ALTER TABLE ONLY public.postrider_rejected
    ADD CONSTRAINT postrider_rejected_pkey PRIMARY KEY (slot, id);
ALTER TABLE ONLY public.postrider_signatures
    ADD CONSTRAINT postrider_signatures_pkey PRIMARY KEY (key_id, signature);
CREATE INDEX postrider_attempts_by_hook ON ONLY public.postrider_attempts USING btree (slot, hook_id, delivery_id) WHERE ((outcome = 'accepted'::text) AND (NOT late));
CREATE INDEX postrider_attempts_20260302_slot_hook_id_delivery_id_idx ON public.postrider_attempts_20260302 USING btree (slot, hook_id, delivery_id) WHERE ((outcome = 'accepted'::text) AND (NOT late));
CREATE INDEX postrider_attempts_20260303_slot_hook_id_delivery_id_idx ON public.postrider_attempts_20260303 USING btree (slot, hook_id, delivery_id) WHERE ((outcome = 'accepted'::text) AND (NOT late));
CREATE INDEX postrider_attempts_20260304_slot_hook_id_delivery_id_idx ON public.postrider_attempts_20260304 USING btree (slot, hook_id, delivery_id) WHERE ((outcome = 'accepted'::text) AND (NOT late));
CREATE INDEX postrider_attempts_20260305_slot_hook_id_delivery_id_idx ON public.postrider_attempts_20260305 USING btree (slot, hook_id, delivery_id) WHERE ((outcome = 'accepted'::text) AND (NOT late));
CREATE INDEX postrider_dedup_by_day ON public.postrider_dedup USING btree (slot, day);
CREATE INDEX postrider_deliveries_batched ON public.postrider_deliveries USING btree (slot, batch_id) WHERE (batch_id IS NOT NULL);
CREATE INDEX postrider_deliveries_keyed ON public.postrider_deliveries USING btree (slot, hook_id, ordering_key, event_seq) WHERE (ordering_key IS NOT NULL);
CREATE INDEX postrider_deliveries_keyed_leased ON public.postrider_deliveries USING btree (slot, hook_id, ordering_key) WHERE ((ordering_key IS NOT NULL) AND (lease_token IS NOT NULL));
CREATE INDEX postrider_deliveries_leased ON public.postrider_deliveries USING btree (slot, lease_expires_at) WHERE (lease_token IS NOT NULL);
CREATE INDEX postrider_deliveries_waiting ON public.postrider_deliveries USING btree (slot, hook_id, next_attempt_at) WHERE (lease_token IS NULL);
CREATE INDEX postrider_ended_by_hook ON ONLY public.postrider_ended USING btree (slot, hook_id, delivery_id);
CREATE INDEX postrider_ended_20260302_slot_hook_id_delivery_id_idx ON public.postrider_ended_20260302 USING btree (slot, hook_id, delivery_id);
CREATE INDEX postrider_ended_20260303_slot_hook_id_delivery_id_idx ON public.postrider_ended_20260303 USING btree (slot, hook_id, delivery_id);
CREATE INDEX postrider_ended_20260304_slot_hook_id_delivery_id_idx ON public.postrider_ended_20260304 USING btree (slot, hook_id, delivery_id);
CREATE INDEX postrider_ended_20260305_slot_hook_id_delivery_id_idx ON public.postrider_ended_20260305 USING btree (slot, hook_id, delivery_id);
CREATE INDEX postrider_hooks_by_account ON public.postrider_hooks USING btree (account, id);
CREATE UNIQUE INDEX postrider_hooks_by_alias ON public.postrider_hooks USING btree (profile, alias) WHERE (alias IS NOT NULL);
CREATE INDEX postrider_hooks_by_version ON public.postrider_hooks USING btree (version);
CREATE INDEX postrider_idempotency_by_time ON public.postrider_idempotency USING btree (created_at);
CREATE UNIQUE INDEX postrider_keys_by_hash ON public.postrider_keys USING btree (hash);
CREATE UNIQUE INDEX postrider_keys_by_public_id ON public.postrider_keys USING btree (system, public_id) WHERE ((public_id IS NOT NULL) AND (revoked_at IS NULL));
CREATE INDEX postrider_signatures_by_until ON public.postrider_signatures USING btree (until);
ALTER INDEX public.postrider_attempts_pkey ATTACH PARTITION public.postrider_attempts_20260302_pkey;
ALTER INDEX public.postrider_attempts_by_hook ATTACH PARTITION public.postrider_attempts_20260302_slot_hook_id_delivery_id_idx;
ALTER INDEX public.postrider_attempts_pkey ATTACH PARTITION public.postrider_attempts_20260303_pkey;
ALTER INDEX public.postrider_attempts_by_hook ATTACH PARTITION public.postrider_attempts_20260303_slot_hook_id_delivery_id_idx;
ALTER INDEX public.postrider_attempts_pkey ATTACH PARTITION public.postrider_attempts_20260304_pkey;
ALTER INDEX public.postrider_attempts_by_hook ATTACH PARTITION public.postrider_attempts_20260304_slot_hook_id_delivery_id_idx;
ALTER INDEX public.postrider_attempts_pkey ATTACH PARTITION public.postrider_attempts_20260305_pkey;
ALTER INDEX public.postrider_attempts_by_hook ATTACH PARTITION public.postrider_attempts_20260305_slot_hook_id_delivery_id_idx;
ALTER INDEX public.postrider_ended_pkey ATTACH PARTITION public.postrider_ended_20260302_pkey;
ALTER INDEX public.postrider_ended_by_hook ATTACH PARTITION public.postrider_ended_20260302_slot_hook_id_delivery_id_idx;
ALTER INDEX public.postrider_ended_pkey ATTACH PARTITION public.postrider_ended_20260303_pkey;
ALTER INDEX public.postrider_ended_by_hook ATTACH PARTITION public.postrider_ended_20260303_slot_hook_id_delivery_id_idx;
ALTER INDEX public.postrider_ended_pkey ATTACH PARTITION public.postrider_ended_20260304_pkey;
ALTER INDEX public.postrider_ended_by_hook ATTACH PARTITION public.postrider_ended_20260304_slot_hook_id_delivery_id_idx;
ALTER INDEX public.postrider_ended_pkey ATTACH PARTITION public.postrider_ended_20260305_pkey;
ALTER INDEX public.postrider_ended_by_hook ATTACH PARTITION public.postrider_ended_20260305_slot_hook_id_delivery_id_idx;
ALTER INDEX public.postrider_events_pkey ATTACH PARTITION public.postrider_events_20260302_pkey;
ALTER INDEX public.postrider_events_pkey ATTACH PARTITION public.postrider_events_20260303_pkey;
ALTER INDEX public.postrider_events_pkey ATTACH PARTITION public.postrider_events_20260304_pkey;
ALTER INDEX public.postrider_events_pkey ATTACH PARTITION public.postrider_events_20260305_pkey;
