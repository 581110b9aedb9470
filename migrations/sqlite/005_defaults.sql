-- What a row was worked out from: its file's digest and that of the defaults below it, in one. Null
-- where there were none: then it is the file's digest.
ALTER TABLE schedules ADD COLUMN basis BLOB;

-- The last good content of each file that gives defaults.
CREATE TABLE defaults (
  path TEXT PRIMARY KEY,
  content BLOB NOT NULL
) WITHOUT ROWID;
