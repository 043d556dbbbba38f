-- BEAT: prolongs the leases of entries this consumer owns, without counting a delivery.
-- Answers the ids it does not own (any more); without a stream or group (FLUSHALL), all of them.
-- KEYS: stream.  ARGV: group, consumer, entry ids.
local lost = {}
for i = 3, #ARGV do
    local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
    if pending.err or #pending == 0 or pending[1][2] ~= ARGV[2] then
        lost[#lost + 1] = ARGV[i]
    else
        redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
    end
end
return lost
