-- A job put in again by hand is as young as that: its age (MAX_AGE_HOURS) counts from here, while
-- created_at goes on telling when it came to be.
ALTER TABLE jobs ADD COLUMN requeued_at timestamptz;
