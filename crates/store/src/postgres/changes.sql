-- Who wrote which key, for those who follow. `xid` says when it became visible, which a number cannot.
CREATE TABLE hearth.changes (
    number bigint NOT NULL,
    xid xid8 NOT NULL,
    at timestamptz NOT NULL,
    kind text COLLATE "C" NOT NULL,
    partition text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL
);
CREATE INDEX changes_number ON hearth.changes (number);
CREATE INDEX changes_xid ON hearth.changes (xid);

-- One batch. Verbs: 0 puts, 1 deletes, 2 checks. Expects: null anything, 0 absent, else the change that wrote it last.
CREATE FUNCTION hearth.commit(
    verbs smallint[], kinds text[], partitions text[], ids text[], expects bigint[], vals bytea[]
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    this bigint;
    known bigint;
BEGIN
    -- What is there is locked in one order, so that no two batches wait for each other.
    PERFORM FROM hearth.records r
        JOIN (SELECT DISTINCT * FROM unnest(kinds, partitions, ids) AS w (kind, partition, id)) w
            USING (kind, partition, id)
        ORDER BY r.kind, r.partition, r.id FOR UPDATE OF r;
    this := nextval('hearth.change');
    FOR i IN 1 .. cardinality(verbs) LOOP
        SELECT r.change INTO known FROM hearth.records r
            WHERE r.kind = kinds[i] AND r.partition = partitions[i] AND r.id = ids[i];
        IF expects[i] <> coalesce(known, 0) THEN
            RAISE EXCEPTION USING ERRCODE = 'HE001', MESSAGE = (i - 1)::text;
        END IF;
        IF verbs[i] = 0 THEN
            INSERT INTO hearth.records AS r VALUES (kinds[i], partitions[i], ids[i], this, vals[i])
                ON CONFLICT (kind, partition, id) DO UPDATE SET change = excluded.change, value = excluded.value
                -- Where it was absent a moment ago and had to be, another was faster.
                WHERE expects[i] IS DISTINCT FROM 0;
            IF NOT FOUND THEN
                RAISE EXCEPTION USING ERRCODE = 'HE001', MESSAGE = (i - 1)::text;
            END IF;
        ELSIF verbs[i] = 1 THEN
            DELETE FROM hearth.records r WHERE r.kind = kinds[i] AND r.partition = partitions[i] AND r.id = ids[i];
        END IF;
    END LOOP;
    INSERT INTO hearth.changes
        SELECT DISTINCT this, pg_current_xact_id(), now(), w.kind, w.partition, w.id
        FROM unnest(verbs, kinds, partitions, ids) AS w (verb, kind, partition, id) WHERE w.verb <> 2;
    -- Of one key a larger number is always later. Only where there was no row to lock can another with a larger one have
    -- come first: then this batch begins anew, with a number of its own time.
    IF EXISTS (
        SELECT FROM hearth.changes c JOIN unnest(kinds, partitions, ids) AS w (kind, partition, id)
            USING (kind, partition, id) WHERE c.number > this
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'serialization_failure', MESSAGE = 'a later change of the same record was faster';
    END IF;
    RETURN this;
END
$$;
