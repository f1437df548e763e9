-- What the tests have in place of Citus: its functions, as far as the program calls them,
-- made of hash partitions of plain Postgres. A table becomes eight partitions with the
-- names that Citus gives to shards and their keys, and as there a unique key without the
-- distribution column is refused, and so is a foreign key to a table that is not copied.

CREATE TABLE pg_dist_partition (logicalrelid regclass PRIMARY KEY, partmethod char NOT NULL);
CREATE SCHEMA shard;

CREATE FUNCTION citus_version() RETURNS text LANGUAGE sql AS $$ SELECT 'hash partitions in the place of Citus' $$;

CREATE FUNCTION run_command_on_workers(command text) RETURNS text LANGUAGE sql AS $$ SELECT NULL::text $$;

CREATE FUNCTION create_reference_table(copied regclass) RETURNS void LANGUAGE sql AS $$
    INSERT INTO pg_dist_partition VALUES (copied, 'n')
$$;

CREATE FUNCTION create_distributed_table(spread regclass, by_column text, colocate_with text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name    text := (SELECT relname FROM pg_class WHERE oid = spread);
    shard   text;
    again   text[];
    views   text[];
    one     text;
    renamed record;
BEGIN
    IF colocate_with <> 'none' AND NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = colocate_with::regclass AND partmethod = 'h') THEN
        RAISE EXCEPTION 'relation % is not distributed', colocate_with;
    END IF;
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = spread AND NOT tgisinternal) AND current_setting('citus.enable_unsafe_triggers', true) IS DISTINCT FROM 'on' THEN
        RAISE EXCEPTION 'cannot distribute relation "%" because it has triggers', name;
    END IF;
    IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = spread AND contype = 'f') THEN
        RAISE EXCEPTION 'cannot create foreign key constraint since relations are not colocated or not referencing a reference table';
    END IF;
    again := ARRAY (SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = spread AND NOT tgisinternal);
    views := ARRAY (SELECT format('CREATE VIEW %s AS %s', c.oid::regclass, pg_get_viewdef(c.oid)) FROM pg_class c WHERE relnamespace = 'report'::regnamespace AND relkind = 'v' ORDER BY oid);
    SET LOCAL client_min_messages = warning;
    DROP SCHEMA report CASCADE;
    CREATE SCHEMA report;
    EXECUTE format('CREATE TABLE shard.%1$I (LIKE public.%1$I INCLUDING ALL) PARTITION BY HASH (%2$I)', name, by_column);
    FOR i IN 0..7 LOOP
        shard := name || '_' || 102008 + i;
        EXECUTE format('CREATE TABLE shard.%I PARTITION OF shard.%I FOR VALUES WITH (MODULUS 8, REMAINDER %s)', shard, name, i);
        FOR renamed IN SELECT conname FROM pg_constraint WHERE conrelid = format('shard.%I', shard)::regclass AND contype IN ('p', 'u') LOOP
            EXECUTE format('ALTER TABLE shard.%I RENAME CONSTRAINT %I TO %I', shard, renamed.conname, replace(renamed.conname, shard, name) || '_' || 102008 + i);
        END LOOP;
    END LOOP;
    EXECUTE format('INSERT INTO shard.%1$I OVERRIDING SYSTEM VALUE SELECT * FROM public.%1$I', name);
    EXECUTE format('DROP TABLE public.%I', name);
    EXECUTE format('ALTER TABLE shard.%I SET SCHEMA public', name);
    FOREACH one IN ARRAY again || views LOOP
        EXECUTE one;
    END LOOP;
    INSERT INTO pg_dist_partition VALUES (format('public.%I', name)::regclass, 'h');
END $$;
