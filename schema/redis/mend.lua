-- MEND: what was put off with half of it lost. An id without fields leaves, and is not known any
-- more, so that its row can be offered again; fields without an id are due now. Looks again itself,
-- so that what has mended meanwhile is left alone. Answers how many it mended.
-- KEYS: :z, :d.  ARGV: prefix of seen keys, then job ids.
local mended = 0
for i = 2, #ARGV do
    local due = redis.call('ZSCORE', KEYS[1], ARGV[i])
    local packed = redis.call('HEXISTS', KEYS[2], ARGV[i]) == 1
    if due and not packed then
        redis.call('ZREM', KEYS[1], ARGV[i])
        redis.call('DEL', ARGV[1] .. ARGV[i])
        mended = mended + 1
    elseif packed and not due then
        local now = redis.call('TIME')
        redis.call('ZADD', KEYS[1], string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000)), ARGV[i])
        mended = mended + 1
    end
end
return mended
