-- What retention classes meant when these lines were recorded: {"class": days, null for ever}; NULL
-- where there were none.
ALTER TABLE audit_lines ADD COLUMN keeps TEXT;
-- The classes of a segment's records as its manifest lists them; NULL for the default one alone.
ALTER TABLE audit_segment ADD COLUMN classes TEXT;
-- The classes of the records that speak of an attachment on a day, and for how many days each was
-- kept then (NULL for ever); what is of the default class stands in audit_object_day alone.
CREATE TABLE audit_object_class (
    place TEXT NOT NULL,
    id TEXT NOT NULL,
    stream TEXT NOT NULL,
    day INTEGER NOT NULL,
    class TEXT NOT NULL,
    keep_days INTEGER,
    PRIMARY KEY (place, id, stream, day, class)
);
