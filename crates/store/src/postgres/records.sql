-- Texts sort as their bytes do. Values are sealed, which no compression makes smaller.
CREATE TABLE hearth.records (
    kind text COLLATE "C" NOT NULL,
    partition text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    change bigint NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (kind, partition, id)
);
ALTER TABLE hearth.records ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE SEQUENCE hearth.change;
