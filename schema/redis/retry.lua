-- RETRY: the owner puts an entry off. Answers 1, or 0 if it is not the owner (any more).
-- What frees memory comes first, so that it works at maxmemory.
-- KEYS: stream, :z, :d.  ARGV: group, consumer, entry id, job id, delay in ms, new attempt count.
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
if pending.err or #pending == 0 or pending[1][2] ~= ARGV[2] then
    return 0
end
local found = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3])
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
redis.call('XDEL', KEYS[1], ARGV[3])
if #found == 0 then
    return 0
end
local fields = found[1][2]
for i = 1, #fields, 2 do
    if fields[i] == 'attempt' then
        fields[i + 1] = ARGV[6]
    end
end
local now = redis.call('TIME')
local due = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[5]
redis.call('HSET', KEYS[3], ARGV[4], cmsgpack.pack(fields))
redis.call('ZADD', KEYS[2], string.format('%.0f', due), ARGV[4])
return 1
