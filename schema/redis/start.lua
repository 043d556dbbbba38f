-- START: the owner of a reclaimed entry counts the delivery and gets its fields.
-- Answers {deliveries, fields}, or nil if it is not the owner (any more) or the entry is gone. An entry
-- that would be delivered for the ARGV[4]-th time has brought workers down, or ran beside one that did:
-- unless ARGV[5] is '1' (nothing else runs there) it is not started and not counted, and the answer is
-- {deliveries} alone.
-- (XREADGROUP counts a first delivery by itself; a claim with JUSTID does not.)
-- KEYS: stream.  ARGV: group, consumer, entry id, suspect from, alone.
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
if pending.err or #pending == 0 or pending[1][2] ~= ARGV[2] then
    return false
end
local deliveries = pending[1][4] + 1
if ARGV[5] ~= '1' and deliveries >= tonumber(ARGV[4]) then
    return {deliveries}
end
local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3])
if #claimed == 0 or not claimed[1] then
    return false
end
return {deliveries, claimed[1][2]}
