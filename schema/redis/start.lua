-- START: the owner of a reclaimed entry counts the delivery and gets its fields.
-- Answers {deliveries, fields}, or nil if it is not the owner (any more) or the entry is gone.
-- (XREADGROUP counts a first delivery by itself; a claim with JUSTID does not.)
-- KEYS: stream.  ARGV: group, consumer, entry id.
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
if pending.err or #pending == 0 or pending[1][2] ~= ARGV[2] then
    return false
end
local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3])
if #claimed == 0 or not claimed[1] then
    return false
end
return {pending[1][4] + 1, claimed[1][2]}
