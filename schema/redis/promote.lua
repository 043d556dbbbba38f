-- PROMOTE: what is due goes back to the stream.
-- KEYS: stream, :z, :d, ctl:<queue>.  ARGV: how many at most, prefix of seen keys ('' for events).
-- Answers {how many, ms until the next or -1, whether an operator holds the queue}.
local now = redis.call('TIME')
local ms = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ms, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(due) do
    local packed = redis.call('HGET', KEYS[3], id)
    redis.call('ZREM', KEYS[2], id)
    redis.call('HDEL', KEYS[3], id)
    if packed then
        local entry = redis.call('XADD', KEYS[1], '*', unpack(cmsgpack.unpack(packed)))
        if ARGV[2] ~= '' then
            redis.call('SET', ARGV[2] .. id, entry, 'XX')
        end
    end
end
local next = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local wait = -1
if #next > 0 then
    wait = math.max(0, next[2] - ms)
end
return {#due, wait, redis.call('GET', KEYS[4])}
