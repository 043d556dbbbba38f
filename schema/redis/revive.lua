-- REVIVE: an entry of the dead stream goes back to where it came from, or leaves for good.
-- Answers 1, or 0 if it is not there (any more). What BURY added (its reason) is left behind.
-- KEYS: dead stream, stream it goes to.  ARGV: entry id, '1' to put it back or '0' to drop it.
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #found == 0 then
    return 0
end
if ARGV[2] == '1' then
    local fields = {}
    for i = 1, #found[1][2], 2 do
        if found[1][2][i] ~= 'reason' then
            fields[#fields + 1] = found[1][2][i]
            fields[#fields + 1] = found[1][2][i + 1]
        end
    end
    redis.call('XADD', KEYS[2], '*', unpack(fields))
end
redis.call('XDEL', KEYS[1], ARGV[1])
return 1
