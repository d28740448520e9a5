-- Who was in which room in export periods that are over: what a held person could read then stays
-- held when audit_member begins anew.
CREATE TABLE audit_member_before (
    room_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (user_id, room_id)
);
