-- RELEASE: the owner gives entries back unworked: others can read them at once, nothing is counted.
-- KEYS: stream.  ARGV: group, consumer, prefix of seen keys ('' for events), entry ids. Answers how
-- many were given back.
local released = 0
for i = 4, #ARGV do
    local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
    if not pending.err and #pending > 0 and pending[1][2] == ARGV[2] then
        local found = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])
        redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
        redis.call('XDEL', KEYS[1], ARGV[i])
        if #found > 0 then
            local entry = redis.call('XADD', KEYS[1], '*', unpack(found[1][2]))
            if ARGV[3] ~= '' then
                redis.call('SET', ARGV[3] .. found[1][2][2], entry, 'XX')
            end
            released = released + 1
        end
    end
end
return released
