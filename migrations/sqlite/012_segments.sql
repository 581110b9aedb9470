-- The oldest audit entries, sealed some hundred at a time: compressed, and with what a search needs to know to
-- pass a block over. They leave `audit` in the transaction that puts them here.
CREATE TABLE audit_segments (
  first_seq INTEGER PRIMARY KEY,
  last_seq INTEGER NOT NULL,
  from_ms INTEGER NOT NULL,
  to_ms INTEGER NOT NULL,
  prev_hash BLOB NOT NULL,
  last_hash BLOB NOT NULL,
  raw_bytes INTEGER NOT NULL,
  packed_bytes INTEGER NOT NULL,
  -- Counts by operation, source, actor and hour, as JSON.
  summary TEXT NOT NULL,
  -- Four bytes of a hash for each tenant, in order.
  tenants BLOB NOT NULL,
  -- Of what follows: a decoder passes over some bits.
  packed_hash BLOB NOT NULL,
  packed BLOB NOT NULL
);

-- Which store this is, whatever becomes of its file: copies and restored ones are the same store.
INSERT OR IGNORE INTO facts (name, value) VALUES ('store_id', lower(hex(randomblob(16))));
