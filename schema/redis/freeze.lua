-- FREEZE: the other side has had enough: nobody calls for so long. Never shortens an earlier one.
-- KEYS: budget.  ARGV: us.  Answers us until it is frozen no more.
local now = redis.call('TIME')
local us = now[1] * 1000000 + now[2]
local kept = tonumber(redis.call('HGET', KEYS[1], 'f')) or 0
if kept - us > 604800000000 then -- beyond 7 days: of a clock that has been put back
    kept = 0
end
local frozen = math.max(us + ARGV[1], kept)
redis.call('HSET', KEYS[1], 'f', string.format('%.0f', frozen))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', 86400000 + math.ceil((frozen - us) / 1000)))
return {math.ceil(frozen - us)}
