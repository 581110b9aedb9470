-- Records can be deleted: `purges` gives a resource a higher epoch, and a record of a lower one is
-- gone, whether or not its row has been removed yet. `reached` is the key up to which that has come.
ALTER TABLE records ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
-- When the content was last new; null in rows from before this column.
ALTER TABLE records ADD COLUMN changed_ms INTEGER;

CREATE TABLE purges (
  connector TEXT NOT NULL,
  tenant TEXT NOT NULL,
  resource TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  done INTEGER NOT NULL,
  reached TEXT,
  PRIMARY KEY (connector, tenant, resource)
) WITHOUT ROWID;
