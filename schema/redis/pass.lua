-- PASS: the last look before a call whose moment was not at once, or is some time ago. Writes nothing.
-- KEYS: budget.  Answers as RESERVE: {1, 0}: go; {0, us until it is frozen no more, 1}.
local now = redis.call('TIME')
local us = now[1] * 1000000 + now[2]
local wait = (tonumber(redis.call('HGET', KEYS[1], 'f')) or 0) - us
if wait > 0 and wait <= 604800000000 then -- beyond 7 days: of a clock that has been put back
    return {0, math.ceil(wait), 1}
end
return {1, 0}
