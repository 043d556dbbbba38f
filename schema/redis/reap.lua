-- REAP: consumers with nothing pending leave the group; what is pending would leave with them.
-- KEYS: stream.  ARGV: group, ms of idleness it takes, and, to look at one alone, its name.
-- Answers how many have left; without a stream or group there is none.
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
local gone = 0
if consumers.err then
    return gone
end
for _, consumer in ipairs(consumers) do
    local is = {}
    for i = 1, #consumer, 2 do
        is[consumer[i]] = consumer[i + 1]
    end
    if is.pending == 0 and is.idle >= tonumber(ARGV[2]) and (not ARGV[3] or is.name == ARGV[3]) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], is.name)
        gone = gone + 1
    end
end
return gone
