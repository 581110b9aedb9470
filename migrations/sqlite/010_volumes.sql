-- What a schedule's last complete readings brought, as JSON: so that a run's end needs no look at others.
ALTER TABLE timers ADD COLUMN volumes TEXT;
