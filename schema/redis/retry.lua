-- RETRY: the owner puts an entry off. Answers 1, or 0 if it is not the owner (any more).
-- What frees memory comes first, so that it works at maxmemory.
-- KEYS: stream, :z, :d.  ARGV: group, consumer, entry id, delay in ms, then the fields to come back
-- with, of which the first is the job's id.
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
if pending.err or #pending == 0 or pending[1][2] ~= ARGV[2] then
    return 0
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
if redis.call('XDEL', KEYS[1], ARGV[3]) == 0 then
    return 0
end
local now = redis.call('TIME')
local due = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[4]
redis.call('HSET', KEYS[3], ARGV[6], cmsgpack.pack({unpack(ARGV, 5)}))
redis.call('ZADD', KEYS[2], string.format('%.0f', due), ARGV[6])
return 1
