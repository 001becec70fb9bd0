-- Times are microseconds since 1970, durations microseconds, goodput bytes per second. NULL is not known.

-- Ids of targets, as numbers.
CREATE TABLE targets(n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);

-- One round: everything about it and its exchanges, compressed (`codec.rs`).
CREATE TABLE rounds(n INTEGER PRIMARY KEY, target INTEGER NOT NULL REFERENCES targets, at INTEGER NOT NULL,
  record BLOB NOT NULL);

-- What charts and queries need of an exchange. `target` is whose comparison it serves; role 0 subject, 1 control,
-- 2 canary; flags 1 failed, 2 cut short, 4 fallback, 8 warmup; `verdict` is the one that stood after the round;
-- `id` is the first half of the exchange's id.
CREATE TABLE exchanges(target INTEGER NOT NULL REFERENCES targets, at INTEGER NOT NULL, round INTEGER NOT NULL,
  place INTEGER NOT NULL, id INTEGER NOT NULL, control INTEGER REFERENCES targets, role INTEGER NOT NULL,
  flags INTEGER NOT NULL, verdict INTEGER, goodput INTEGER,
  resolve INTEGER, connect INTEGER, tls INTEGER, processing INTEGER, transfer INTEGER,
  PRIMARY KEY(target, at, round, place)) WITHOUT ROWID;
CREATE INDEX exchanges_by_id ON exchanges(id);

-- Which targets a control served.
CREATE TABLE pairs(control INTEGER NOT NULL REFERENCES targets, subject INTEGER NOT NULL REFERENCES targets,
  PRIMARY KEY(control, subject)) WITHOUT ROWID;

-- The last good (0) and the last bad (1) exchange of a target. Their rounds outlast the others.
CREATE TABLE latest(target INTEGER NOT NULL REFERENCES targets, kind INTEGER NOT NULL, bulk INTEGER NOT NULL,
  round INTEGER NOT NULL, place INTEGER NOT NULL, PRIMARY KEY(target, kind)) WITHOUT ROWID;

CREATE TABLE incidents(id TEXT PRIMARY KEY, target INTEGER NOT NULL REFERENCES targets, onset INTEGER NOT NULL,
  ended INTEGER, record TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX incidents_by_onset ON incidents(onset);

-- What the engine remembers of a target, and what each detector does. A detector's last tests are rows, because one is
-- added with each round and hundreds stay.
CREATE TABLE memories(target INTEGER PRIMARY KEY REFERENCES targets, record TEXT NOT NULL);
CREATE TABLE detectors(target INTEGER NOT NULL REFERENCES targets, comparison TEXT NOT NULL, tests INTEGER NOT NULL,
  record TEXT NOT NULL, PRIMARY KEY(target, comparison)) WITHOUT ROWID;
CREATE TABLE tests(target INTEGER NOT NULL REFERENCES targets, comparison TEXT NOT NULL, n INTEGER NOT NULL,
  began INTEGER NOT NULL, ended INTEGER NOT NULL, affected REAL NOT NULL, e_value REAL NOT NULL,
  PRIMARY KEY(target, comparison, n)) WITHOUT ROWID;

-- What people are to be told. A message that is settled stays for a while, so that it is never sent again.
CREATE TABLE outbox(id TEXT PRIMARY KEY, at INTEGER NOT NULL, message TEXT NOT NULL, settled INTEGER) WITHOUT ROWID;

-- Starts of the daemon; between `seen` and the next `started` nothing was measured.
CREATE TABLE runs(n INTEGER PRIMARY KEY, started INTEGER NOT NULL, seen INTEGER NOT NULL, ended INTEGER NOT NULL);
