-- When a pause lifts by itself. While it stands, the schedule's timer waits for that moment.
ALTER TABLE schedules ADD COLUMN pause_until_ms INTEGER;

-- Steps that wait for a person, each as long as it does: what was held must not pass merely because
-- the program was started anew.
CREATE TABLE holds (
  schedule TEXT NOT NULL,
  action TEXT NOT NULL,
  reason TEXT NOT NULL,
  since_ms INTEGER NOT NULL,
  PRIMARY KEY (schedule, action)
) WITHOUT ROWID;

-- Held steps that a person has decided not to take, by the digest that names exactly these.
CREATE TABLE dismissals (
  digest TEXT PRIMARY KEY,
  reason TEXT NOT NULL,
  actor TEXT NOT NULL,
  at_ms INTEGER NOT NULL
) WITHOUT ROWID;
