-- PASS: the last look before a call, and its count.
-- KEYS: budget.  Answers us until it is frozen no more; 0: go.
local now = redis.call('TIME')
local us = now[1] * 1000000 + now[2]
local wait = (tonumber(redis.call('HGET', KEYS[1], 'f')) or 0) - us
if wait > 0 and wait <= 604800000000 then -- beyond 7 days: of a clock that has been put back
    return {math.ceil(wait)}
end
redis.call('HINCRBY', KEYS[1], 'n', 1)
redis.call('HSET', KEYS[1], 'c', string.format('%.0f', us))
redis.call('PEXPIRE', KEYS[1], 86400000)
return {0}
